"""How fast a run is on the user's own files: providers in turn, medians, shares of the stages."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, cast

import numpy as np

from roicli.api import run_request
from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import ParameterError
from roicli.core.look_options import BenchOptions
from roicli.core.operator_table import Operator
from roicli.core.progress import StageTimes
from roicli.core.record import frozen
from roicli.core.types import check_word
from roicli.core.vocabulary import Provider
from roicli.pipeline.execute import Result
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.request import RunRequest
from roicli.storage.array import named_dtype

Options = Mapping[str, Any]


@frozen
class BenchRow:
    """One provider: seconds a run (median, 10th and 90th percentile), rates, shares of busy time.

    ``gb_per_s`` counts the maps read and the result written, in units of 10^9 bytes. Stages
    overlap; a share is a stage's busy time over that of all three.
    """

    provider: str
    operator: Operator
    runs: int
    rois: int
    median_s: float
    p10_s: float
    p90_s: float
    rois_per_s: float
    gb_per_s: float
    share_read: float
    share_run: float
    share_write: float


@record(BenchOptions)
class BenchRequest(RunRequest):
    """What was asked of ``bench``."""

    providers: tuple[str, ...]
    runs: int
    folder: str | None

    def __post_init__(self) -> None:
        for provider in self.providers:
            check_word("provider", provider, Provider)
        if self.runs < 1:
            raise ParameterError(f"runs is {self.runs}, expected at least 1")


def bench(
    operator: Operator,
    features: FeatureArgument,
    rois: FeatureArgument,
    **options: Unpack[BenchOptions],
) -> list[BenchRow]:
    """Time whole runs, inputs read and the result written to a temporary file in ``folder``.

    Providers take turns, after one run each that is not counted. ``options`` are those of the
    operator's own call. Raises RoicliError.
    """
    check_known("bench", options, BenchOptions)
    request = settle(BenchRequest, options)
    check_word("operator", operator, Operator)
    providers = request.providers
    if "-" in (features, rois):
        raise ParameterError("a benchmark reads its inputs again and again, so '-' cannot be one")
    seconds: dict[str, list[float]] = {provider: [] for provider in providers}
    stages = {provider: StageTimes() for provider in providers}
    result: Result | None = None
    with tempfile.TemporaryDirectory(prefix="roicli-bench-", dir=request.folder) as place:
        target = os.path.join(place, "result.h5")
        for turn in range(request.runs + 1):
            for provider in providers:
                times = StageTimes() if turn == 0 else stages[provider]
                started = time.perf_counter()
                chosen = replace(
                    request, provider=cast("Provider", provider), stage_times=times, force=True
                )
                result = run_request(operator, features, rois, target, chosen)
                if turn:
                    seconds[provider].append(time.perf_counter() - started)
    assert result is not None
    moved = _bytes_moved(result.parameters)
    return [
        _summarize(
            provider, operator, len(result.errors), moved, seconds[provider], stages[provider]
        )
        for provider in providers
    ]


def _bytes_moved(parameters: Options) -> int:
    """Maps read as they are stored, and the result written."""
    shapes = zip(parameters["features_shape"], parameters["features_dtype"], strict=True)
    read = sum(math.prod(shape) * _itemsize(name) for shape, name in shapes)
    return int(read + math.prod(parameters["result_shape"]) * _itemsize(parameters["dtype"]))


def _itemsize(dtype_name: str) -> int:
    return named_dtype(dtype_name).itemsize


def _summarize(
    provider: str,
    operator: Operator,
    rois: int,
    moved: int,
    seconds: Sequence[float],
    stages: StageTimes,
) -> BenchRow:
    p10, median, p90 = np.quantile(seconds, [0.1, 0.5, 0.9])
    busy = (stages.read + stages.run + stages.write) or 1.0
    return BenchRow(
        provider,
        operator,
        len(seconds),
        rois,
        float(median),
        float(p10),
        float(p90),
        rois / float(median),
        moved / float(median) / 1e9,
        stages.read / busy,
        stages.run / busy,
        stages.write / busy,
    )
