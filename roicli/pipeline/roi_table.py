"""RoIs as they are, right or wrong, in their file and on their maps: what the rules look at.

Ten million RoIs are looked at a block at a time, so that no rule holds more than the RoIs take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray, IntArray, RoIs, Size
from roicli.core.vocabulary import AngleUnit, RoiFormat
from roicli.storage.array import Precision, precision_of
from roicli.storage.roi_columns import COORDINATE_NAMES, RoiColumns
from roicli.storage.table import Column, ListedImage, Table

if TYPE_CHECKING:
    from roicli.pipeline.roi_scale import RoiScale

# The operators hold cell indices in 32-bit integers.
MAX_CELL = float(1 << 30)
# In float32 a sum or a difference of two such coordinates is finite.
MAX_PIXEL = 1e38
FLOAT32_MAX = float(np.finfo(np.float32).max)
# What one RoI takes while it is checked: as stored, its corners, what each can be off by.
ROI_BYTES = 120
BLOCK_ROIS = 1 << 16
# Where a scale comes from that nobody gave.
NO_SCALE = "default"
# Where a scale comes from that the user gave.
GIVEN_SCALE = "--spatial-scale"


class Place(NamedTuple):
    """What is known of a map: its scale, its size (None unknown), its level.

    ``shape`` (N, C, H, W) is that of the array, None without one; ``scale_from`` says in words
    where the scale comes from, ``layout`` how the file holds the axes (``pipeline.layout``),
    ``is_of_matlab`` that MATLAB wrote it, which reverses them. ``sizes`` (N, 2) are the height and
    width of each image where these have their own; then ``map_size`` is the largest, and so are
    those of ``shape``.
    """

    spatial_scale: float
    map_size: Size | None
    level: int | None
    shape: tuple[int, int, int, int] | None = None
    scale_from: str = GIVEN_SCALE
    layout: str = "nchw"
    is_of_matlab: bool = False
    sizes: IntArray | None = None

    def cells(self, batch: Array) -> FloatArray:
        """(k, 2) width and height of the maps of images ``batch`` (k,); the size must be known."""
        assert self.map_size is not None
        if self.sizes is None:
            return np.broadcast_to(np.array(self.map_size[::-1], np.float64), (len(batch), 2))
        # What names no image is another rule's matter.
        known = is_image_number(batch, len(self.sizes))
        images = np.where(known, batch, 0).astype(np.int64)
        return np.asarray(self.sizes[images, ::-1], np.float64)

    @property
    def has_square_maps(self) -> bool:
        """Whether width and height are equal on every map."""
        if self.sizes is None:
            return self.map_size == (self.map_size or ())[::-1]
        return bool(np.all(self.sizes[:, 0] == self.sizes[:, 1]))

    @property
    def has_several_sizes(self) -> bool:
        """Whether the maps that were looked at are not all of one size."""
        if self.sizes is None:
            return False
        seen = self.sizes[self.sizes[:, 0] > 0]
        return bool(np.any(seen != self.map_size))

    @property
    def smallest_side(self) -> int:
        """The smallest side of all maps, in cells."""
        if self.sizes is None:
            return min(self.map_size or (0,))
        return int(self.sizes[self.sizes[:, 0] > 0].min(initial=1 << 30))


@frozen
class RoiTable:
    """K RoIs as they are, right or wrong, all float64.

    ``numbers`` (K, 4) are the coordinates as stored, in the coarsest ``precision`` of the four and
    in ``dtype`` or one that it holds; ``columns``, ``normalized_to`` and ``roi_scale`` say how they
    were read; ``corners`` (K, 4) are x1, y1, x2, y2 in pixels of the network's input, ``error_px``
    (K,) what the stored dtype can have lost of the worst of each. ``image`` is the column that
    names the RoI's image, and ``batch`` (K,) the numbers of their maps; 0 where there is no such
    column, and ``image`` is then None. ``carried`` are all other columns that have names, and that
    of the images where it holds keys; ``listed`` the images that the source lists. ``row_numbers``
    (K,) are the rows in the source, None where these are all; ``text_widths`` what the longest text
    of a column takes there, by name.
    """

    name: str
    dtype: np.dtype[Any]
    precision: Precision
    columns: RoiColumns
    normalized_to: Size | None
    image: Column | None
    batch: FloatArray
    numbers: FloatArray
    corners: FloatArray
    error_px: FloatArray
    carried: tuple[Column, ...] = ()
    listed: tuple[ListedImage, ...] = ()
    row_numbers: IntArray | None = None
    text_widths: Mapping[str, int] = field(default_factory=dict)
    roi_scale: RoiScale | None = None
    turned: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def roi_format(self) -> RoiFormat:
        """What the four numbers were read as."""
        return self.columns.roi_format

    def scaled(self, scale: RoiScale) -> RoiTable:
        """The same RoIs, their corners in pixels that many times as small; in float64."""
        if self.turned is not None:
            raise InputError(
                f"{self.name}: turned RoIs cannot be scaled, for the angles of their corners may "
                "not stay right ones",
                "save them in pixels of the network's input, without --roi-scale",
            )
        corners, error = np.empty_like(self.corners), np.empty(len(self))
        with np.errstate(invalid="ignore", over="ignore"):
            for part in _parts(len(self)):
                factors, numbers = scale.of(self.batch[part]), self.numbers[part]
                spacing = np.asarray(self.precision.half_spacing(numbers), np.float64)
                found, off = to_corners(numbers, spacing, self.roi_format, self.normalized_to)
                corners[part] = found * factors
                error[part] = (off * factors).max(axis=1, initial=0.0)
        return replace(self, corners=corners, error_px=error, roi_scale=scale)

    def as_rois(self) -> RoIs:
        """The RoIs as the operators take them, once nothing is wrong with them."""
        return RoIs(self.batch.astype(np.int64), self.corners, self.error_px, self.turned)

    def take(self, rows: IntArray) -> RoiTable:
        """The RoIs of ``rows`` (k,) alone."""
        return replace(
            self, batch=self.batch[rows], numbers=self.numbers[rows], corners=self.corners[rows],
            error_px=self.error_px[rows],
            turned=None if self.turned is None else self.turned[rows],
            row_numbers=rows if self.row_numbers is None else self.row_numbers[rows],
        )  # fmt: skip

    def describe_coordinate(self, place: int) -> str:
        """In words, where the coordinate ``place`` (0 to 3) stands in a row."""
        name = COORDINATE_NAMES[self.roi_format][place]
        places = self.columns.coordinates
        return f"column {places[place] if len(places) == 4 else places[0]} ({name})"

    @property
    def image_place(self) -> str:
        """In words, where a row has its image."""
        assert self.image is not None
        place = self.columns.image
        return self.image.name if place is None else f"column {place} ({self.image.name})"

    def number(self, row: int | np.integer) -> int:
        """What a row is called: its number in the source."""
        return int(row if self.row_numbers is None else self.row_numbers[row])


def read_roi_table(
    table: Table,
    columns: RoiColumns,
    normalized_to: Size | None,
    image: Column | None,
    batch: FloatArray,
    angle_unit: AngleUnit = "degrees",
) -> RoiTable:
    """The RoIs of a table. ``normalized_to`` is (height, width) in pixels; ``image`` the column of
    images, and ``batch`` (K,) the numbers of their maps.

    Raises InputError where they are no numbers, for nothing else.
    """
    count, roi_format = len(table), columns.roi_format
    sources = [_numbers_of(table, place) for place in columns.coordinates]
    as_stored = roi_format == "xyxy" and normalized_to is None
    numbers, error = np.empty((count, 4)), np.empty(count)
    corners = numbers if as_stored else np.empty((count, 4))
    spacing = np.empty((min(count, BLOCK_ROIS), 4))
    if image is not None:
        image = image._replace(name=foreign(image.name) or "batch_index")
    with np.errstate(invalid="ignore", over="ignore"):
        for part in _parts(count):
            size = part.stop - part.start
            for place, (values, precision) in enumerate(sources):
                here = slice(None) if len(sources) == 1 else place
                numbers[part, here] = values[part]
                spacing[:size, here] = precision.half_spacing(values[part])
            corners[part], off = to_corners(
                numbers[part], spacing[:size], roi_format, normalized_to
            )
            error[part] = off.max(axis=1, initial=0.0)
    turned = None
    if columns.angle is not None:
        if normalized_to is not None:
            raise InputError(
                f"{table.name}: turned RoIs cannot be normalized, for the angles of their corners "
                "may not stay right ones",
                "save them in pixels, without --normalized",
            )
        angles, _ = _numbers_of(table, columns.angle)
        turned = np.column_stack([numbers, np.asarray(angles, np.float64)])
        corners = np.asarray(enclose(turned, angle_unit), np.float64)
    return RoiTable(
        table.name, np.result_type(*(values.dtype for values, _ in sources)),
        _coarsest([precision for _, precision in sources]), columns, normalized_to, image,
        batch, numbers, corners, error,
        tuple(table.columns[place] for place in columns.carried), table.images, turned=turned,
    )  # fmt: skip


def enclose(turned: FloatArray, angle_unit: AngleUnit) -> FloatArray:
    """(K, 4) corners of the upright boxes that enclose turned ones (K, 5)."""
    with np.errstate(invalid="ignore", over="ignore"):
        angle = turned[:, 4] if angle_unit == "radians" else np.radians(turned[:, 4])
        cosine, sine = np.abs(np.cos(angle)), np.abs(np.sin(angle))
        width, height = turned[:, 2] / 2, turned[:, 3] / 2
        reach = np.column_stack([width * cosine + height * sine, width * sine + height * cosine])
        # Sides below 0 are crossed corners, whatever the angle makes of them.
        is_crossed = np.minimum(width, height) < 0
        reach = np.where(is_crossed[:, None], -np.abs(reach), reach)
        return np.concatenate([turned[:, :2] - reach, turned[:, :2] + reach], axis=1)


def _numbers_of(table: Table, place: int) -> tuple[Array, Precision]:
    """The numbers of a column, which may be written as texts. Raises InputError for others."""
    column = table.columns[place]
    if column.precision is not None:
        return column.values, column.precision
    row = next((row for row, text in enumerate(column.values) if not _is_number(text)), None)
    if row is None:
        return column.values.astype(np.float64), precision_of(np.dtype(np.float64))
    found = "nothing" if column.values[row] is None else repr(str(foreign(column.values[row])))
    raise InputError(f"{table.where(row, place)}: found {found}, expected a number")


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def _coarsest(precisions: Sequence[Precision]) -> Precision:
    """The one that loses most."""
    return min(precisions, key=lambda one: -1 if one.mantissa_bits is None else one.mantissa_bits)


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, BLOCK_ROIS):
        yield slice(start, min(start + BLOCK_ROIS, count))


def to_corners(
    values: FloatArray, error: FloatArray, roi_format: RoiFormat, normalized_to: Size | None
) -> tuple[FloatArray, FloatArray]:
    """Coordinates (K, 4) of a format, and what each can be off by, to corners in image pixels."""
    if roi_format == "yxyx":
        values, error, roi_format = values[:, [1, 0, 3, 2]], error[:, [1, 0, 3, 2]], "xyxy"
    if normalized_to is not None:
        height, width = normalized_to
        scale = np.array([width, height, width, height], np.float64)
        values, error = values * scale, error * scale
    first, size = values[:, :2], values[:, 2:]
    first_error, size_error = error[:, :2], error[:, 2:]
    match roi_format:
        case "xyxy":
            return values, error
        case "xywh":
            corners = np.concatenate([first, first + size], axis=1)
            return corners, np.concatenate([first_error, first_error + size_error], axis=1)
        case "cxcywh":
            corners = np.concatenate([first - size / 2, first + size / 2], axis=1)
            return corners, np.tile(first_error + size_error / 2, 2)
        case _:
            assert_never(roi_format)


@frozen
class Block:
    """Some RoIs that follow one another, on their maps.

    ``place`` (k,) numbers the map that each RoI is on, ``scale`` (k, 1) is its cells per pixel,
    ``map_cells`` (k, 2) its width and height; None where that is not known. ``usable`` (k,) says
    which RoIs have coordinates that can be computed with, on their map. ``roi_scale`` (k, 4) or
    (1, 4) is what corners were multiplied by, None where by nothing.
    """

    batch: FloatArray
    numbers: FloatArray
    corners: FloatArray
    error_px: FloatArray
    place: IntArray | None
    scale: FloatArray | None
    map_cells: FloatArray | None
    usable: Array
    roi_scale: FloatArray | None = None

    def as_corners(
        self, numbers: FloatArray, roi_format: RoiFormat, normalized_to: Size | None
    ) -> FloatArray:
        """(k, 4) corners in pixels of numbers (k, 4) that may be these RoIs' coordinates."""
        corners, _ = to_corners(numbers, np.zeros_like(numbers), roi_format, normalized_to)
        return corners if self.roi_scale is None else corners * self.roi_scale

    @cached_property
    def safe_corners(self) -> FloatArray:
        """(k, 4) corners in pixels; 0 where the RoI is not usable."""
        if self.usable.all():
            return self.corners
        return np.where(self.usable[:, None], self.corners, 0.0)

    @cached_property
    def cells(self) -> FloatArray:
        """(k, 4) corners in cells of the RoI's map; 0 where the RoI is not usable."""
        assert self.scale is not None
        return self.safe_corners * self.scale

    @cached_property
    def extent_px(self) -> FloatArray:
        """(k, 2) width and height in image pixels of what the RoI's map covers."""
        assert self.scale is not None
        assert self.map_cells is not None
        return self.map_cells / self.scale

    @cached_property
    def cell_px(self) -> FloatArray:
        """(k, 1) pixels of one cell."""
        assert self.scale is not None
        return np.asarray(1 / self.scale)

    @cached_property
    def outside(self) -> tuple[Array, Array]:
        """Masks (k,) of usable RoIs partly and wholly outside.

        An edge may be off by a step of its dtype.
        """
        assert self.scale is not None
        assert self.map_cells is not None
        slack = np.where(self.usable, 2 * self.error_px, 0.0)[:, None] * self.scale
        partly, wholly = find_outside(self.cells, self.map_cells, slack)
        return partly & self.usable, wholly & self.usable


