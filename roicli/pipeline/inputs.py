"""The inputs of a run, opened and checked: maps, RoIs, and which map each RoI is on."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from roicli.core.exceptions import InputError, ParameterError, RoicliError
from roicli.core.foreign import foreign, raw_text
from roicli.core.parse import AUTO
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray, IntArray, RoIs, Size, check_spatial_scale
from roicli.error_table.carried_columns import CarriedColumn, carry, text_width
from roicli.operators.levels import LevelAssignment, level_of_scale
from roicli.pipeline.features import (
    FeatureArgument,
    FeaturePyramid,
    Scales,
    open_maps,
    open_pyramid,
)
from roicli.pipeline.image_sizes import find_size_scale
from roicli.pipeline.map_keys import MapKeys
from roicli.pipeline.request import Reading
from roicli.pipeline.roi_images import IMAGE_COLUMN
from roicli.pipeline.roi_source import (
    choose_columns,
    describe_choice,
    open_source,
    read_rois,
)
from roicli.pipeline.roi_table import (
    NO_SCALE,
    Place,
    PlacedRois,
    RoiTable,
    is_image_number,
)
from roicli.pipeline.rules import ROI_RULES, check_ignored, obey
from roicli.pipeline.validation import check_feature_shape
from roicli.storage.address import IMAGE, SEPARATOR, parse_address, split_name
from roicli.storage.array import SelectedRows, StoredArray
from roicli.storage.exchange import open_object
from roicli.storage.file_state import FileState, check_unchanged
from roicli.storage.limits import check_memory, external_files

if TYPE_CHECKING:
    from roicli.pipeline.roi_scale import RoiScale

# A column of longer texts, as polygons are, is none of a table: every row has room for the longest.
LONGEST_TEXT = 1024
# What an error table and a result call the key of a RoI's map.
KEY_COLUMN = "image_key"

logger = logging.getLogger("roicli")


def nothing_left() -> None:
    """What is done to settle inputs that are."""


@frozen
class Inputs:
    """Checked inputs. ``map_of_roi`` (K,) indexes ``places`` and the pyramid's levels.

    ``files`` is every file that they are read from, with its state when it was opened.
    ``row_numbers`` (K,) are the RoIs' rows in their file where these are not all of it, else None;
    ``described`` is what a result's parameters say of the reading, ``carried`` are the other
    columns of the RoIs' source. ``settle`` is to be called before the end: it looks at all maps
    that were not looked at, and raises InputError where the rules then find an error.
    """

    pyramid: FeaturePyramid | None
    rois: RoIs
    rois_name: str
    rois_dtype: np.dtype[Any]
    rois_stored_as: str
    rois_shape: tuple[int, ...]
    places: tuple[Place, ...]
    map_of_roi: IntArray
    files: Mapping[str, FileState]
    row_numbers: IntArray | None = None
    described: Mapping[str, Any] = field(default_factory=dict)
    carried: tuple[CarriedColumn, ...] = ()
    settle: Callable[[], None] = nothing_left

    @property
    def roi_scale_given(self) -> str | tuple[float, float]:
        """The ``roi_scale`` that says what was done to these RoIs, whatever stands beside maps."""
        name = self.described.get("roi_scale_name")
        if name is None:
            x, y = self.described.get("roi_scale", (1.0, 1.0))
            return x, y
        dataset = self.described["roi_scale_dataset"]
        return SEPARATOR.join(raw_text(part) for part in (name, dataset) if part)

    def check_unchanged(self) -> None:
        """Raise InputError where a file is no longer what it was when it was opened."""
        check_unchanged(self.files)

    def number(self, row: int) -> int:
        """What a RoI is called: its row in the file."""
        return row if self.row_numbers is None else int(self.row_numbers[row])

    def take(self, rows: IntArray) -> Inputs:
        """The same maps with the RoIs of ``rows`` (k,) alone."""
        return replace(
            self,
            rois=self.rois.take(rows),
            map_of_roi=self.map_of_roi[rows],
            row_numbers=rows if self.row_numbers is None else self.row_numbers[rows],
            carried=tuple(column.take(rows) for column in self.carried),
        )

    def close(self) -> None:
        """Let go of the files."""
        if self.pyramid is not None:
            self.pyramid.close()


def open_inputs(
    features: FeatureArgument | None,
    rois: FeatureArgument,
    reading: Reading,
    map_size: Size | None = None,
    rows: IntArray | None = None,
    streams: bool = False,
) -> Inputs:
    """Open and check everything, before anything is computed. Raises InputError, ParameterError.

    With ``rows`` (k,), ascending, only these RoIs are read. Of many maps that ``streams`` a few are
    looked at; the others as they come, and ``settle`` checks what could not be checked here.
    """
    with external_files(reading.allow_external):
        try:
            return _open(features, rois, reading, map_size, rows, streams)
        except (InputError, ParameterError) as error:
            if (
                features is None
                or (exchanged := _explain_exchange(features, rois, reading)) is None
            ):
                raise
            raise exchanged from error


def _explain_exchange(
    features: FeatureArgument | None, rois: FeatureArgument, reading: Reading
) -> InputError | None:
    """What is said of inputs that cannot be read, where each can be read as the other."""
    streams = (isinstance(one, str) and parse_address(one).is_stream for one in (features, rois))
    if features is None or any(streams):  # which can be read only once
        return None
    if _read_as(features, rois, reading) is not None:
        return None
    shapes = _read_as(rois, features, reading)
    if shapes is None:
        return None
    maps, boxes = shapes
    if len(maps) == 4 or (len(maps) == 3 and maps[2] != 4):
        return InputError(
            f"features and RoIs are exchanged: the features have shape {boxes}, as RoIs have, and "
            f"the RoIs {maps}, as maps have",
            "give the features first, then the RoIs",
        )
    return None


def _read_as(
    features: FeatureArgument, rois: FeatureArgument, reading: Reading
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The shapes of what can be read as maps, and of what can be read as RoIs; None else."""
    with suppress(RoicliError), ExitStack() as opened:
        source = opened.enter_context(closing(open_source(rois, reading)))
        choose_columns(source, reading, None)
        maps = open_maps(features, reading.levels or (), reading.of_maps)
        for stored in maps:
            opened.callback(stored.close)
        check_feature_shape(maps[0])
        return maps[0].shape, source.shape
    return None


