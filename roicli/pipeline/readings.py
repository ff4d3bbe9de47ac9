"""What coordinates may be that are not what they are read as, and which reading would fit.

A guess speaks only where the RoIs cannot be what they are read as, and would all be fine under one
other reading. RoIs inside their image with ordered corners never meet R07, R09 or R11. Where two
readings fit, both are named: one of them alone would be advice that leads to wrong numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from roicli.core.types import Array, FloatArray, IntArray
from roicli.pipeline.axis_orders import SWAPPED_LETTERS, find_order
from roicli.pipeline.draft import Draft
from roicli.pipeline.fits import (
    FEWEST_REFUSED,
    FILLED_SHARE,
    corners_of,
    count_fitting,
    map_cells_of,
)
from roicli.pipeline.layout import rearrange
from roicli.pipeline.roi_table import (
    NO_SCALE,
    Block,
    PlacedRois,
    fits_inside,
    has_centre_outside,
    to_corners,
)

# A stray row is no pattern: so many rows, and this share of all, must not make sense as read.
FEWEST_ROWS = 2
SHARE_SWAPPED = 0.05
# Normalized coordinates end at 1; a box may reach a little past its image.
NORMALIZED_MOST = 1.05
SMALLEST_IMAGE_PX = 8
# Percent of an image of several times as many pixels reach nearly to 100.
PERCENT, LEAST_OF_PERCENT, NEARLY_ALL = 100, 2, 0.95
# LayoutLM's and other models' of text and images; those of Gemini are y1, x1, y2, x2.
THOUSANDTHS = 1000
# Coordinates in cells: below stride 4 RoIs in one corner of the image are too likely.
COARSEST_SCALE_GUESSED = 0.25
FEWEST_IN_CELLS = 5
MANY_IN_CELLS = 20
SPAN_IN_CELLS = 0.7
FULL_SPAN_IN_CELLS = 0.9
SMALL_SIDE_CELLS = 2.0
SPREAD_SIDE = 0.5
STRIDES_TRIED = tuple(2**power for power in range(8))
# Exchanging x and y of the RoIs and of the maps fits equally well: only the user knows.
SWAPPED = [1, 0, 3, 2]
SWAPPED_ROIS = {
    "xyxy": "add --roi-format yxyx where RoIs are y1, x1, y2, x2, as TensorFlow's",
    "yxyx": "add --roi-format xyxy where RoIs are x1, y1, x2, y2",
}
SWAPPED_NAMES = "exchange the names of x and y in --roi-columns (TensorFlow has y1, x1, y2, x2)"
SWAPPED_MAPS = "where the maps' height and width are exchanged, give --layout {layout}"


# x and y exchanged ----------------------------------------------------------------------------


def find_swapped_axes(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R07: centres leave a map that is not square, and with x and y exchanged everything fits."""
    sizes = [place.map_size for place in rois.places if place.map_size is not None]
    if rois.usable == 0 or all(place.has_square_maps for place in rois.places):
        return
    yield from _find_swapped_size(rois)
    rows = rois.rows(lambda block: block.usable & _has_centre_outside(block))
    if len(rows) < max(FEWEST_ROWS, SHARE_SWAPPED * rois.usable):
        return
    if not rois.every(_fits_swapped):
        return
    height, width = (side / rois.places[0].spatial_scale for side in sizes[0])
    # As for R05: fewer may lie there on purpose.
    is_error = rois.usable >= FEWEST_REFUSED
    yield Draft(
        len(rows), rows,
        f"RoIs or maps look as if x and y were exchanged: the centres of {len(rows):,} RoIs are "
        f"outside the {height:g} x {width:g} px (height x width) that the map covers, and "
        f"exchanged all {rois.usable:,} are inside",
        "; or ".join(_ways_to_exchange(rois)), "RoIs", rois.table.name,
        "error" if is_error else "warning",
    )  # fmt: skip