# What a rule asks of a block: a mask (k,).
Holds = Callable[[Block], Array]


@frozen
class PlacedRois:
    """K RoIs and the maps that they are on; ``places`` is empty where the maps are unknown.

    ``images`` is how many maps there are, None where that is unknown.
    """

    table: RoiTable
    images: int | None
    places: tuple[Place, ...]
    map_of_roi: IntArray | None

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: IntArray) -> PlacedRois:
        """The RoIs of ``rows`` (k,) alone, on the same maps."""
        here = None if self.map_of_roi is None else self.map_of_roi[rows]
        return replace(self, table=self.table.take(rows), map_of_roi=here)

    @property
    def knows_maps(self) -> bool:
        """Whether the size of every map is known."""
        return bool(self.places) and all(place.map_size is not None for place in self.places)

    def blocks(self) -> Iterator[Block]:
        """All RoIs in order; where they are few, one block that keeps what it has computed."""
        if len(self) <= BLOCK_ROIS:
            yield self._only
            return
        for part in _parts(len(self)):
            yield self._take(part)

    @cached_property
    def _only(self) -> Block:
        return self._take(slice(0, len(self)))

    def _take(self, part: slice) -> Block:
        table, here, scale, cells = self.table, None, self._scales(part), None
        if self.map_of_roi is not None:
            here = self.map_of_roi[part]
            if self.knows_maps:
                cells = self._cells(here, table.batch[part])
        roi_scale = None if table.roi_scale is None else table.roi_scale.of(table.batch[part])
        return Block(
            table.batch[part], table.numbers[part], table.corners[part], table.error_px[part],
            here, scale, cells, self.is_usable[part], roi_scale,
        )  # fmt: skip

    def _cells(self, here: IntArray, batch: FloatArray) -> FloatArray:
        """(k, 2) width and height of the RoIs' maps."""
        found = np.empty((len(here), 2))
        for number, place in enumerate(self.places):
            rows = here == number
            found[rows] = place.cells(batch[rows])
        return found

    def _scales(self, part: slice) -> FloatArray | None:
        if self.map_of_roi is None:
            return None
        scales = np.array([place.spatial_scale for place in self.places])
        return np.asarray(scales[self.map_of_roi[part], None])

    @cached_property
    def is_usable(self) -> Array:
        """(K,) which RoIs have coordinates that can be computed with, on their map."""
        found = np.empty(len(self), bool)
        for part in _parts(len(self)):
            corners, scale = self.table.corners[part], self._scales(part)
            with np.errstate(invalid="ignore", over="ignore"):
                if scale is None:
                    found[part] = np.all(np.abs(corners) <= FLOAT32_MAX, axis=1)
                else:
                    found[part] = ~reaches_too_far(corners, scale).any(axis=1)
        return found

    @cached_property
    def crossed(self) -> IntArray:
        """The rows of the usable RoIs with x2 < x1 or y2 < y1."""
        return self.rows(lambda block: is_crossed(block.corners) & block.usable)

    def rows(self, holds: Holds) -> IntArray:
        """The rows of the RoIs for which something holds, ascending."""
        found, first = [], 0
        for block in self.blocks():
            found.append(np.flatnonzero(holds(block)) + first)
            first += len(block.batch)
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def count(self, holds: Holds) -> int:
        """For how many RoIs something holds."""
        return sum(int(np.count_nonzero(holds(block))) for block in self.blocks())

    def every(self, holds: Holds) -> bool:
        """Whether something holds for every usable RoI."""
        return all(bool(holds(block)[block.usable].all()) for block in self.blocks())

    @cached_property
    def usable(self) -> int:
        """How many RoIs can be computed with."""
        return int(np.count_nonzero(self.is_usable))

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """(4,) the smallest and the largest of each corner's coordinate; needs a usable RoI."""
        lows, highs = [], []
        for block in self.blocks():
            corners = block.corners[block.usable]
            if len(corners):
                lows.append(corners.min(axis=0))
                highs.append(corners.max(axis=0))
        return np.min(lows, axis=0), np.max(highs, axis=0)


