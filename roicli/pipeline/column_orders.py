"""Which columns of RoIs may be others than they are read as: the format, their order, the image.

As ``readings``: a guess speaks only where RoIs cannot be what they are read as, and would all be
fine under one other reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np

from roicli.core.types import Array, IntArray
from roicli.core.vocabulary import RoiFormat
from roicli.pipeline.axis_orders import reach_in_cells
from roicli.pipeline.draft import Draft
from roicli.pipeline.readings import FEWEST_ROWS, NORMALIZED_MOST, draft_of, is_in_unit
from roicli.pipeline.roi_table import (
    Block,
    PlacedRois,
    RoiTable,
    fits_inside,
    is_image_number,
    to_corners,
)
from roicli.pipeline.row_choice import FILLED
from roicli.storage.roi_columns import COORDINATE_NAMES

# A stray row is no pattern: this share of all must not make sense as read.
SHARE_OTHER_FORMAT = 0.1
# So many rows show whether ids are few, or rows all alike.
MANY_ROWS = 1 << 20
# So many keys are shown one by one.
FEW_IMAGES = 3
# Orders of the four numbers that no --roi-format has, and arrays have: of corners, and with y first
# as KerasCV has them.
CORNER_ORDERS: tuple[tuple[RoiFormat, tuple[str, ...]], ...] = (
    ("xyxy", ("x1", "x2", "y1", "y2")), ("xyxy", ("x2", "y2", "x1", "y1")),
    ("xyxy", ("y1", "y2", "x1", "x2")),
)  # fmt: skip
SIZE_ORDERS: tuple[tuple[RoiFormat, tuple[str, ...]], ...] = (
    ("xywh", ("y", "x", "h", "w")), ("cxcywh", ("cy", "cx", "h", "w")),
)  # fmt: skip


# Another format -------------------------------------------------------------------------------


def find_other_format(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R09: rows make no sense in the format that was said, and all make sense in another."""
    fitting = find_formats(rois)
    if not fitting:
        return
    rows = _rows_of_no_sense(rois)
    is_corners = rois.table.roi_format == "xyxy"
    found = "have crossed corners" if is_corners else "leave the map"
    yield Draft(
        len(rows), rows,
        f"RoIs look like {' or '.join(fitting)}: read as {rois.table.roi_format} these {found}, "
        f"read as {fitting[0]} all {rois.usable:,} are ordered and inside the image",
        f"add --roi-format {' or '.join(fitting)}"
        + (", whichever the numbers are" if len(fitting) > 1 else ""),
        "RoIs", rois.table.name,
        # What nobody said, and does not fit, is not computed with.
        "error" if rois.table.columns.is_assumed else "warning",
    )  # fmt: skip


def find_formats(rois: PlacedRois) -> list[RoiFormat]:
    """The formats in which all RoIs make sense, where in the one that was said many do not."""
    # Beside an angle the numbers are what they are called.
    if not rois.knows_maps or rois.table.turned is not None:
        return []
    least = max(FEWEST_ROWS, SHARE_OTHER_FORMAT * rois.usable)
    if len(_rows_of_no_sense(rois)) < least:
        return []
    # A first column that names no image moves every coordinate: R11's matter, not a format.
    if rois.count(lambda block: ~is_image_number(block.batch, rois.images)) >= least:
        return []
    formats: tuple[RoiFormat, ...] = get_args(RoiFormat)
    return [word for word in formats if word != rois.table.roi_format and _fits_format(rois, word)]


def find_column_orders(rois: PlacedRois, with_sizes: bool) -> list[str]:
    """The columns that make sense in another order, for --roi-columns: the first of corners that
    do, or ``with_sizes`` those of a corner or a centre and a size.
    """
    columns = rois.table.columns
    if not rois.knows_maps or columns.are_named or rois.table.roi_format != "xyxy":
        return []
    found = []
    for word, names in SIZE_ORDERS if with_sizes else CORNER_ORDERS:
        order = [names.index(name) for name in COORDINATE_NAMES[word]]

        def fits(block: Block, order: list[int] = order, word: RoiFormat = word) -> Array:
            numbers = np.where(block.usable[:, None], block.numbers, 0.0)[:, order]
            corners = block.as_corners(numbers, word, rois.table.normalized_to)
            return fits_inside(corners, block.extent_px, block.cell_px)

        if rois.every(fits):
            found.append(",".join(names if columns.image is None else ("image", *names)))
    return found if with_sizes else found[:1]


