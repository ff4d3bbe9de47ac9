"""``align``, ``pool`` and ``errors`` on a Dask cluster: blocks of RoIs to tasks, parts to a result.

What travels are addresses and row numbers; maps are read and parts are written by the workers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.progress import no_progress
from roicli.core.vocabulary import Provider
from roicli.error_table.columns import VALUE_COLUMNS
from roicli.pipeline import provenance
from roicli.pipeline.cluster.connection import Cluster, connect, parse_local
from roicli.pipeline.cluster.result import Whole, WholeResult, count_blocks, open_whole
from roicli.pipeline.cluster.task import BlockDone, BlockTask, Job, run_block
from roicli.pipeline.cluster.tasks import run_tasks
from roicli.pipeline.execute import Result, check_outputs, open_errors_file, write_errors
from roicli.pipeline.features import FeatureArgument, resolve_addresses
from roicli.pipeline.image_from import ImageSource, parse_image_from
from roicli.pipeline.parts import split_rows
from roicli.pipeline.request import RunRequest
from roicli.pipeline.run import Run, open_run
from roicli.pipeline.shards import check_whole
from roicli.pipeline.verify import Verification, join_verifications
from roicli.storage.address import Address, parse_address, path_from_root
from roicli.storage.result import STDOUT, check_place
from roicli.storage.shard import Shard

logger = logging.getLogger("roicli")


def run_on_cluster(
    operator: str,
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | None,
    request: RunRequest,
) -> Result:
    """As ``align``, ``pool`` or ``errors``, with the blocks of the RoIs run on a cluster."""
    _check_arguments(operator, features, rois, output, request)
    with ExitStack() as stack:
        cluster: Cluster | None = None

        def choose(asked: Provider, device_id: int) -> Provider:
            """The inputs are fine: now ask the workers what they have."""
            nonlocal cluster
            cluster = stack.enter_context(connect(str(request.dask)))
            return cluster.choose_provider(asked, device_id)

        run = open_run(operator, features, rois, request, choose=choose)
        stack.callback(run.inputs.close)
        assert cluster is not None
        check_outputs(run.inputs, output, request)
        if operator == "errors":
            return _run_errors(cluster, run, features, rois, request)
        spec = run.spec
        check_whole(run, spec, request.values)
        assert output is not None
        whole, result = stack.enter_context(open_whole(run, spec, output, request))
        return _run_operator(cluster, run, result, whole, (features, rois), request)


def _check_arguments(
    operator: str, features: Any, rois: Any, output: str | None, request: RunRequest
) -> None:
    """Refuse what a cluster cannot do, before it is asked."""
    parse_local(str(request.dask))
    addresses = {
        "features": features,
        "rois": rois,
        "level_from": request.level_from,
        "offsets": request.offsets,
    }
    if request.image_from is not None:
        arrays = parse_image_from(request.image_from).arrays
        addresses |= {f"image_from[{number}]": one for number, one in enumerate(arrays)}
    if not isinstance(request.roi_scale, tuple):
        addresses["roi_scale"] = request.roi_scale
    for name, value in addresses.items():
        if value is not None and not isinstance(value, str | os.PathLike):
            raise ParameterError(f"--dask: {name} are an array, expected an address", "save it")
        if value is not None and os.fspath(value) == STDOUT:
            raise ParameterError(f"--dask: {name} come from stdin, which workers cannot read",
                                 "give a file")  # fmt: skip
    if request.shard is not None:
        raise ParameterError("--shard and --dask both share the work", "give one of them")
    if request.verify_inputs:
        raise ParameterError("--verify-inputs does not go with --dask")
    if operator == "errors":
        return
    if output in (None, STDOUT):
        raise ParameterError(
            f"--dask writes to shared storage, found output {output!r}",
            "give -o a file, or the URL of a Zarr store",
        )
    check_place(str(output), [], request.force)


def _run_operator(
    cluster: Cluster,
    run: Run,
    result: WholeResult,
    whole: Whole,
    inputs: tuple[Any, Any],
    request: RunRequest,
) -> Result:
    """Every block to a part, then the parts to the result."""
    shards = result.begin(cluster.threads())
    job = _make_job(cluster, run, *inputs, request)
    tasks = make_tasks(replace(job, destination=result.destination()), shards)
    verified = _run_tasks(cluster, run, tasks, whole.row_bytes, request)
    run.inputs.check_unchanged()
    table = run.error_table()
    with open_errors_file(request) as errors_file:
        errors_file.write(table, whole.parameters)
        result.publish(shards, errors_file.check)
    verification = join_verifications(verified) if verified else None
    if verification:
        logger.info(str(verification))
    return Result(run.operator, table, whole.parameters, None, result.target, verification)


def _run_errors(
    cluster: Cluster,
    run: Run,
    features: Any,
    rois: Any,
    request: RunRequest,
) -> Result:
    """The value columns of every block, gathered here."""
    check_whole(run, run.setting.align, with_values=True)
    job = _make_job(cluster, run, features, rois, request)
    batch_index = run.inputs.rois.batch_index
    blocks = split_rows(batch_index, count_blocks(len(batch_index), cluster.threads()))
    shards = [Shard(n, len(blocks)).of_rows(rows) for n, rows in enumerate(blocks, 1)]
    _run_tasks(cluster, run, make_tasks(job, shards), 0, replace(request, values=True))
    run.inputs.check_unchanged()
    parameters = provenance.describe_run(run, None, run.pyramid.compute_dtype)
    table = run.error_table()
    write_errors(table, parameters, request)
    return Result("errors", table, parameters)


def make_tasks(job: Job, shards: Sequence[Shard]) -> list[BlockTask]:
    """A task for each shard."""
    return [BlockTask(job, shard) for shard in shards]


def _make_job(cluster: Cluster, run: Run, features: Any, rois: Any, request: RunRequest) -> Job:
    """What tasks share; addresses from the root, because workers stand somewhere else."""
    level_from, graph, roi_scale = request.level_from, request.graph, request.roi_scale
    offsets = request.offsets
    if isinstance(level_from, str | os.PathLike):
        level_from = _from_root(parse_address(level_from))
    if isinstance(offsets, str | os.PathLike):
        offsets = _from_root(parse_address(offsets))
    # What all RoIs said of sizes beside the maps, a block of them need not say.
    roi_scale = run.inputs.roi_scale_given if roi_scale is None else roi_scale
    if isinstance(roi_scale, str | os.PathLike):
        roi_scale = _from_root(parse_address(roi_scale))
    if graph is not None:
        path, separator, node = graph.partition("::")
        graph = f"{os.path.abspath(path)}{separator}{node}"
    takes_size = request.still_needs_image_size or "image_size" in run.spec.defaults()
    addresses = [
        _from_root(address) for address in resolve_addresses(features, request.levels or ())
    ]
    of_a_block = replace(
        request,
        levels=None,  # they are in the addresses
        level_from=level_from,
        offsets=offsets,
        image_from=_image_from_root(request.image_from),
        images=_list_from_root(request.images),
        roi_scale=roi_scale,
        image_size=request.image_size if takes_size else None,
        graph=graph,
        spatial_scale=tuple(level.spatial_scale for level in run.pyramid.levels),
        provider=run.engine.provider,
        threads=request.threads or cluster.threads_a_task(),
        # What is settled here, or what a task has its own of.
        dask=None,
        shard=None,
        resume=False,
        verify_inputs=False,
        force=False,
        errors_out=None,
        group_by=None,
        table_columns=(),
        progress=no_progress,
        stage_times=None,
    )
    files = {path_from_root(path): state for path, state in run.inputs.files.items()}
    return Job(
        run.operator, ",".join(addresses), _from_root(parse_address(rois)), of_a_block, files,
        cluster.versions,
    )  # fmt: skip


def _image_from_root(given: Any) -> ImageSource | None:
    """``--image-from`` as every worker finds it."""
    if given is None:
        return None
    source = parse_image_from(given)
    return replace(source, arrays=tuple(_from_root(parse_address(one)) for one in source.arrays))


def _list_from_root(given: Any) -> Any:
    """``--images`` as every worker finds it: a file by its whole path, keys as they are."""
    if not isinstance(given, str | os.PathLike):
        return given
    path = parse_address(given).path
    return _from_root(parse_address(given)) if os.path.exists(path) else given


def _from_root(address: Address) -> str:
    return str(replace(address, path=path_from_root(address.path)))


def _run_tasks(
    cluster: Cluster,
    run: Run,
    tasks: Sequence[BlockTask],
    row_bytes: int,
    request: RunRequest,
) -> list[Verification]:
    """Run every block, keep what it measured, tell how far it is; gives what was verified."""
    progress, total = request.progress, len(run.inputs.rois)
    done = size = kept = 0
    verified = []
    if request.values:
        run.value_columns = {c.name: np.full(total, np.nan) for c in VALUE_COLUMNS}

    def receive(number: int, found: BlockDone) -> None:
        nonlocal done, size, kept
        rows = tasks[number].shard.rows
        for name, column in run.value_columns.items():
            column[rows] = found.values[name]
        done += len(rows)
        kept += found.kept
        if found.verification is not None:
            verified.append(found.verification)
        size += 0 if found.kept else len(rows) * row_bytes

    progress(0, total, 0)
    run_tasks(cluster, run_block, tasks, receive, lambda: progress(done, total, size))
    if kept:
        logger.info(f"{kept:,} of {len(tasks):,} parts were there and whole")
    return verified
