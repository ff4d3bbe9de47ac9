"""Which order of the maps' axes RoIs fit that do not fit the one that they are read in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from typing import NamedTuple

import numpy as np

from roicli.core.parse import TOKENS
from roicli.core.types import FloatArray
from roicli.pipeline.draft import Draft
from roicli.pipeline.fits import (
    FEWEST_REFUSED,
    FILLED_SHARE,
    corners_of,
    count_fitting,
    map_cells_of,
)
from roicli.pipeline.layout import AXES, rearrange
from roicli.pipeline.roi_table import NO_SCALE, Block, PlacedRois, is_image_number

SWAPPED_LETTERS, CHANNELS_LAST = "ncwh", "nhwc"
# Orders of axes that people store maps in, the more likely first.
LIKELY_LAYOUTS = (CHANNELS_LAST, "nchw", "nwhc", "hwcn", "whcn")
LAYOUTS = tuple(dict.fromkeys((*LIKELY_LAYOUTS, *map("".join, permutations(AXES)))))
LAYOUTS_OF_ONE = ("hwc", "chw", "whc", "hcw", "wch", "cwh")
# What a transformer has beside the tokens of cells: none, one of the class, and four registers.
TOKENS_OF_NO_CELL = (0, 1, 5)
# Of a map that is read wrongly RoIs fill less of a side than this; of the right one nearly all.
HALF_EMPTY, NEARLY_FULL = 0.52, 0.9
# Channels last that RoIs fill are likely, too, where they fill less than this of the maps as read.
NOT_FULL = 0.8
# So many RoIs, most of them outside, that fit another layout are no test case of an operator.
FEWEST_OF_A_LAYOUT = 5
# Of a map that RoIs leave as empty as this, channels last are likely where RoIs fill most of them.
NEARLY_EMPTY = 0.25


class Order(NamedTuple):
    """An order of the maps' axes, in words; ``inside`` how many RoIs it puts inside, ``option``
    what to add, or where no option reads it ``advice``.
    """

    words: str
    inside: str
    option: str = ""
    advice: str = ""

    def described(self) -> str:
        """What it explains, and what to do."""
        return f"maps {self.words} put {self.inside}: {self.option or self.advice}"


def find_order(rois: PlacedRois, factor: float, filled: float) -> Order | None:
    """The order of the maps' axes with which most RoIs are inside and fill the share ``filled`` of
    both sides; None where there is none.

    Which of the other axes is the images only their number tells: an order in which it is that of
    the images with RoIs goes before others.
    """
    held = rois.places[0].layout
    if any(place.shape is None for place in rois.places) or held.startswith(TOKENS):
        return None
    batch = rois.table.batch[rois.is_usable]
    last = int(batch[np.isfinite(batch)].max(initial=0))
    fitting: list[tuple[bool, str, Order]] = []
    for layout in LAYOUTS if len(held) == 4 else LAYOUTS_OF_ONE:
        letters = _letters_of(layout, held)
        if letters in (AXES, SWAPPED_LETTERS):
            continue
        if fitting and not _differ_by_images(layout, fitting[0][1]):
            continue
        images = [one.shape[letters.index("n")] for one in rois.places if one.shape is not None]
        order = _find_fitting(rois, layout, factor, filled) if min(images) > last else None
        if order is not None:
            fitting.append((all(one == last + 1 for one in images), layout, order))
    if not fitting:
        return _find_grid(rois, factor)
    # Images that all have RoIs are likelier than many that have none; then both are named.
    _, likely, chosen = next((one for one in fitting if one[0]), fitting[0])
    first = fitting[0][1]
    other = "" if likely == first else f" or --layout {first}"
    return chosen._replace(option=chosen.option + other)


def _letters_of(layout: str, held: str) -> str:
    """What the axes of ``layout`` would be, in the order in which they were read: (N, C, H, W)."""
    return "".join(layout[held.index(axis)] if axis in held else axis for axis in AXES)


def _find_fitting(rois: PlacedRois, layout: str, factor: float, filled: float) -> Order | None:
    """A layout as an order, where most RoIs are inside and fill that share of both sides."""
    letters = _letters_of(layout, rois.places[0].layout)
    moved = letters.index("c") - AXES.index("h")
    for place in rois.places:
        if place.sizes is None:
            continue
        seen = place.sizes[place.sizes[:, 0] > 0]
        if letters[0] != "n" or (moved >= 0 and np.ptp(seen[:, moved])):
            return None  # images have the first axis, and the same channels
    sides = np.array([place.shape[:2] for place in rois.places if place.shape is not None])
    height, width = (letters.index(axis) for axis in "hw")

    def read_so(block: Block) -> FloatArray:
        found = np.concatenate([sides[block.place], map_cells_of(block)[:, ::-1]], axis=1)
        return np.asarray(found[:, [width, height]], np.float64)

    if not (inside := count_fitting(rois, factor, corners_of, read_so, filled)):
        return None
    words = "with channels last" if letters == CHANNELS_LAST else f"read as {layout}"
    return Order(words, inside, f"--layout {layout}")


def has_shape_of_channels_last(shape: Sequence[int]) -> bool:
    """Whether (N, C, H, W) has an odd square in front and a usual number of channels behind:
    (50, 50, 256).
    """
    _, first, second, last = shape
    odd = first == second and first >= 7 and first % 16 != 0
    return odd and last % 64 == 0 and last >= 2 * first


def _differ_by_images(one: str, other: str) -> bool:
    """Whether two layouts have their height and width in the same places."""
    return [one.index(axis) for axis in "hw"] == [other.index(axis) for axis in "hw"]


def _find_grid(rois: PlacedRois, factor: float) -> Order | None:
    """As ``find_order``, of tokens (N, L, D), or flat maps (N, D, L), whose L cells are a grid that
    RoIs fill on both sides.
    """
    place = rois.places[0]
    if len(rois.places) > 1 or place.shape is None or len(place.layout) != 3:
        return None
    if place.sizes is not None:
        return None
    images, second, last = (place.shape[AXES.index(axis)] for axis in place.layout)
    if not is_image_number(rois.table.batch, images).all():
        return None
    least = max(int(reach_in_cells(rois)[1] * factor), 1)
    for cells, is_last in ((second, False), (last, True)):
        for extra, height in product(TOKENS_OF_NO_CELL, range(least, 2 * least + 2)):
            width, rest = divmod(cells - extra, height)
            if rest or width < 1 or not (inside := _fill(rois, factor, height, width)):
                continue
            if is_last:
                words = f"read as (N, D, L), L being {height} x {width} cells,"
                advice = f"save them as (N, C, H, W): ({images}, {second}, {height}, {width})"
                return Order(words, inside, advice=advice)
            words = f"read as tokens of {height} x {width} cells"
            more = f", saved without the {extra} that stand for no cell" if extra else ""
            return Order(words, inside, f"--layout tokens:{height}x{width}{more}")
    return None


def _fill(rois: PlacedRois, factor: float, height: int, width: int) -> str:
    """As ``count_fitting``, of RoIs that fill maps of this size."""
    cells = np.array([width, height], np.float64)

    def read_so(block: Block) -> FloatArray:
        return np.broadcast_to(cells, (len(block.batch), 2))

    return count_fitting(rois, factor, corners_of, read_so, NEARLY_FULL)


def describe_other_layout(rois: PlacedRois) -> list[str]:
    """In words, the order of the maps' axes that RoIs fit which lie outside as these are read."""
    place = rois.places[0]
    trusted = place.spatial_scale <= 1 and place.scale_from != NO_SCALE
    if not trusted or rois.usable < FEWEST_OF_A_LAYOUT:
        return []
    found = find_order(rois, 1.0, FILLED_SHARE)
    return [] if found is None else [found.described()]


