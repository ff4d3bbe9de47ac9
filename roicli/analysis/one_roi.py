"""One RoI of a run on its own map, read and checked: what explanations and pictures start from."""

from __future__ import annotations

import os
from typing import cast

import numpy as np

from roicli.core.exceptions import InputError, ParameterError
from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray, IntArray, RoIs, Size
from roicli.core.vocabulary import PixelModel
from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.pipeline.features import FeatureArgument, MapBuffer
from roicli.pipeline.request import RunRequest
from roicli.pipeline.run import Run, open_run
from roicli.pipeline.stream import Engine
from roicli.pipeline.validation import check_sampling_memory
from roicli.storage.exchange import open_object
from roicli.storage.roi_columns import ANGLE_NAMES, plain_name


@frozen
class RoiOnMap:
    """One RoI: its number among the run's, its map (C, H, W) in the operators' dtype, its specs."""

    index: int
    rois: RoIs
    level: int | None
    feature_map: FloatArray
    spec: OperatorSpec
    align: AlignSpec
    pool: PoolSpec
    pixel_model: PixelModel
    engine: Engine
    features_name: str
    rois_name: str
    result_shape: tuple[int, ...]
    files: list[str]

    def run(self, spec: OperatorSpec) -> FloatArray:
        """(C, P_h, P_w): what the operator gives for this RoI, by really running it."""
        runner = self.engine.build_runner(spec, self.feature_map.dtype)
        channels = spec.output_channels(len(self.feature_map))
        out = np.empty((1, channels, *spec.output_size), self.feature_map.dtype)
        runner.load(self.feature_map)
        runner.run(spec.numbers_of(self.rois).astype(out.dtype), out)
        return np.asarray(out[0])


def open_roi(
    features: FeatureArgument,
    rois: FeatureArgument,
    index: int,
    request: RunRequest,
    operator: Operator = "align",
) -> RoiOnMap:
    """Open a run of ``operator``, take RoI ``index``, a row of its file, and its map, and close it.

    Raises RoicliError.

    The pixel model is that of ``aligned``, as for ``align``.
    """
    run = open_run(operator, features, rois, request)
    try:
        return _take(run, _place_of(index, run.inputs.row_numbers, len(run.inputs.rois)))
    finally:
        run.inputs.close()


def operator_looked_at(request: RunRequest, asked: Operator | None) -> Operator:
    """Whose RoI it is: the one ``asked`` for, that of columns with an angle, the preset's; else
    RoI Align's.
    """
    names = [plain_name(name) for name in request.roi_columns or ()]
    if asked is not None:
        return asked
    if any(name in ANGLE_NAMES for name in names):
        return "rotated-align"
    if request.preset is None:
        return "align"
    from roicli.operators.presets import operator_of

    return cast("Operator", operator_of(request.preset, "align"))


def _place_of(roi: int, row_numbers: IntArray | None, count: int) -> int:
    """Which of the run's RoIs is a row of their file. Raises ParameterError where none is."""
    if row_numbers is None:
        check_index("roi", roi, count)
        return roi
    place = int(np.searchsorted(row_numbers, roi))
    if place < count and row_numbers[place] == roi:
        return place
    last = f", the last of which is {row_numbers[-1]}" if count else ""
    raise ParameterError(
        f"roi is {roi}, which was left out, or is no row: {count:,} rows are RoIs here{last}",
        "give the number that a row has in the file, or drop --where and --drop-invalid",
    )


def _take(run: Run, index: int) -> RoiOnMap:
    """The one RoI of an open run, and its map."""
    place = int(run.inputs.map_of_roi[index])
    level, one = run.pyramid.levels[place], run.inputs.rois.take(slice(index, index + 1))
    spec = run.scaled(run.spec)[place]
    align, pool = run.scaled(run.setting.align)[place], run.scaled(run.setting.pool)[place]
    check_sampling_memory(
        run.inputs.rois, np.array([index]), spec, run.pyramid.channels,
        run.pyramid.compute_dtype, run.inputs.rois_name, run.inputs.row_numbers,
    )  # fmt: skip
    feature_map = level.read_image(int(one.batch_index[0]), MapBuffer(run.pyramid.compute_dtype))
    return RoiOnMap(
        index, one, level.level, feature_map, spec, align, pool, run.setting.pixel_model,
        run.engine, level.stored.name, run.inputs.rois_name,
        run.result_shape(spec), list(run.inputs.files),
    )  # fmt: skip


def check_index(name: str, value: int, count: int) -> None:
    """Raise ParameterError unless ``value`` is from 0 to ``count`` - 1."""
    if count == 0:
        raise ParameterError(f"{name} is {value}, but there is none to choose from")
    if not 0 <= value < count:
        raise ParameterError(f"{name} is {value}, expected 0 to {count - 1}")


def check_bin(bin_index: Size, output_size: Size) -> None:
    """Raise ParameterError unless the bin (row, column) is one of the output's."""
    rows, columns = output_size
    if not (0 <= bin_index[0] < rows and 0 <= bin_index[1] < columns):
        raise ParameterError(
            f"bin is {bin_index[0]},{bin_index[1]}, expected row,column "
            f"from 0,0 to {rows - 1},{columns - 1}"
        )


def read_stored_value(
    result: str | os.PathLike[str] | Array, opened: RoiOnMap, channel: int, bin_index: Size
) -> tuple[np.generic, str]:
    """The value that a stored result (K, C, P_h, P_w) has for the bin, and the result's name.

    Raises InputError unless its shape is that of this run's result.
    """
    stored = open_object(result, "result", "features")
    try:
        check_result_shape(stored.shape, opened.result_shape, stored.name)
        row = np.empty(stored.shape[1:], stored.dtype)
        stored.read_item_into(opened.index, row)
        return row[(channel, *bin_index)], stored.name
    finally:
        stored.close()


def check_result_shape(found: tuple[int, ...], expected: tuple[int, ...], name: str) -> None:
    """Raise InputError where a stored result is not of this run's shape."""
    if tuple(found) != expected:
        raise InputError(
            f"{name}: a result of shape {tuple(found)}, expected {expected}",
            "give the features, RoIs and --output-size that it was made with",
        )