def _open(
    features: FeatureArgument | None,
    rois: FeatureArgument,
    reading: Reading,
    map_size: Size | None,
    rows: IntArray | None,
    streams: bool,
) -> Inputs:
    check_one_stdin(features, rois)
    scales, names = reading.spatial_scale, reading.levels or ()
    if features is None:
        if names:
            raise ParameterError("levels name datasets of the features, and there are none")
        scale = single_scale(scales)
        check_spatial_scale(scale)
        scale_from = NO_SCALE if scales is None else "--spatial-scale"
        place = Place(scale, map_size, level_of_scale(scale), None, scale_from)
        return _finish(None, rois, (place,), reading, rows, streams)
    pyramid = open_pyramid(features, names, scales, reading.of_maps, reading.image_size)
    try:
        return _finish(pyramid, rois, (), reading, rows, streams)
    except BaseException:
        pyramid.close()
        raise


def single_scale(scales: Scales | None) -> float:
    """The one scale of a run without features; 1.0 where none was given, which is noted."""
    if scales is None:
        logger.info("no --spatial-scale, taking 1.0: errors in pixels are errors in cells")
        return 1.0
    if scales == AUTO:
        raise ParameterError("--spatial-scale auto is that of a map, and there is none")
    if len(scales) != 1:
        raise ParameterError(f"{len(scales)} spatial scales without features, expected one")
    return scales[0]


def check_one_stdin(features: Any, rois: Any) -> None:
    """Raise ParameterError where both inputs are to be read from stdin."""
    if isinstance(features, str) and features == "-" and isinstance(rois, str) and rois == "-":
        raise ParameterError("FEATURES and ROIS are both '-', but stdin can be read only once")