def find_other_layout(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R14: maps whose axes seem to have another order, such as (N, H, W, C).

    Here by the RoIs that leave half of them empty, or by these and the shape; ``check`` tells it
    also by the values, or by the shape alone.
    """
    if rois.usable == 0:
        return
    fits = count_fitting(rois, 1.0, corners_of, map_cells_of)
    if not fits and len(rois.rows(lambda block: block.outside[1])):
        return  # of RoIs that lie wholly outside R05 says why
    reach, many = float(_reach(rois).min()), rois.usable >= FEWEST_REFUSED
    if reach >= NOT_FULL or (other := _find_filled(rois, reach)) is None:
        return
    height, width = rois.places[0].map_size or (0, 0)
    advice = f"add {other.option}" if other.option else other.advice
    yield Draft(
        len(rois), np.flatnonzero(rois.is_usable),
        f"maps look as if their axes had another order: RoIs reach over {100 * reach:.0f} % of a "
        f"side of the {height} x {width} cells (height x width), and maps {other.words} fit",
        f"{advice} where that is their order", "RoIs", rois.table.name,
        "error" if many and reach < HALF_EMPTY else "warning",
    )  # fmt: skip


def _find_filled(rois: PlacedRois, reach: float) -> Order | None:
    """The order of axes in which RoIs fill the maps of which they ``reach`` over half of a side;
    channels last also where that is more, or RoIs fill most of them, or the shape says so.
    """
    several, half_empty = rois.usable >= FEWEST_OF_A_LAYOUT, reach < HALF_EMPTY
    if several and half_empty and (other := find_order(rois, 1.0, NEARLY_FULL)) is not None:
        return other
    shapes = [place.shape for place in rois.places]
    layout = rois.places[0].layout
    if None in shapes or layout.startswith(TOKENS):
        return None
    last = rearrange(layout, CHANNELS_LAST)
    if not half_empty:
        likely = rois.usable >= FEWEST_REFUSED
        return _find_fitting(rois, last, 1.0, NEARLY_FULL) if likely else None
    if all(has_shape_of_channels_last(shape) for shape in shapes if shape is not None):
        return _find_fitting(rois, last, 1.0, 0.0)
    likely = several and reach <= NEARLY_EMPTY
    return _find_fitting(rois, last, 1.0, FILLED_SHARE) if likely else None


def reach_in_cells(rois: PlacedRois) -> FloatArray:
    """(2,) how far RoIs reach in x and in y, in cells."""
    reach = [block.cells[block.usable, 2:].max(axis=0, initial=0.0) for block in rois.blocks()]
    return np.asarray(np.max(reach, axis=0, initial=0.0))


def _reach(rois: PlacedRois) -> FloatArray:
    """(2,) the share of the maps' width and height that RoIs reach over."""
    found = np.zeros(2)
    for block in rois.blocks():
        reach = (block.cells[:, 2:] / map_cells_of(block))[block.usable]
        found = np.maximum(found, reach.max(axis=0, initial=0.0))
    return found
