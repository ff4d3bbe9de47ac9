"""Inputs read with tolerance: what the strict path refuses becomes something to find."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np

from roicli.analysis.check.map_statistics import MapStatistics, measure_map
from roicli.analysis.check.records import CheckedMap, CheckedRois
from roicli.core.exceptions import DamagedFileError, InputError
from roicli.core.record import frozen
from roicli.operators.roi_align import AlignSpec
from roicli.pipeline.draft import Draft
from roicli.pipeline.features import (
    FeatureArgument,
    FeatureLevel,
    FeaturePyramid,
    build_pyramid,
    open_maps,
)
from roicli.pipeline.inputs import (
    check_one_stdin,
    open_levels,
    place_rois,
    scale_rois,
)
from roicli.pipeline.map_keys import MapKeys
from roicli.pipeline.request import Reading
from roicli.pipeline.roi_source import choose_columns, open_source, read_rois
from roicli.pipeline.roi_table import ROI_BYTES, PlacedRois, RoiTable
from roicli.pipeline.validation import check_feature_shape
from roicli.storage.address import Address
from roicli.storage.array import StoredArray
from roicli.storage.choice import Role
from roicli.storage.formats import recognize
from roicli.storage.limits import check_memory
from roicli.storage.open import open_array, open_rois
from roicli.storage.table import RoiSource, stored_as

Source = TypeVar("Source", bound=RoiSource)
Measure = Callable[[FeatureLevel], MapStatistics]
SHAPE_ADVICE = "save features as (N, C, H, W)"


@frozen
class CheckedInputs:
    """What the rules look at. ``pyramid`` or ``rois`` is None where its shape is wrong."""

    shape_findings: tuple[Draft, ...]
    pyramid: FeaturePyramid | None
    rois: PlacedRois | None
    spec: AlignSpec
    measure: Measure | None = None

    @cached_property
    def statistics(self) -> tuple[MapStatistics, ...]:
        """One pass over the images of every map; made when a rule first asks."""
        assert self.pyramid is not None
        return tuple((self.measure or measure_map)(level) for level in self.pyramid.levels)


def read_checked_inputs(
    features: FeatureArgument,
    rois: FeatureArgument,
    reading: Reading,
    spec: AlignSpec,
    stack: contextlib.ExitStack,
    measure: Measure | None = None,
) -> tuple[CheckedInputs, tuple[CheckedMap, ...], CheckedRois]:
    """Open both inputs, and describe them as plain values; ``stack`` closes the maps.

    ``measure`` makes the one pass over a map's images another way than here. Raises InputError
    where something cannot be read, ParameterError for an option; a wrong shape is a finding.
    """
    check_one_stdin(features, rois)
    maps = open_maps(
        features, reading.levels or (), reading.of_maps,
        lambda address: _open_any_shape(address, "features"),
    )  # fmt: skip
    for stored in maps:
        stack.callback(stored.close)
    problems = _find_feature_problems(maps)
    pyramid = None
    if not problems:
        pyramid = build_pyramid(maps, reading.spatial_scale, reading.image_size)
        # Some rules look at images without RoIs too.
        pyramid.expect(np.arange(pyramid.images))
    table, described = _read_rois(rois, reading, pyramid, problems)
    placed = None if table is None else _place(table, pyramid, reading)
    inputs = CheckedInputs(tuple(problems), pyramid, placed, spec, measure)
    return inputs, _describe_maps(maps, pyramid), described


def _open_any_shape(address: Address, role: Role) -> StoredArray:
    """As ``open_array``, but a file's only dataset is taken whatever its shape."""
    return _or_any(address, lambda: open_array(address, role))


def _open_any_rois(address: Address) -> RoiSource:
    """As ``open_rois``, but a file's only dataset is taken whatever its shape."""
    return _or_any(address, lambda: open_rois(address))


def _or_any(address: Address, opener: Callable[[], Source]) -> Source | StoredArray:
    try:
        return opener()
    except InputError as error:
        again = not isinstance(error, DamagedFileError) and not address.is_stream
        if not again or recognize(address).holds != "several":
            raise
        with contextlib.suppress(InputError):
            return open_array(address, "any")
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
) -> tuple[RoiTable | None, CheckedRois]:
    """The RoIs, or None and one more problem where they have no four corners."""
    images = None if pyramid is None else pyramid.images
    source = open_source(rois, reading, _open_any_rois)
    try:
        described: CheckedRois = {
            "name": source.name, "shape": list(source.shape), "dtype": stored_as(source),
        }  # fmt: skip
        try:
            chosen = choose_columns(source, reading, images)
        except InputError as error:
            message = error.message.removeprefix(f"{source.name}: ")
            problems.append(Draft(1, (), message, error.hint or "", "RoIs", source.name))
            try:  # without an image's number there is still something to look at
                chosen = choose_columns(source, reading, None)
            except InputError:
                return None, described
        count = source.shape[0]
        # The table, the cells and a sorted copy for the duplicates.
        check_memory(source.name, f"{count:,} RoIs", count * ROI_BYTES * 3)
        keys = MapKeys(pyramid, reading.images)
        table = read_rois(source, chosen, reading, maps=keys)
        return scale_rois(table, reading, pyramid), described
    finally:
        source.close()


def _place(table: RoiTable, pyramid: FeaturePyramid | None, reading: Reading) -> PlacedRois:
    """The RoIs on their maps, as far as these are known."""
    if pyramid is None:
        return PlacedRois(table, None, (), None)
    places = [level.place for level in pyramid.levels]
    levels = open_levels(reading.level_from, table.row_numbers)
    return place_rois(table, pyramid.images, places, reading.level_assignment, levels)


def _describe_maps(
    maps: Sequence[StoredArray], pyramid: FeaturePyramid | None
) -> tuple[CheckedMap, ...]:
    scales = [None] * len(maps) if pyramid is None else [x.spatial_scale for x in pyramid.levels]
    return tuple(
        {"name": stored.name, "shape": list(stored.shape), "dtype": stored.precision.name,
         "spatial_scale": scale}
        for stored, scale in zip(maps, scales, strict=True)
    )  # fmt: skip