def reaches_too_far(corners: FloatArray, spatial_scale: float | FloatArray) -> Array:
    """(K, 6) where x1, y1, x2, y2 or a width or height is more than the operators can count.

    They hold cells in 32-bit integers and pixels in float32. ``spatial_scale`` is one number or
    (K, 1).
    """
    lengths = np.abs(np.concatenate([corners, corners[:, 2:] - corners[:, :2]], axis=1))
    return np.asarray(~((lengths * spatial_scale <= MAX_CELL) & (lengths <= MAX_PIXEL)))


def find_outside(
    corners: FloatArray, extent: FloatArray, slack: FloatArray | float = 0.0
) -> tuple[Array, Array]:
    """Masks (K,) of the boxes that are partly, and that are wholly outside.

    ``corners`` (K, 4) may be crossed; ``extent`` is (width, height), once or a row (K, 2), in the
    same unit; ``slack`` is how far an edge may reach past it, once or (K, 1). A box that touches
    the edge is inside.
    """
    low = np.minimum(corners[:, :2], corners[:, 2:])
    high = np.maximum(corners[:, :2], corners[:, 2:])
    wholly = np.any((high < 0) | (low > extent), axis=1)
    reaches = np.any((low < -slack) | (high > extent + slack), axis=1)
    return reaches & ~wholly, wholly


