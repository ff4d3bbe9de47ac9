"""What is wrong with RoIs on their maps: the rules that `check` reports and operators obey.

What is an error here is what every command refuses, and what ``check`` calls one; nothing else is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from roicli.core.exceptions import InputError, ParameterError
from roicli.core.vocabulary import Severity
from roicli.pipeline import axis_orders, column_orders, readings
from roicli.pipeline.draft import Draft, and_more
from roicli.pipeline.fits import FEWEST_REFUSED
from roicli.pipeline.roi_table import (
    FLOAT32_MAX,
    MAX_CELL,
    MAX_PIXEL,
    PlacedRois,
    is_image_number,
    reaches_too_far,
)
from roicli.pipeline.row_choice import FILLED
from roicli.storage.roi_columns import COORDINATE_NAMES

logger = logging.getLogger("roicli")

RULE_IDS = tuple(f"R{number:02}" for number in range(1, 20))
# Where one of these speaks, there is nothing to compute with.
NEEDED = ("R01", "R02", "R03", "R11", "R16")
LEAST_LOST_PX = 0.25
# Where more RoIs than this are outside, other orders of the maps' axes are tried.
SHARE_OUTSIDE = 0.25

Needs = Literal["rois", "maps"]


class RoiRule(NamedTuple):
    """One rule on RoIs. ``find`` is given the RoIs and how much of it is tolerated.

    ``needs`` is what it cannot do without, ``limit`` the option of ``check`` that says what is
    tolerated and ``tolerated`` its default. ``is_guess``: it infers a mistake from what the numbers
    look like.
    """

    id: str
    name: str
    severity: Severity
    needs: Needs
    find: Callable[[PlacedRois, float], Iterator[Draft]]
    is_guess: bool = False
    limit: str | None = None
    tolerated: float = 0.0


def find_padding(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R19: rows of zeros or of -1, which fill up arrays of one length.

    Those that cannot be computed with are R02's and R03's. Where all RoIs are zeros, that may be
    what they are.
    """
    table = rois.table
    zeros = rois.rows(lambda block: FILLED["zeros"](block.numbers))
    ones = rois.rows(
        lambda b: FILLED["-1"](b.numbers) & np.asarray(is_image_number(b.batch, rois.images))
    )
    for rows, filled in ((zeros, "zeros"), (ones, "-1")):
        if 0 < len(rows) < len(rois) or (filled == "-1" and len(rows)):
            yield Draft(
                len(rows), rows,
                f"row {table.number(rows[0])}: rows of {filled} only fill up the array"
                f"{and_more(rows)}",
                "--drop-invalid leaves them out", "RoIs", table.name,
            )  # fmt: skip
        elif len(rows) > 1:
            yield Draft(
                len(rows), rows, f"all {len(rows):,} RoIs are zeros",
                "where they only fill up the array, --drop-invalid leaves them out", "RoIs",
                table.name, "warning",
            )  # fmt: skip


