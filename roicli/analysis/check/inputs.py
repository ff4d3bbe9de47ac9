"""Inputs read with tolerance: what the strict path refuses becomes something to find."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from roicli.analysis.check.map_statistics import MapStatistics, measure_map
from roicli.analysis.check.records import Draft
from roicli.core.exceptions import DamagedFileError, InputError
from roicli.core.types import Array, FloatArray, IntArray, RoIs, Size
from roicli.core.vocabulary import RoiFormat
from roicli.operators.roi_align import AlignSpec
from roicli.pipeline.features import (
    FeatureArgument,
    FeatureLevel,
    FeaturePyramid,
    build_pyramid,
    open_maps,
)
from roicli.pipeline.inputs import (
    Place,
    assign_maps,
    check_one_stdin,
    open_levels,
    open_rois,
)
from roicli.pipeline.request import Reading
from roicli.pipeline.validation import (
    COORDINATE_NAMES,
    ROI_BYTES,
    check_feature_shape,
    check_image_size,
    reaches_too_far,
    to_corners,
)
from roicli.storage.address import Address
from roicli.storage.array import StoredArray
from roicli.storage.choosing import Role
from roicli.storage.formats import recognize
from roicli.storage.limits import check_memory
from roicli.storage.opening import open_array

Measure = Callable[[FeatureLevel], MapStatistics]
SHAPE_ADVICE = "save features as (N, C, H, W) and RoIs as (K, 5): batch_index, x1, y1, x2, y2"
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class RoiTable:
    """K RoIs as they are, right or wrong, all float64.

    ``numbers`` (K, 4) are the coordinates as stored, ``roi_format`` and ``normalized_to`` say how
    they were read; ``corners`` (K, 4) are x1, y1, x2, y2 in image pixels, ``error_px`` (K, 4) what
    the stored dtype can have lost of each. ``batch`` (K,) is 0 where there is no such column.
    """

    name: str
    dtype_name: str
    roi_format: RoiFormat
    normalized_to: Size | None
    batch: FloatArray
    numbers: FloatArray
    corners: FloatArray
    error_px: FloatArray

    def __len__(self) -> int:
        return len(self.batch)

    @cached_property
    def finite(self) -> Array:
        """(K,) whether every corner is a number that float32 can hold."""
        with np.errstate(invalid="ignore"):
            fits: Array = np.all(np.abs(self.corners) <= FLOAT32_MAX, axis=1)
        return fits


@dataclass(frozen=True)
class CheckedInputs:
    """What the rules look at. ``pyramid`` or ``rois`` is None where its shape is wrong.

    ``scale`` (K,) is the cells per pixel, ``map_cells`` (K, 2) the width and height of the map that
    each RoI is on; both None where there is no such map.
    """

    shape_findings: tuple[Draft, ...]
    pyramid: FeaturePyramid | None
    rois: RoiTable | None
    spec: AlignSpec
    map_of_roi: IntArray | None
    scale: FloatArray | None
    map_cells: FloatArray | None
    measure: Measure | None = None

    @cached_property
    def usable(self) -> Array:
        """(K,) which RoIs have coordinates that can be computed with, on their map."""
        assert self.rois is not None
        finite = self.rois.finite
        if self.scale is None:
            return finite
        corners = np.where(finite[:, None], self.rois.corners, 0)
        return finite & ~reaches_too_far(corners, self.scale[:, None]).any(axis=1)

    @cached_property
    def cells(self) -> FloatArray:
        """(K, 4) corners in cells of the RoI's map; 0 where the RoI is not usable."""
        assert self.rois is not None
        assert self.scale is not None
        return np.where(self.usable[:, None], self.rois.corners, 0.0) * self.scale[:, None]

    @cached_property
    def extent_px(self) -> FloatArray:
        """(K, 2) width and height in image pixels of what the RoI's map covers."""
        assert self.map_cells is not None
        assert self.scale is not None
        return self.map_cells / self.scale[:, None]

    @cached_property
    def statistics(self) -> tuple[MapStatistics, ...]:
        """One pass over the images of every map; made when a rule first asks."""
        assert self.pyramid is not None
        return tuple((self.measure or measure_map)(level) for level in self.pyramid.levels)


def read_checked_inputs(
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    reading: Reading,
    spec: AlignSpec,
    stack: contextlib.ExitStack,
    measure: Measure | None = None,
) -> tuple[CheckedInputs, tuple[Mapping[str, Any], ...], Mapping[str, Any]]:
    """Open both inputs, and describe them as plain values; ``stack`` closes the maps.

    ``measure`` makes the one pass over a map's images another way than here. Raises InputError
    where something cannot be read, ParameterError for an option; a wrong shape is a finding.
    """
    check_one_stdin(features, rois)
    maps = open_maps(
        features, reading.levels or (), lambda address: _open_any_shape(address, "features")
    )
    for stored in maps:
        stack.callback(stored.close)
    problems = _find_feature_problems(maps)
    pyramid = None
    if not problems:
        pyramid = build_pyramid(maps, reading.spatial_scale)
    table, described = _read_rois(rois, reading, pyramid, problems)
    placing: tuple[Any, Any, Any] = (None, None, None)
    if pyramid is not None and table is not None:
        placing = _place_rois(table, pyramid, reading)
    inputs = CheckedInputs(tuple(problems), pyramid, table, spec, *placing, measure)
    return inputs, _describe_maps(maps, pyramid), described