def _finish(
    pyramid: FeaturePyramid | None,
    rois: FeatureArgument,
    places: tuple[Place, ...],
    reading: Reading,
    rows: IntArray | None,
    streams: bool,
) -> Inputs:
    # Of a block of the RoIs there is nothing to judge: the whole was, when the block was chosen.
    ignored = check_ignored(reading.ignore or ())
    ignored = ignored if rows is None else tuple(rule.id for rule in ROI_RULES)
    images = pyramid.images if pyramid else None
    keys = MapKeys(pyramid, reading.images)
    source = open_source(rois, reading)
    try:
        chosen = choose_columns(source, reading, images)
        table = scale_rois(read_rois(source, chosen, reading, rows, keys), reading, pyramid)
    finally:
        source.close()
    if pyramid is not None:
        # The files that a map leads to are known when it is looked at.
        pyramid.expect(images_of(table, pyramid.images), streams and not reading.allow_external)
        places = tuple(level.place for level in pyramid.levels)
    levels = open_levels(reading.level_from, table.row_numbers)
    placed = place_rois(table, images, places, reading.level_assignment, levels)
    settle = _judge(placed, pyramid, ignored)
    assert placed.map_of_roi is not None
    if table.roi_scale is not None and rows is None:
        table.roi_scale.announce(table.name)
    return Inputs(
        pyramid,
        table.as_rois(),
        table.name,
        table.dtype,
        table.precision.name,
        (len(table), *source.shape[1:]),
        places,
        placed.map_of_roi,
        {
            **keys.files,
            **source.files,
            **(table.roi_scale.files if table.roi_scale else {}),
            **(levels.files if levels else {}),
            **(pyramid.files if pyramid else {}),
        },
        table.row_numbers,
        {**describe_choice(reading), **_describe_reading(table, places, reading, levels)},
        _carry(table, pyramid),
        settle,
    )


def _judge(
    placed: PlacedRois, pyramid: FeaturePyramid | None, ignored: Sequence[str]
) -> Callable[[], None]:
    """Obey the rules, and give what does so again once all maps are known.

    Where few maps are known, RoIs on these stand for all. Only what all RoIs say is an error.
    """
    batch = placed.table.batch
    names_image = is_image_number(batch, placed.images)
    known = np.ones(len(batch), bool)
    if pyramid is not None:
        known[names_image] = pyramid.knows(batch[names_image].astype(np.int64))
    if pyramid is None or known.all():
        obey(placed, ignored)
        return nothing_left
    told = obey(placed, ignored, ("rois",))

    def settle() -> None:
        pyramid.look_at_rest()
        places = tuple(level.place for level in pyramid.levels)
        obey(replace(placed, places=places), ignored, told=told)

    try:
        told += obey(placed.take(np.flatnonzero(known)), ignored, ("maps",))
    except InputError:
        settle()
        return nothing_left
    return settle


def _carry(table: RoiTable, pyramid: FeaturePyramid | None) -> tuple[CarriedColumn, ...]:
    """The columns that go along: those of the RoIs' source, and the keys of a collection's maps."""
    widths = table.text_widths
    found = [carry(*column[:2], widths.get(column.name)) for column in table.carried]
    for column in found:
        if column.width > LONGEST_TEXT:
            logger.info(
                f"{table.name}: column {foreign(column.name)} does not go along: its texts have up "
                f"to {column.width:,} bytes, expected at most {LONGEST_TEXT:,}"
            )
    carried = tuple(column for column in found if column.width <= LONGEST_TEXT)
    if pyramid is None or pyramid.keys is None:
        return carried
    every = np.array(pyramid.keys, object)
    keys = every[table.batch.astype(np.int64)]
    # RoIs that stand under keys of their own have them as a column, which is the same again.
    own = IMAGE_COLUMN if IMAGE in table.name else None
    others = (one for one in carried if one.name != own)
    return (carry(KEY_COLUMN, keys, text_width(every)), *others)


def images_of(table: RoiTable, images: int) -> IntArray:
    """The numbers of the images that have RoIs, ascending."""
    numbers = table.batch[is_image_number(table.batch, images)].astype(np.int64)
    # The first np.unique of a process imports numpy.ma, which takes longer than a small run's RoIs.
    return np.flatnonzero(np.bincount(numbers))


def _describe_reading(
    table: RoiTable, places: Sequence[Place], reading: Reading, levels: StoredArray | None
) -> dict[str, Any]:
    """What a result's parameters say of how its inputs were read: scales and levels of RoIs."""
    found = {} if table.roi_scale is None else table.roi_scale.describe()
    if len(places) == 1:
        return found
    if levels is not None:
        name, dataset = split_name(levels.name)
        return found | {"level_from_name": name, "level_from_dataset": dataset}
    return found | reading.level_assignment.describe(places[0].level or 0)