def _rows_of_no_sense(rois: PlacedRois) -> IntArray:
    if rois.table.roi_format == "xyxy":
        return rois.crossed
    return rois.rows(
        lambda block: (
            block.usable & ~fits_inside(block.safe_corners, block.extent_px, block.cell_px)
        )
    )


def _fits_format(rois: PlacedRois, word: RoiFormat) -> bool:
    def fits(block: Block) -> Array:
        numbers = np.where(block.usable[:, None], block.numbers, 0.0)
        size = rois.table.normalized_to
        corners = block.as_corners(numbers, word, size)
        return fits_inside(corners, block.extent_px, block.cell_px)

    return rois.every(fits)


# The first column -----------------------------------------------------------------------------


def find_batch_index_last(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R11: the first column names no image, the last one does, and the rest are corners inside."""
    rows = rois.rows(lambda block: block.usable & ~is_image_number(block.batch, rois.images))
    if len(rows) < max(FEWEST_ROWS, SHARE_OTHER_FORMAT * rois.usable):
        return
    if not rois.every(lambda block: is_image_number(block.numbers[:, 3], rois.images)):
        return
    if not _fits_one_earlier(rois):
        return
    yield draft_of(
        rois, rows,
        "RoIs look as if the batch index stood in the last column: it holds image numbers only, "
        "the first column does not, and the four before it are corners inside the image",
        "add --roi-columns x1,y1,x2,y2,image",
    )  # fmt: skip


def _fits_one_earlier(
    rois: PlacedRois, normalized: bool = False, roi_format: RoiFormat | None = None
) -> bool:
    """Whether the first four columns are boxes inside the image, as pixels or as fractions; of the
    format that they are read in, or of another.
    """
    word = roi_format or rois.table.roi_format

    def fits(block: Block) -> Array:
        shifted = np.column_stack([block.batch, block.numbers[:, :3]])
        finite = np.asarray(np.isfinite(shifted).all(axis=1))
        shifted = np.where(finite[:, None], shifted, 0.0)
        size = None if normalized else rois.table.normalized_to
        if normalized:
            corners, _ = to_corners(shifted, np.zeros_like(shifted), word, None)
            fitting = fits_inside(corners, np.ones(2), NORMALIZED_MOST - 1)
        else:
            corners = block.as_corners(shifted, word, size)
            fitting = fits_inside(corners, block.extent_px, block.cell_px)
        return np.asarray(finite & fitting)

    return rois.every(fits)


def find_last_column(rois: PlacedRois, of_no_image: bool = False) -> str | None:
    """What to do where the last of five columns is no coordinate, but a score or an area.

    With ``of_no_image`` the first one names no image: then the last may be any number with which
    RoIs, as they are read, make no sense.
    """
    if not rois.knows_maps or rois.table.image is None or rois.usable == 0:
        return None
    if not rois.every(lambda block: (block.numbers[:, 3] >= 0) & (block.numbers[:, 3] <= 1)):
        if of_no_image and not rois.every(_fits_as_read) and _fits_one_earlier(rois):
            return (
                "the last column is no coordinate: they look like x1, y1, x2, y2 and a class, an "
                "area or a score; add --roi-columns x1,y1,x2,y2,_ (a name in place of _ keeps it)"
            )
        return None
    whole = rois.every(lambda block: block.batch == np.floor(block.batch))
    normalized = not whole and _fits_one_earlier(rois, normalized=True)
    if not (normalized or (not rois.every(is_in_unit) and _fits_one_earlier(rois))):
        return _find_last_of_format(rois) if of_no_image else None
    kind, said = "x1, y1, x2, y2", "--roi-columns x1,y1,x2,y2,score"
    if normalized:
        kind, said = f"normalized {kind}", f"{said} --normalized --image-size HEIGHTxWIDTH"
    return (
        f"the last column is no coordinate: they look like {kind} and a score or an area; add "
        f"{said}"
    )


def _find_last_of_format(rois: PlacedRois) -> str | None:
    """As ``find_last_column``, of a score behind numbers that are no corners."""
    formats: list[RoiFormat] = [one for one in get_args(RoiFormat) if one != rois.table.roi_format]
    ways = [
        f"--roi-columns {','.join(COORDINATE_NAMES[one])},score"
        for one in formats
        if not rois.every(is_in_unit) and _fits_one_earlier(rois, roi_format=one)
    ]
    if not ways:
        return None
    return f"the last column is no coordinate, but a score or an area: add {' or '.join(ways)}"


def _fits_as_read(block: Block) -> Array:
    return fits_inside(block.safe_corners, block.extent_px, block.cell_px)


def explain_first_column(rois: PlacedRois, rows: IntArray) -> str:
    """What to do where ``rows`` (k,) of the RoIs name no image: what the first column may be."""
    table, images = rois.table, rois.images
    where = "the image's number in FEATURES is from 0"
    told = _explain_none(table, rows)
    told = told or find_last_column(rois, of_no_image=True) or _find_tokens(rois)
    if told:
        return told
    if images == 1 and not table.columns.are_named and rois.every(_fits_as_read):
        where += (
            "; where the first column is a class or a score, add --roi-columns class,x1,y1,x2,y2"
        )
    if images is None or not np.all(is_image_number(table.batch, None)):
        return where
    low, high = table.batch.min(), table.batch.max()
    precision = None if table.image is None else table.image.precision
    bits = None if precision is None else precision.mantissa_bits
    if precision is not None and bits is not None and high >= 2.0 ** (bits + 1):
        # These are not the numbers that once were written.
        return (
            f"{precision.name} holds whole numbers up to {2.0 ** (bits + 1):g} only: make the RoIs "
            f"again as float32, from numbers that never were {precision.name}"
        )
    if low >= 1 and high == images:
        keys = ",".join(map(str, range(1, images + 1))) if images <= FEW_IMAGES else f"1..{images}"
        return f"images seem to be numbered from 1 (one-based): add --images {keys}; {where}"
    if len(np.unique(table.batch[:MANY_ROWS])) <= images:
        look = "these look like ids" if low >= images else "if these are ids"
        return f"{look}: --images says whose each map is, in order; {where}"
    return where


def _explain_none(table: RoiTable, rows: IntArray) -> str | None:
    """What to do where all ``rows`` are of no image, and may only fill up an array."""
    batch, numbers = table.batch[rows], table.numbers[rows]
    for name, is_none in (("-1", batch == -1), ("NaN", np.isnan(batch))):
        if is_none.all():
            padding = FILLED[name](numbers).all()
            what = f"rows of {name} only fill up the array" if padding else f"{name} is of no image"
            return f"{what}: --drop-invalid leaves them out"
    return None


def _find_tokens(rois: PlacedRois) -> str | None:
    """What to do where an array of three axes may hold maps of the images that are named: as
    tokens, where RoIs reach over no more cells than there are, or of one channel.
    """
    place = rois.places[0] if rois.places else None
    if place is None or place.shape is None or place.sizes is not None or len(place.layout) != 3:
        return None
    images, tokens = place.shape[1:3]
    if not is_image_number(rois.table.batch, images).all():
        return None
    read = f"FEATURES are read as one image of {images} channels"
    if rois.usable and reach_in_cells(rois).prod() > tokens:
        return f"{read}: of {images} images they would be (N, C, H, W), of one channel (N, 1, H, W)"
    return (
        f"{read}: if they are tokens (N, L, D) of {images} images, add --layout tokens:HxW, "
        f"{tokens} being H x W"
    )