def _find_swapped_size(rois: PlacedRois) -> Iterator[Draft]:
    """An --image-size that is what the map covers, as width x height."""
    place, given = rois.places[0], rois.table.normalized_to
    if given is None or place.map_size is None or place.has_several_sizes:
        return
    covered = np.array(place.map_size) / place.spatial_scale
    differing = [np.abs(covered - size) >= 1 / place.spatial_scale for size in (given[::-1], given)]
    if differing[0].any() or not differing[1].any():
        return
    height, width = given
    yield Draft(
        len(rois), np.flatnonzero(rois.is_usable),
        f"the image size {height} x {width} (height x width) is exchanged: the map covers "
        f"{covered[0]:g} x {covered[1]:g} px",
        f"give --image-size {width}x{height}", "RoIs", rois.table.name, "error",
    )  # fmt: skip


def _ways_to_exchange(rois: PlacedRois) -> list[str]:
    """Of RoIs and of maps, in words; the more likely first."""
    place = rois.places[0]
    columns = rois.table.columns
    exchanged = SWAPPED_NAMES
    if not columns.are_named:
        exchanged = SWAPPED_ROIS.get(columns.roi_format, SWAPPED_NAMES)
    maps = SWAPPED_MAPS.format(layout=rearrange(place.layout, SWAPPED_LETTERS))
    if place.is_of_matlab:
        return [f"{maps} (MATLAB wrote this file, whose axes are reversed)", exchanged]
    return [exchanged, f"{maps}: MATLAB, Julia and R write arrays so"]


def find_exchanged(rois: PlacedRois) -> list[str]:
    """In words, how x and y may have been exchanged, where all RoIs are inside then."""
    square = all(place.has_square_maps for place in rois.places)
    if square or not rois.every(_fits_swapped):
        return []
    first, second = _ways_to_exchange(rois)
    return [f"with x and y exchanged all are inside: {first}", second]


def _has_centre_outside(block: Block) -> Array:
    return has_centre_outside(block.safe_corners, block.extent_px)


def _fits_swapped(block: Block) -> Array:
    return fits_inside(block.safe_corners[:, SWAPPED], block.extent_px, block.cell_px)


# Normalized -----------------------------------------------------------------------------------