def _open_any_shape(
    address: Address, role: Role, names: Sequence[str] = COORDINATE_NAMES["xyxy"]
) -> StoredArray:
    """As ``open_array``, but a file's only dataset is taken whatever its shape."""
    try:
        return open_array(address, role, names)
    except InputError as error:
        again = not isinstance(error, DamagedFileError) and not address.is_stdin
        if not again or recognize(address).holds != "several":
            raise
        with contextlib.suppress(InputError):
            return open_array(address, "any", names)
        raise


def _find_feature_problems(maps: Sequence[StoredArray]) -> list[Draft]:
    """R01 of the features: dimensions, emptiness, levels that do not belong together."""
    problems = []
    shapes = []
    for stored in maps:
        try:
            shapes.append(check_feature_shape(stored))
        except InputError as error:
            problems.append(Draft(1, (), _without_name(error, stored), SHAPE_ADVICE, "maps",
                                  stored.name))  # fmt: skip
    for stored, shape in zip(maps, shapes, strict=False):
        if not problems and shape[:2] != shapes[0][:2]:
            message = (
                f"images and channels are {shape[:2]}, expected {shapes[0][:2]} as in "
                f"{maps[0].name}"
            )
            problems.append(Draft(1, (), message, "give levels of one network", "maps",
                                  stored.name))  # fmt: skip
    return problems


def _without_name(error: InputError, stored: StoredArray) -> str:
    return error.message.removeprefix(f"{stored.name}: ")


def _read_rois(
    rois: FeatureArgument,
    reading: Reading,
    pyramid: FeaturePyramid | None,
    problems: list[Draft],
) -> tuple[RoiTable | None, Mapping[str, Any]]:
    """The RoIs, or None and one more problem where they have no four corners."""
    roi_format = reading.roi_format
    normalized_to = check_image_size(reading.normalized, reading.image_size)
    names = COORDINATE_NAMES[roi_format]
    stored = open_rois(rois, roi_format, lambda address: _open_any_shape(address, "rois", names))
    try:
        described = {
            "name": stored.name, "shape": list(stored.shape), "dtype": stored.precision.name,
        }  # fmt: skip
        images = None if pyramid is None else pyramid.images
        message = _find_roi_shape(stored.shape, images)
        if message:
            problems.append(Draft(1, (), message, SHAPE_ADVICE, "RoIs", stored.name))
        if len(stored.shape) != 2 or stored.shape[1] not in (4, 5):
            return None, described
        # The table, the cells and a sorted copy for the duplicates.
        check_memory(stored.name, f"{stored.shape[0]:,} RoIs", stored.shape[0] * ROI_BYTES * 3)
        return _make_table(stored, roi_format, normalized_to), described
    finally:
        stored.close()


def _find_roi_shape(shape: tuple[int, ...], images: int | None) -> str | None:
    """R01 of the RoIs, with what the shape reminds of."""
    found = f"RoIs have shape {shape}, expected (K, 5): batch_index, x1, y1, x2, y2"
    if len(shape) != 2:
        return found
    if shape[1] not in (4, 5):
        if shape[1] in (6, 7):
            return f"{found}; drop scores and classes"
        return f"{found}; this looks transposed" if shape[0] in (4, 5) else found
    if shape[1] == 4 and images is not None and images != 1:
        return (
            f"RoIs have 4 columns and there are {images} images, expected 5 columns: "
            "batch_index, x1, y1, x2, y2"
        )
    return None


def _make_table(stored: StoredArray, roi_format: RoiFormat, normalized_to: Size | None) -> RoiTable:
    values = stored.read_all()
    numbers = values[:, -4:]
    batch = values[:, 0] if values.shape[1] == 5 else np.zeros(len(values))
    with np.errstate(invalid="ignore", over="ignore"):
        spacing = np.asarray(stored.precision.half_spacing(numbers), np.float64)
        numbers = numbers.astype(np.float64)
        corners, error = to_corners(numbers, spacing, roi_format, normalized_to)
        batch = batch.astype(np.float64)
    return RoiTable(
        stored.name, stored.precision.name, roi_format, normalized_to,
        batch, numbers, corners, error,
    )  # fmt: skip


def _place_rois(
    table: RoiTable, pyramid: FeaturePyramid, reading: Reading
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Which map each RoI is on, its scale and its size; a RoI that is no number is on some map."""
    places = [Place(level.spatial_scale, level.shape[2:], level.level) for level in pyramid.levels]
    finite = np.where(table.finite[:, None], table.corners, 0.0)
    stand_in = RoIs(np.zeros(len(table), np.int64), finite, np.zeros(len(table)))
    with np.errstate(over="ignore", invalid="ignore"):
        levels = open_levels(reading.level_from)
        map_of_roi = assign_maps(stand_in, places, reading.level_rule, table.name, levels)
    scales = np.array([level.spatial_scale for level in pyramid.levels])
    sizes = np.array([level.shape[:1:-1] for level in pyramid.levels], np.float64)
    return map_of_roi, scales[map_of_roi], sizes[map_of_roi]


def _describe_maps(
    maps: Sequence[StoredArray], pyramid: FeaturePyramid | None
) -> tuple[Mapping[str, Any], ...]:
    scales = [None] * len(maps) if pyramid is None else [x.spatial_scale for x in pyramid.levels]
    return tuple(
        {"name": stored.name, "shape": list(stored.shape), "dtype": stored.precision.name,
         "spatial_scale": scale}
        for stored, scale in zip(maps, scales, strict=True)
    )  # fmt: skip