def is_crossed(corners: FloatArray) -> Array:
    """(K,) whether x2 < x1 or y2 < y1."""
    with np.errstate(invalid="ignore"):
        found: Array = np.any(corners[:, 2:] < corners[:, :2], axis=1)
    return found


def fits_inside(corners: FloatArray, extent: FloatArray, slack: FloatArray | float) -> Array:
    """(K,) whether a box is ordered and inside the extent, but for ``slack`` on every edge."""
    partly, wholly = find_outside(corners, extent, slack)
    found: Array = ~(partly | wholly | is_crossed(corners))
    return found


def has_centre_outside(corners: FloatArray, extent: FloatArray) -> Array:
    """(K,) whether a box's centre is outside ``extent`` (width, height), once or a row (K, 2)."""
    centre = corners[:, :2] / 2 + corners[:, 2:] / 2
    found: Array = np.any((centre < 0) | (centre > extent), axis=1)
    return found


def is_image_number(column: FloatArray, images: int | None) -> Array:
    """(K,) whether a number is whole, not negative, and below ``images``, or 2**63 without."""
    limit = 2.0**63 if images is None else images
    column = column.astype(np.float64, copy=False)  # float16 overflows at such a limit
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(column) & (column == np.floor(column))
        found: Array = whole & (column >= 0) & (column < limit)
    return found