def find_normalized(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R08: every coordinate is a fraction, on an image of many pixels."""
    if rois.usable == 0 or _smallest_side_px(rois) < SMALLEST_IMAGE_PX:
        return
    if not rois.every(is_in_unit):
        yield from _find_percent(rois)
        yield from _find_thousandths(rois)
        return
    # Whole numbers up to 1 are corner pixels, or rows that only fill up a batch.
    if rois.every(lambda block: np.all(block.safe_corners == np.floor(block.safe_corners), 1)):
        return
    low, high = rois.bounds()
    height, width = (s / rois.places[0].spatial_scale for s in rois.places[0].map_size or (0, 0))
    advice = (
        "add --normalized --image-size HEIGHTxWIDTH where they are x1, y1, x2, y2, and "
        "--roi-format yxyx besides where they are y1, x1, y2, x2, as TensorFlow's"
    )
    if _looks_like_yolo(rois):
        advice = (
            "add --normalized --image-size HEIGHTxWIDTH --roi-format cxcywh; YOLO's files have "
            "the class in the first column, where the image's number belongs"
        )
    if low.min() < 1 - NORMALIZED_MOST:
        advice = "they may be from -1 to 1: save (numbers + 1) / 2, and add --normalized"
    yield draft_of(
        rois, np.flatnonzero(rois.is_usable),
        f"RoIs look normalized: every coordinate is from {low.min():.3g} to {high.max():.3g}, and "
        f"the map covers {height:g} x {width:g} px (height x width)",
        advice,
    )  # fmt: skip


def _smallest_side_px(rois: PlacedRois) -> float:
    return min(place.smallest_side / place.spatial_scale for place in rois.places)


def is_in_unit(block: Block) -> Array:
    """Which RoIs are fractions, as they are stored."""
    corners = block.safe_corners
    if block.roi_scale is not None and block.roi_scale.max() < SMALLEST_IMAGE_PX:
        corners = corners / block.roi_scale  # as stored
    found: Array = np.all(np.abs(corners) <= NORMALIZED_MOST, axis=1)
    return found


def _find_percent(rois: PlacedRois) -> Iterator[Draft]:
    """Coordinates that reach to nearly 100 on both axes of a larger image."""
    if rois.usable < FEWEST_REFUSED or _smallest_side_px(rois) < LEAST_OF_PERCENT * PERCENT:
        return
    _, high = rois.bounds()
    if not _reach_to(rois, PERCENT):
        return
    height, width = (s / rois.places[0].spatial_scale for s in rois.places[0].map_size or (0, 0))
    yield Draft(
        len(rois), np.flatnonzero(rois.is_usable),
        f"RoIs look like percent of the image: they reach to {high[2]:.4g} in x and {high[3]:.4g} "
        f"in y, and the map covers {height:g} x {width:g} px (height x width)",
        f"where they are, add --roi-scale, the image's width and height over 100: "
        f"{width / PERCENT:g},{height / PERCENT:g} where the map covers all of it", "RoIs",
        rois.table.name, "warning",
    )  # fmt: skip


def _find_thousandths(rois: PlacedRois) -> Iterator[Draft]:
    """Coordinates that reach to nearly 1000 on both axes, and past a side of the image."""
    if rois.usable < FEWEST_REFUSED or not _reach_to(rois, THOUSANDTHS):
        return
    height, width = (s / rois.places[0].spatial_scale for s in rois.places[0].map_size or (0, 0))
    if min(height, width) >= NEARLY_ALL * THOUSANDTHS:
        return
    yield Draft(
        len(rois), np.flatnonzero(rois.is_usable),
        f"RoIs look like thousandths of the image: they reach to nearly {THOUSANDTHS} in x and in "
        f"y, and the map covers {height:g} x {width:g} px (height x width)",
        f"add --roi-scale, the image's width and height over {THOUSANDTHS}: "
        f"{width / THOUSANDTHS:g},{height / THOUSANDTHS:g} where the map covers all of it; and "
        "--roi-format yxyx besides where they are y1, x1, y2, x2", "RoIs", rois.table.name,
    )  # fmt: skip


def _reach_to(rois: PlacedRois, most: int) -> bool:
    """Whether RoIs, which nobody scaled, reach over nearly all from 0 to ``most`` on both axes."""
    low, high = rois.bounds()
    if rois.table.roi_scale is not None or rois.table.normalized_to is not None:
        return False
    filled = (high[2:] > NEARLY_ALL * most) & (high[2:] <= most)
    return bool(low.min() >= 0 and filled.all())


def _looks_like_yolo(rois: PlacedRois) -> bool:
    """Centres and sizes inside the unit square, which read as corners are crossed."""
    if rois.table.roi_format != "xyxy" or rois.table.image is None:
        return False

    def fits(block: Block) -> Array:
        corners, _ = to_corners(block.numbers, np.zeros_like(block.numbers), "cxcywh", None)
        slack = NORMALIZED_MOST - 1
        return fits_inside(corners, np.ones(2), slack)

    return len(rois.crossed) > 0 and rois.every(fits)


# In cells already -----------------------------------------------------------------------------


def find_already_in_cells(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R10: the RoIs fill the map's own cells, in the first corner of the image, and are tiny."""
    scales = [place.spatial_scale for place in rois.places]
    if rois.usable < FEWEST_IN_CELLS or max(scales) > COARSEST_SCALE_GUESSED:
        return
    if not rois.every(_fits_in_cells):
        return
    distinct = _count_distinct(rois, MANY_IN_CELLS)
    if distinct < FEWEST_IN_CELLS:
        return
    low, high = rois.bounds()
    assert rois.map_of_roi is not None
    used = [rois.places[place].map_size for place in np.unique(rois.map_of_roi)]
    cells_of_map = np.max([size[::-1] for size in used if size is not None], axis=0)
    span = (high[2:] - low[:2]) / cells_of_map
    if span.min() < SPAN_IN_CELLS:
        return
    median = np.median(_sides_in_cells(rois).max(axis=1))
    if median >= SMALL_SIDE_CELLS:
        # Of a sensible size, so only what else is telling: many, or of several images, and spread
        # over the corner rather than around one object in it.
        many = distinct >= MANY_IN_CELLS and span.min() >= FULL_SPAN_IN_CELLS
        sides = np.median(_sides_px(rois), axis=0) / cells_of_map
        if not (many or _has_several_images(rois)) or np.any(sides > SPREAD_SIDE * span):
            return
    height, width = rois.places[0].map_size or (0, 0)
    yield draft_of(
        rois, np.flatnonzero(rois.is_usable),
        f"RoIs look as if they were in cells already: all lie within {high.max():.4g} of the "
        f"origin, which fills the map's {width} x {height} cells but only a corner of the image; "
        f"scaled, the median RoI is {median:.2g} cells long",
        "save RoIs in image pixels, or give --spatial-scale 1",
    )  # fmt: skip


def _fits_in_cells(block: Block) -> Array:
    assert block.map_cells is not None
    return fits_inside(block.safe_corners, block.map_cells, 1.0)


def _count_distinct(rois: PlacedRois, most: int) -> int:
    """How many different boxes there are, counted up to ``most``."""
    seen: FloatArray = np.empty((0, 4))
    for block in rois.blocks():
        seen = np.unique(np.concatenate([seen, block.corners[block.usable]]), axis=0)[:most]
        if len(seen) >= most:
            break
    return len(seen)


def _sides_px(rois: PlacedRois) -> FloatArray:
    sides = [(b.corners[:, 2:] - b.corners[:, :2])[b.usable] for b in rois.blocks()]
    return np.concatenate(sides)


def _sides_in_cells(rois: PlacedRois) -> FloatArray:
    return np.concatenate([(b.cells[:, 2:] - b.cells[:, :2])[b.usable] for b in rois.blocks()])


def _has_several_images(rois: PlacedRois) -> bool:
    batch = rois.table.batch[rois.is_usable]
    return bool(batch.min() != batch.max())


# Wholly outside -------------------------------------------------------------------------------


def find_fitting(rois: PlacedRois) -> list[str]:
    """In words, the readings under which most RoIs are inside; none where there is no such one.

    A scale that was said and is not above 1 is trusted at first: exchanged axes and other layouts
    of the maps are looked for with it, and only then other scales.
    """
    place = rois.places[0]
    if (scaled := _fitting_roi_scale(rois)) is not None:
        return [scaled]
    doubtful = place.spatial_scale > 1 or place.scale_from == NO_SCALE
    for factor in _factors(place.spatial_scale, doubtful):
        if inside := count_fitting(rois, factor, corners_of, map_cells_of):
            return _describe_scale(rois, factor, inside)
        if (doubtful or factor == 1) and (found := _fitting_layouts(rois, factor)):
            return found
    return []


def _factors(scale: float, doubtful: bool) -> list[float]:
    """What the scale may have to be multiplied by: itself or its inverse, then finer first."""
    strides = [1 / (stride * scale) for stride in STRIDES_TRIED]
    first = [1.0] if not doubtful else [1 / scale**2] if scale > 1 else []
    return first + [factor for factor in strides if factor < 1]


def _describe_scale(rois: PlacedRois, factor: float, inside: str) -> list[str]:
    place = rois.places[0]
    scales = ",".join(_show_scale(p.spatial_scale * factor) for p in rois.places)
    if place.spatial_scale > 1 and "stride" in place.scale_from:
        return [
            f"{place.scale_from} {1 / place.spatial_scale:g} is below 1; {scales} puts {inside}"
        ]
    if place.spatial_scale > 1:
        return [f"{place.scale_from} {place.spatial_scale:g} is over 1; {scales} puts {inside}"]
    if place.scale_from == NO_SCALE:
        return [f"no --spatial-scale was given; {scales} puts {inside}"]
    said = f"{place.scale_from} is {_show_scale(place.spatial_scale)}; {scales} puts {inside}"
    if rois.table.roi_scale is not None:
        return [said]
    resized = (
        "the RoIs are in pixels of the image before it was resized for the network: add "
        "--roi-scale, the network's size over the image's"
    )
    return [said, resized]


def _fitting_roi_scale(rois: PlacedRois) -> str | None:
    """In words, what fits in place of the --roi-scale that was given; None where that is none."""
    if rois.table.roi_scale is None:
        return None

    def stored(block: Block) -> FloatArray:
        assert block.roi_scale is not None
        return np.asarray(block.safe_corners / block.roi_scale)

    def inverse(block: Block) -> FloatArray:
        assert block.roi_scale is not None
        return np.asarray(stored(block) / block.roi_scale)

    for words, corners in (("without --roi-scale", stored), ("--roi-scale inverted", inverse)):
        if inside := count_fitting(rois, 1.0, corners, map_cells_of):
            return f"{words} puts {inside}"
    return None


def find_resized(rois: PlacedRois) -> str | None:
    """What to do where all RoIs would be inside, if they were of a larger image; None else."""
    if rois.table.roi_scale is not None or rois.usable == 0 or len(rois.crossed):
        return None
    low, _ = rois.bounds()
    if low.min() < 0:
        return None
    most = min(float(np.min(_room(block), initial=np.inf)) for block in rois.blocks())
    if not 0 < most < 1:
        return None
    return (
        "where they are in pixels of the image before it was resized for the network, add "
        f"--roi-scale, the network's size over the image's: all are inside from {_floor(most)} on "
        "down"
    )


def _room(block: Block) -> FloatArray:
    """(k, 2) what the far corners may be multiplied by to stay inside."""
    far = block.safe_corners[:, 2:]
    extent = np.broadcast_to(block.extent_px, far.shape)
    with np.errstate(over="ignore"):  # of a corner that is as good as 0
        room = extent / np.maximum(far, np.finfo(np.float64).tiny)
    return np.where(far > 0, room, np.inf)


def _floor(value: float) -> str:
    """Three digits, not above the value."""
    digits = 10.0 ** (2 - np.floor(np.log10(value)))
    return f"{np.floor(value * digits) / digits:.3g}"


def _show_scale(scale: float) -> str:
    """1/16 where the stride is whole, else the number."""
    stride = 1 / scale
    whole = stride > 1 and abs(stride - round(stride)) < 1e-6 * stride
    return f"1/{round(stride)}" if whole else f"{scale:g}"


def _exchanged(block: Block) -> FloatArray:
    return block.safe_corners[:, SWAPPED]


def _fitting_layouts(rois: PlacedRois, factor: float) -> list[str]:
    """Exchanged axes of RoIs and maps, and channels last, where they put most RoIs inside."""
    scale = "" if factor == 1 else _show_scale(rois.places[0].spatial_scale * factor)
    with_scale = f"with --spatial-scale {scale} " if scale else ""
    found = []
    if inside := count_fitting(rois, factor, _exchanged, map_cells_of):
        first, second = _ways_to_exchange(rois)
        found += [f"{with_scale}x and y exchanged put {inside}: {first}", second]
    if other := find_order(rois, factor, FILLED_SHARE):
        found.append(f"{with_scale}{other.described()}")
    return found


def draft_of(rois: PlacedRois, rows: IntArray, message: str, advice: str) -> Draft:
    """A finding about ``rows`` of the RoIs."""
    return Draft(len(rows), rows, message, advice, "RoIs", rois.table.name)