def find_not_finite(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R02: NaN, infinity, and numbers past float32 or the operators' 32-bit cells."""
    rows = np.flatnonzero(~rois.is_usable)
    if len(rows) == 0:
        return
    table, row = rois.table, int(rows[0])
    words, advice = _describe_unusable(rois, row)
    if FILLED["NaN"](table.numbers[rows]).all():
        advice = "rows of NaN only fill up the array: --drop-invalid leaves them out"
    yield Draft(
        len(rows),
        rows,
        f"row {table.number(row)}, {words}{and_more(rows)}",
        advice,
        "RoIs",
        table.name,
    )


def _describe_unusable(rois: PlacedRois, row: int) -> tuple[str, str]:
    """The first column of a row that cannot be computed with, and what to do."""
    table = rois.table
    advice = "drop these rows; ONNX Runtime refuses them, or worse, gives zeros"
    fits = "a number that float32 can hold"
    for place, number in enumerate(table.numbers[row]):
        if not abs(number) <= FLOAT32_MAX:
            expected = fits if np.isfinite(number) else "a finite number"
            column = table.describe_coordinate(place)
            return f"{column}: found {number:g}, expected {expected}", advice
    if table.turned is not None and not np.isfinite(table.turned[row, 4]):
        angle = table.turned[row, 4]
        column = f"column {table.columns.angle} (angle)"
        return f"{column}: found {angle:g}, expected a finite number", advice
    corners, corner_names = table.corners[row], COORDINATE_NAMES["xyxy"]
    for name, number in zip(corner_names, corners, strict=True):
        if not abs(number) <= FLOAT32_MAX:  # a sum or product of two that fit need not fit
            return f"{name}, as corners in pixels: found {number:g}, expected {fits}", advice
    assert rois.map_of_roi is not None
    scale = rois.places[rois.map_of_roi[row]].spatial_scale
    place = int(np.argmax(reaches_too_far(corners[None], scale)[0]))
    x1, y1, x2, y2 = corners
    found = (x1, y1, x2, y2, x2 - x1, y2 - y1)[place]
    where = "long" if place >= 4 else "from the origin"
    words = (
        f"{(*corner_names, 'width', 'height')[place]}: found {found:g} px, which is "
        f"{abs(found) * scale:.3g} cells {where}, expected at most {MAX_CELL:.3g} cells and "
        f"{MAX_PIXEL:g} px"
    )
    return words, "check the coordinates and the spatial scale"


def find_bad_batch_index(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R03: batch indices that are not whole, or name no image."""
    table = rois.table
    rows = rois.rows(lambda block: ~is_image_number(block.batch, rois.images))
    if len(rows) == 0:
        return
    last = "" if rois.images is None else f" to {rois.images - 1}"
    yield Draft(
        len(rows), rows,
        f"row {table.number(rows[0])}, {table.image_place}: found {table.batch[rows[0]]:g}, "
        f"expected a whole number from 0{last}{and_more(rows)}",
        column_orders.explain_first_column(rois, rows), "RoIs", table.name,
    )  # fmt: skip


def find_crossed_corners(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R04: x2 < x1 or y2 < y1."""
    table = rois.table
    rows = rois.crossed
    if len(rows) == 0:
        return
    shown = ", ".join(f"{value:g}" for value in table.corners[rows[0]])
    fitting = column_orders.find_formats(rois)
    last = column_orders.find_last_column(rois)
    advice = "order the corners, or say what the numbers are with --roi-format"
    most = np.iinfo(table.dtype).max if table.dtype.kind in "iu" else np.inf
    if last:
        advice = last
    elif rois.knows_maps and most < max(block.extent_px.max() for block in rois.blocks()):
        advice = f"{table.dtype.name} holds numbers up to {most} only: save RoIs as float32"
    elif ways := _ways_to_read(rois, fitting):
        which = ", whichever the numbers are" if " or " in "".join(ways) or len(ways) > 1 else ""
        advice = f"add {' or '.join(ways)}{which}"
    yield Draft(
        len(rows), rows,
        f"{len(rows):,} of {len(rois):,} RoIs have crossed corners (x2 < x1 or y2 < y1): "
        f"row {table.number(rows[0])} has {shown}",
        advice, "RoIs", table.name,
    )  # fmt: skip


def _ways_to_read(rois: PlacedRois, formats: Sequence[str]) -> list[str]:
    """The options under which all RoIs make sense."""
    ways = [f"--roi-format {' or '.join(formats)}"] if formats else []
    ways += [f"--roi-columns {order}" for order in column_orders.find_column_orders(rois, False)]
    return ways or [f"--roi-columns {one}" for one in column_orders.find_column_orders(rois, True)]


def find_wholly_outside(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R05: RoIs that do not touch the image that their map covers; an error where most do not.

    ``tolerated`` is a share of the RoIs.
    """
    rows = rois.rows(lambda block: block.outside[1])
    most = len(rows) > len(rois) / 2
    many = len(rows) > SHARE_OUTSIDE * len(rois)
    layout = axis_orders.describe_other_layout(rois) if many else []
    is_error = bool(layout) or (most and len(rois) >= FEWEST_REFUSED)
    if len(rows) == 0 or (len(rows) <= tolerated * len(rois) and not is_error):
        return
    fitting = readings.find_fitting(rois) if most else readings.find_exchanged(rois) or layout
    resized = None if fitting else readings.find_resized(rois)
    advice = "; or ".join(fitting) or (
        "is --spatial-scale right? Outside the map RoI Align reads zeros or the border, RoI Pool "
        "nothing" + (f"; {resized}" if resized else "")
    )
    yield Draft(
        len(rows), rows,
        f"{len(rows):,} of {len(rois):,} RoIs lie wholly outside the {covered(rois, rows[0])} that "
        "the map covers",
        advice, "RoIs", rois.table.name, "error" if is_error else "warning",
    )  # fmt: skip


def covered(rois: PlacedRois, row: int | np.integer) -> str:
    """In words, what the map of a RoI covers of its image."""
    assert rois.map_of_roi is not None
    place = rois.places[rois.map_of_roi[row]]
    width, height = place.cells(rois.table.batch[row : row + 1])[0] / place.spatial_scale
    return f"{height:g} x {width:g} px (height x width)"


def find_lost_image(rois: PlacedRois, tolerated: float) -> Iterator[Draft]:
    """R13: batch indices that the RoIs' dtype gives to two images, and coordinates that it lost.

    ``tolerated`` is the number of pixels from which on a coordinate counts as lost.
    """
    table = rois.table
    yield from _find_lost_images(rois)
    lost = rois.rows(lambda block: block.usable & (block.error_px >= tolerated))
    if len(lost) == 0:
        return
    yield Draft(
        len(lost), lost,
        f"stored as {table.precision.name}, coordinates can be off by up to "
        f"{table.error_px[lost].max():.3g} px",
        "save RoIs as float32; what the dtype has lost does not come back", "RoIs", table.name,
    )  # fmt: skip


def _find_lost_images(rois: PlacedRois) -> Iterator[Draft]:
    table = rois.table
    precision = None if table.image is None else table.image.precision
    if precision is None or precision.mantissa_bits is None:
        return
    # Up to here every whole number is its own; the next one is stored as this one.
    last = 2.0 ** (precision.mantissa_bits + 1)
    if rois.images is not None and rois.images - 1 <= last:
        return
    # What names no map at all is R03's.
    rows = rois.rows(
        lambda block: is_image_number(block.batch, rois.images) & (block.batch >= last)
    )
    if len(rows):
        yield Draft(
            len(rows), rows,
            f"row {table.number(rows[0])}, {table.image_place}: found {table.batch[rows[0]]:g}, "
            f"which may be another image: {precision.name} holds whole numbers up to {last:g} only"
            f"{and_more(rows)}",
            f"make the RoIs again as float32, from numbers that never were "
            f"{precision.name}",
            "RoIs", table.name, "error",
        )  # fmt: skip


# In the order in which a command tells the first of them.
ROI_RULES: tuple[RoiRule, ...] = (
    RoiRule("R13", "dtype loses coordinates", "warning", "rois", find_lost_image,
            limit="max_coordinate_error", tolerated=LEAST_LOST_PX),
    RoiRule("R19", "padding", "error", "rois", find_padding),
    RoiRule("R11", "batch index last", "error", "maps", column_orders.find_batch_index_last,
            is_guess=True),
    RoiRule("R03", "batch index", "error", "rois", find_bad_batch_index),
    RoiRule("R02", "not finite", "error", "rois", find_not_finite),
    RoiRule("R08", "normalized", "error", "maps", readings.find_normalized, is_guess=True),
    RoiRule("R04", "crossed corners", "error", "rois", find_crossed_corners),
    RoiRule("R05", "wholly outside", "warning", "maps", find_wholly_outside, limit="max_outside"),
    RoiRule("R07", "x and y exchanged", "warning", "maps", readings.find_swapped_axes,
            is_guess=True),
    RoiRule("R14", "channels last", "warning", "maps", axis_orders.find_other_layout,
            is_guess=True),
    RoiRule("R09", "other format", "warning", "maps", column_orders.find_other_format,
            is_guess=True),
    RoiRule("R10", "scale applied twice", "warning", "maps", readings.find_already_in_cells,
            is_guess=True),
)  # fmt: skip


def lacks(rule: RoiRule, rois: PlacedRois) -> bool:
    """Whether the RoIs lack what the rule needs."""
    return rule.needs == "maps" and not rois.knows_maps


def obey(
    rois: PlacedRois,
    ignored: Collection[str] = (),
    needs: Sequence[Needs] = ("rois", "maps"),
    told: Collection[str] = (),
) -> tuple[str, ...]:
    """Raise InputError for the first rule that finds an error, and log what others warn of, once.

    ``needs`` chooses the rules by what they need, ``told`` are those that warned before; gives
    those that warn.
    """
    warnings: list[tuple[str, Draft]] = []
    for rule in ROI_RULES:
        if rule.id in ignored or rule.needs not in needs or lacks(rule, rois):
            continue
        for draft in rule.find(rois, rule.tolerated):
            if (draft.severity or rule.severity) == "error":
                way_out = f"; --ignore {rule.id} computes all the same"
                advice = draft.advice + ("" if rule.id in NEEDED else way_out)
                raise InputError(f"{draft.where}: {draft.message}", advice)
            warnings.append((rule.id, draft))
    for name, draft in warnings:
        if name not in told:
            logger.warning(f"{draft.where}: {draft.message}; {draft.advice}")
    return tuple(name for name, _ in warnings)


def check_ignored(names: Sequence[str]) -> tuple[str, ...]:
    """The rules that an operator is to ignore, like R05. Raises ParameterError.

    Rules that only ``check`` runs are fine, so that both can be given the same.
    """
    ignored = tuple(name.upper() for name in names)
    for name in ignored:
        if name not in RULE_IDS:
            raise ParameterError(
                f"there is no rule {name!r}, expected some of {RULE_IDS[0]} to {RULE_IDS[-1]}"
            )
        if name in NEEDED:
            free = ", ".join(sorted(rule.id for rule in ROI_RULES if rule.id not in NEEDED))
            raise ParameterError(
                f"rule {name} cannot be ignored: there is nothing to compute with then",
                f"these can: {free}",
            )
    return ignored
