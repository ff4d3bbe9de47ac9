"""One block of a run's RoIs, written as a part that ``merge`` joins to the others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from roicli.core.exceptions import ParameterError
from roicli.operators.interface import OperatorSpec
from roicli.pipeline import provenance
from roicli.pipeline.execute import Result, result_dtype, run_and_write
from roicli.pipeline.fingerprint import fingerprint
from roicli.pipeline.parts import parse_shard, rows_of_shard
from roicli.pipeline.request import RunRequest
from roicli.pipeline.run import Run, check_sampling
from roicli.storage.address import is_url
from roicli.storage.atomic import OUTPUT_FORMATS


def run_shard(run: Run, spec: OperatorSpec, output: str | None, request: RunRequest) -> Result:
    """Run the RoIs of one block alone; the result's table and features are the block's."""
    try:
        shard = parse_shard(str(request.shard))
        _check_part_output(output)
        check_whole(run, spec, request.values)
        rows = rows_of_shard(run.inputs.rois.batch_index, shard)
        parameters = describe_whole(run, spec, request)
        shard = replace(
            shard.of_rows(rows),
            attributes=provenance.flatten(parameters),
            fingerprint=shared_fingerprint(run, parameters, request),
        )
        block = replace(run, inputs=run.inputs.take(rows))
    except BaseException:
        run.inputs.close()
        raise
    return run_and_write(block, spec, output, request, shard)


def _check_part_output(output: str | None) -> None:
    ending = "" if output is None or is_url(output) else os.path.splitext(output)[1].lower()
    if OUTPUT_FORMATS.get(ending) != "hdf5":
        raise ParameterError(
            f"a part is written to an .h5 file, found output {output!r}",
            "give -o a name of its own for every part, like -o part-2.h5",
        )


def check_whole(run: Run, spec: OperatorSpec, with_values: bool) -> None:
    """Refuse what does not fit in memory with the rows' numbers in the whole."""
    check_sampling(run, spec)
    if with_values:
        check_sampling(run, replace(run.setting.align, mode="max"))


def describe_whole(run: Run, spec: OperatorSpec, request: RunRequest) -> dict[str, Any]:
    """The parameters of the whole result, as one machine would write them."""
    dtype = result_dtype(run, request)
    return provenance.describe_run(run, spec, dtype, run.result_shape(spec))


def shared_fingerprint(
    run: Run, parameters: Mapping[str, Any], request: RunRequest
) -> dict[str, str]:
    """What all shards of a result are made from."""
    return fingerprint(run, {**parameters, "values": request.values}, False)