def scale_rois(table: RoiTable, reading: Reading, pyramid: FeaturePyramid | None) -> RoiTable:
    """The RoIs in pixels of the network's input: times ``roi_scale``, or as the file of the maps
    says how their images were resized. Raises InputError.
    """
    images = None if pyramid is None else pyramid.images
    scale: RoiScale | None
    if reading.roi_scale is not None:
        from roicli.pipeline.roi_scale import open_roi_scale  # few runs need it

        last = table.batch[np.isfinite(table.batch)].max(initial=0.0)
        scale = open_roi_scale(reading.roi_scale, images, float(last))
    elif pyramid is None or reading.normalized:
        return table
    else:
        scale = find_size_scale(table, pyramid)
    return table if scale is None or np.all(scale.factors == 1) else table.scaled(scale)


def place_rois(
    table: RoiTable,
    images: int | None,
    places: Sequence[Place],
    rule: LevelAssignment,
    levels: StoredArray | None,
) -> PlacedRois:
    """The RoIs on their maps; one that is no number is on some map."""
    with np.errstate(invalid="ignore", over="ignore"):
        corners = table.corners
        if len(places) > 1 and not np.isfinite(corners).all():
            corners = np.where(np.isfinite(corners), corners, 0.0)
        map_of_roi = assign_maps(corners, places, rule, table.name, levels)
    return PlacedRois(table, images, tuple(places), map_of_roi)


def _select(stored: StoredArray, rows: IntArray | None) -> StoredArray:
    return stored if rows is None else SelectedRows(stored, rows)


def assign_maps(
    corners: FloatArray,
    places: Sequence[Place],
    rule: LevelAssignment,
    name: str,
    levels: StoredArray | None,
) -> IntArray:
    """(K,) which map each RoI is on, by the level numbers ``levels`` (K,) or by area."""
    numbers = [place.level for place in places]
    if levels is None and len(places) == 1:
        return np.zeros(len(corners), np.int64)
    first, last = numbers[0], numbers[-1]
    assert first is not None
    assert last is not None
    if levels is None:
        _check_canonical_level(places, rule)
        return rule.assign(corners, first, last) - first
    given, source = _read_levels(levels), levels.name
    if given.shape != (len(corners),):
        raise InputError(
            f"{source}: shape {given.shape}, expected ({len(corners)},) as {name} has rows"
        )
    bad = np.flatnonzero(~np.isin(given, np.arange(first, last + 1)))
    if len(bad):
        raise InputError(
            f"{source}: row {bad[0]}: level {given[bad[0]]:g}, expected one of "
            f"{', '.join(map(str, numbers))}"
        )
    return given.astype(np.int64) - first


def _check_canonical_level(places: Sequence[Place], rule: LevelAssignment) -> None:
    """Raise ParameterError where the rule's own canonical level means none of these levels."""
    if rule.canonical_level is not None or rule.is_relative:
        return
    if any(level_of_scale(place.spatial_scale) is None for place in places):
        strides = ", ".join(f"{1 / place.spatial_scale:g}" for place in places)
        raise ParameterError(
            f"levels of strides {strides} are numbered from 0, for they are no powers of two: "
            f"level rule {rule.rule} needs to know on which level its canonical RoI is",
            "add --canonical-level (and --canonical-size), --level-rule mmdet, which counts from "
            "the finest map, or --level-from",
        )


def open_levels(
    level_from: FeatureArgument | None, rows: IntArray | None = None
) -> StoredArray | None:
    """The array of level numbers, or its ``rows``; None without one."""
    if level_from is None:
        return None
    levels = open_object(level_from, "level_from", "vector")
    if rows is not None and len(rows) and (not levels.shape or rows[-1] >= levels.shape[0]):
        levels.close()
        raise InputError(
            f"{levels.name}: shape {levels.shape}, expected a level for every row of the RoIs' "
            f"file, at least {rows[-1] + 1:,}"
        )
    return _select(levels, rows)


def _read_levels(levels: StoredArray) -> Array:
    try:
        check_memory(levels.name, "the level numbers", math.prod(levels.shape) * 8)
        return levels.read_all()
    finally:
        levels.close()
