"""``align``, ``pool`` and ``errors`` on a Dask cluster: blocks of RoIs to tasks, parts to a result.

What travels are addresses and row numbers; maps are read and parts are written by the workers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from roicli import provenance
from roicli.block_task import BlockDone, BlockTask, Job, run_block
from roicli.cluster.connection import Cluster, connect, parse_local
from roicli.cluster.scheduling import run_tasks
from roicli.columns import VALUE_COLUMNS, record_dtype
from roicli.datatypes import Array, IntArray, OperatorSpec
from roicli.exceptions import ParameterError
from roicli.features import FeatureArgument, resolve_addresses
from roicli.merging import merge
from roicli.opened_run import Run, open_run, silent
from roicli.parsing import parse_names
from roicli.parts import cut_into_blocks, order_by_image
from roicli.running import Result, check_outputs, no_progress, write_errors
from roicli.settings import Note
from roicli.shard_run import check_whole, describe_part, describe_whole
from roicli.storage.address import Address, is_url, parse_address, path_from_root
from roicli.storage.output import OUTPUT_FORMATS, replace_atomically
from roicli.storage.parts_folder import PartsFolder, open_parts
from roicli.storage.places import check_place
from roicli.storage.result_file import STDOUT
from roicli.storage.virtual_result import VirtualPart, write_virtual
from roicli.verification import Verification, join_verifications
from roicli.vocabulary import Provider

# Enough blocks that no worker waits long for the last one, and none that is lost costs much.
BLOCKS_A_THREAD = 4
LARGEST_PART_BYTES = 512 << 20
# A virtual dataset takes 32 bytes and some microseconds for each piece of neighbouring rows.
MOST_RUNS = 2_000_000
# Options that are settled here, or that a task has its own of.
SETTLED = (
    "dask", "shard", "resume", "verify_inputs", "force", "note", "progress", "stage_times",
    "errors_out", "levels", "graph",
)  # fmt: skip


def run_on_cluster(
    operator: str,
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    output: str | None,
    options: Mapping[str, Any],
) -> Result:
    """As ``align``, ``pool`` or ``errors``, with the blocks of the RoIs run on a cluster."""
    note: Note = options.get("note", silent)
    _check_arguments(operator, features, rois, output, options)
    with ExitStack() as stack:
        cluster: Cluster | None = None

        def choose(asked: Provider, note: Note, device_id: int) -> Provider:
            """The inputs are fine: now ask the workers what they have."""
            nonlocal cluster
            cluster = stack.enter_context(connect(str(options["dask"]), note))
            return cluster.choose_provider(asked, note, device_id)

        run = open_run(operator, features, rois, options, choose=choose)
        stack.callback(run.inputs.close)
        assert cluster is not None
        check_outputs(run.inputs, output, options)  # type: ignore[arg-type]
        if operator == "errors":
            return _run_errors(cluster, run, features, rois, options)
        spec = run.setting.pool if operator == "pool" else run.setting.align
        check_whole(run, spec, options)
        assert output is not None
        keep = bool(options.get("resume"))
        folder = stack.enter_context(open_parts(output, keep, bool(options.get("force")), note))
        return _run_operator(cluster, run, spec, folder, (features, rois), options)


def _check_arguments(
    operator: str, features: Any, rois: Any, output: str | None, options: Mapping[str, Any]
) -> None:
    """Refuse what a cluster cannot do, before it is asked."""
    parse_local(options["dask"])
    for name, value in (("features", features), ("rois", rois), ("level_from",
                        options.get("level_from"))):  # fmt: skip
        if value is not None and not isinstance(value, str | os.PathLike):
            raise ParameterError(f"--dask: {name} are an array, expected an address", "save it")
        if value is not None and os.fspath(value) == STDOUT:
            raise ParameterError(f"--dask: {name} come from stdin, which workers cannot read",
                                 "give a file")  # fmt: skip
    if options.get("shard") is not None:
        raise ParameterError("--shard and --dask both share the work", "give one of them")
    if options.get("verify_inputs"):
        raise ParameterError("--verify-inputs does not go with --dask")
    if operator == "errors":
        return
    if output in (None, STDOUT) or is_url(str(output)):
        raise ParameterError(
            f"--dask writes parts beside a file, found output {output!r}", "give -o a file"
        )
    check_place(str(output), [], bool(options.get("force")))


def _run_operator(
    cluster: Cluster,
    run: Run,
    spec: OperatorSpec,
    folder: PartsFolder,
    inputs: tuple[Any, Any],
    options: Mapping[str, Any],
) -> Result:
    """Every block to a part, then the parts to the result."""
    parameters = describe_whole(run, spec, options)  # type: ignore[arg-type]
    shape, dtype = tuple(parameters["result_shape"]), np.dtype(parameters["dtype"])
    label = describe_part(run, parameters, options, "", np.empty(0, np.int64))  # type: ignore[arg-type]
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    wanted = _count_blocks(len(run.inputs.rois), row_bytes, cluster.threads())
    keep, force = bool(options.get("resume")), bool(options.get("force"))
    folder.begin(wanted, label.fingerprint, keep, force)
    job = replace(
        _make_job(cluster, run, *inputs, options),
        attributes=label.attributes,
        fingerprint=label.fingerprint,
        plan_path=os.path.abspath(folder.plan_path),
    )
    blocks = plan_blocks(run.inputs.rois.batch_index, folder.count)
    tasks = [
        replace(task, path=os.path.abspath(folder.part_path(number)))
        for number, task in enumerate(make_tasks(job, blocks), 1)
    ]
    verified = _run_tasks(cluster, run, tasks, blocks, row_bytes, options)
    run.inputs.check_unchanged()
    _join(run, folder, blocks, shape, dtype, label.attributes, force, options)
    table = run.error_table()
    write_errors(table, parameters, options)
    verification = join_verifications(verified) if verified else None
    if verification:
        options.get("note", silent)(str(verification))
    return Result(run.operator, table, parameters, None, folder.target, verification)


def _run_errors(
    cluster: Cluster,
    run: Run,
    features: Any,
    rois: Any,
    options: Mapping[str, Any],
) -> Result:
    """The value columns of every block, gathered here."""
    check_whole(run, run.setting.align, {"values": True})
    job = _make_job(cluster, run, features, rois, options)
    blocks = plan_blocks(
        run.inputs.rois.batch_index, _count_blocks(len(run.inputs.rois), 0, cluster.threads())
    )
    _run_tasks(cluster, run, make_tasks(job, blocks), blocks, 0, {**options, "values": True})
    run.inputs.check_unchanged()
    parameters = provenance.describe_run(run, None, run.pyramid.compute_dtype)
    table = run.error_table()
    write_errors(table, parameters, options)
    return Result("errors", table, parameters)


def _count_blocks(rois: int, row_bytes: int, threads: int) -> int:
    """Several for every thread, and none whose part is larger than it should be."""
    wanted = max(BLOCKS_A_THREAD * threads, math.ceil(rois * row_bytes / LARGEST_PART_BYTES))
    return max(1, min(wanted, rois))


def plan_blocks(batch_index: IntArray, count: int) -> list[IntArray]:
    """The rows of each block, ascending; blocks without a RoI stay, so that numbers do not move."""
    order = order_by_image(batch_index)
    cuts = cut_into_blocks(batch_index[order], count).tolist()
    return [np.sort(order[cuts[n] : cuts[n + 1]]) for n in range(count)]


def make_tasks(job: Job, blocks: Sequence[IntArray]) -> list[BlockTask]:
    """One task for each block; rows that stand together travel as two numbers."""
    tasks = []
    for number, rows in enumerate(blocks, 1):
        first, stop = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        scattered = rows if stop - first != len(rows) else None
        tasks.append(BlockTask(job, f"{number}/{len(blocks)}", first, stop, scattered))
    return tasks


def _make_job(
    cluster: Cluster, run: Run, features: Any, rois: Any, options: Mapping[str, Any]
) -> Job:
    """What tasks share; addresses from the root, because workers stand somewhere else."""
    given = {k: v for k, v in options.items() if k not in SETTLED and v is not None}
    names = options.get("levels") or ()
    names = parse_names(names) if isinstance(names, str) else tuple(names)
    given["spatial_scale"] = [level.spatial_scale for level in run.pyramid.levels]
    given["provider"] = run.engine.provider
    given.setdefault("threads", cluster.threads_a_task())
    if options.get("level_from") is not None:
        given["level_from"] = _from_root(parse_address(options["level_from"]))
    if options.get("graph") is not None:
        path, separator, node = os.fspath(options["graph"]).partition("::")
        given["graph"] = f"{os.path.abspath(path)}{separator}{node}"
    addresses = [_from_root(address) for address in resolve_addresses(features, names)]
    files = {path_from_root(path): state for path, state in run.inputs.files.items()}
    return Job(
        run.operator, ",".join(addresses), _from_root(parse_address(rois)), given, files,
        cluster.versions,
    )  # fmt: skip


def _from_root(address: Address) -> str:
    return str(replace(address, path=path_from_root(address.path)))


def _run_tasks(
    cluster: Cluster,
    run: Run,
    tasks: Sequence[BlockTask],
    blocks: Sequence[IntArray],
    row_bytes: int,
    options: Mapping[str, Any],
) -> list[Verification]:
    """Run every block, keep what it measured, tell how far it is; gives what was verified."""
    progress, total = options.get("progress", no_progress), len(run.inputs.rois)
    done = size = kept = 0
    verified = []
    if options.get("values"):
        run.value_columns = {c.name: np.full(total, np.nan) for c in VALUE_COLUMNS}

    def receive(number: int, found: BlockDone) -> None:
        nonlocal done, size, kept
        rows = blocks[number]
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
        options.get("note", silent)(f"{kept:,} of {len(tasks):,} parts were there and whole")
    return verified


def _count_runs(blocks: Sequence[IntArray]) -> int:
    """How many pieces of neighbouring rows the blocks have together."""
    return sum(1 + int(np.count_nonzero(np.diff(rows) != 1)) for rows in blocks)


def _join(
    run: Run,
    folder: PartsFolder,
    blocks: Sequence[IntArray],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    attributes: Mapping[str, Any],
    force: bool,
    options: Mapping[str, Any],
) -> None:
    """An HDF5 file stands on the parts; an .npy file or a Zarr store holds their rows.

    So does an HDF5 file without RoIs, and one whose RoIs are strewn over the parts so finely that a
    virtual dataset would take long to open.
    """
    is_hdf5 = OUTPUT_FORMATS[os.path.splitext(folder.target)[1].lower()] == "hdf5"
    if not is_hdf5 or shape[0] == 0 or _count_runs(blocks) > MOST_RUNS:
        paths = [folder.part_path(number + 1) for number in range(len(blocks))]
        merge(paths, folder.target, force=force, compression=options.get("compression", "none"))
        return
    rois_dtype = np.result_type(run.inputs.rois_dtype, np.float32)
    count = shape[0]
    datasets: dict[str, Any] = {
        "roi_features": (shape, dtype),
        "rois": ((count, 5), rois_dtype),
        "quantization_error": ((count,), record_dtype(run.error_table().columns)),
    }
    parts = [
        VirtualPart(folder.part_name(number), rows)
        for number, rows in enumerate(blocks, 1)
        if len(rows)
    ]
    with folder.publish(), replace_atomically(folder.target, force) as temporary:
        write_virtual(temporary, folder.target, datasets, parts, attributes)
