"""Rules that guess a mistake from what the RoIs look like, and say why.

A guess speaks only where the RoIs cannot be what they are read as, and would all be fine under one
other reading. RoIs inside their image with ordered corners never meet R07, R09 or R11.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np

from roicli.analysis.check.facts import images_of, is_crossed, is_image_number
from roicli.analysis.check.inputs import CheckedInputs, RoiTable
from roicli.analysis.check.records import Draft, Limits
from roicli.core.types import Array, FloatArray
from roicli.core.vocabulary import RoiFormat
from roicli.pipeline.validation import find_outside, to_corners

# A stray row is no pattern: so many rows, and this share of all, must not make sense as read.
FEWEST_ROWS = 2
SHARE_SWAPPED = 0.05
SHARE_OTHER_FORMAT = 0.1
# Normalized coordinates end at 1; a box may reach a little past its image.
NORMALIZED_MOST = 1.05
SMALLEST_IMAGE_PX = 8
# Coordinates in cells: below stride 4 RoIs in one corner of the image are too likely.
COARSEST_SCALE_GUESSED = 0.25
FEWEST_IN_CELLS = 5
MANY_IN_CELLS = 20
SPAN_IN_CELLS = 0.7
FULL_SPAN_IN_CELLS = 0.9
SMALL_SIDE_CELLS = 2.0
SPREAD_SIDE = 0.5


def has_centre_outside(corners: FloatArray, extent: FloatArray) -> Array:
    """(K,) whether a RoI's centre is outside ``extent`` (width, height), once or a row (K, 2)."""
    centre = corners[:, :2] / 2 + corners[:, 2:] / 2
    found: Array = np.any((centre < 0) | (centre > extent), axis=1)
    return found


def fits_inside(corners: FloatArray, extent: FloatArray, slack: FloatArray | float) -> Array:
    """(K,) whether a RoI is ordered and inside the extent, but for ``slack`` on every edge."""
    partly, wholly = find_outside(corners, extent, slack)
    found: Array = ~(partly | wholly | is_crossed(corners))
    return found


def find_swapped_axes(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R07: centres leave a map that is not square, and with x and y exchanged everything fits."""
    rois, corners, extent, cell = _usable(inputs)
    if len(corners) == 0 or np.all(extent[:, 0] == extent[:, 1]):
        return
    outside = has_centre_outside(corners, extent)
    if outside.sum() < max(FEWEST_ROWS, SHARE_SWAPPED * len(corners)):
        return
    if not fits_inside(corners[:, [1, 0, 3, 2]], extent, cell).all():
        return
    width, height = extent[0]
    yield _draft(
        inputs, rois, outside,
        f"RoIs look as if x and y were exchanged: their centres are outside the {width:g} x "
        f"{height:g} px (width x height) that the map covers, and exchanged all {len(corners)} "
        "are inside",
        "save RoIs as batch_index, x1, y1, x2, y2 (TensorFlow has y1, x1, y2, x2)",
    )  # fmt: skip


def find_normalized(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R08: every coordinate is a fraction, on an image of many pixels."""
    rois, corners, extent, _ = _usable(inputs)
    if len(corners) == 0 or extent.min() < SMALLEST_IMAGE_PX:
        return
    in_unit = corners.min() >= 1 - NORMALIZED_MOST and corners.max() <= NORMALIZED_MOST
    # Whole numbers up to 1 are corner pixels, or rows that only fill up a batch.
    if not in_unit or np.all(corners == np.floor(corners)):
        return
    width, height = extent[0]
    yield _draft(
        inputs, rois, np.ones(len(corners), bool),
        f"RoIs look normalized: every coordinate is from {corners.min():.3g} to "
        f"{corners.max():.3g}, and the map covers {width:g} x {height:g} px (width x height)",
        "add --normalized --image-size HEIGHTxWIDTH",
    )  # fmt: skip


def find_other_format(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R09: rows make no sense in the format that was said, and all make sense in another."""
    rois, corners, extent, cell = _usable(inputs)
    # A first column that names no image moves every coordinate: R11's matter, not a format.
    strays = ~is_image_number(rois.batch, images_of(inputs))
    if strays.sum() >= max(FEWEST_ROWS, SHARE_OTHER_FORMAT * len(corners)):
        return
    if rois.roi_format == "xyxy":
        wrong = is_crossed(corners)
    else:
        wrong = ~fits_inside(corners, extent, cell)
    if wrong.sum() < max(FEWEST_ROWS, SHARE_OTHER_FORMAT * len(corners)):
        return
    numbers = rois.numbers[inputs.usable]
    fitting = []
    for word in get_args(RoiFormat):
        other, _ = to_corners(numbers, np.zeros_like(numbers), word, rois.normalized_to)
        if word != rois.roi_format and fits_inside(other, extent, cell).all():
            fitting.append(word)
    if not fitting:
        return
    found = "have crossed corners" if rois.roi_format == "xyxy" else "leave the map"
    yield _draft(
        inputs, rois, wrong,
        f"RoIs look like {' or '.join(fitting)}: read as {rois.roi_format} these {found}, read as "
        f"{fitting[0]} all {len(corners)} are ordered and inside the image",
        f"add --roi-format {fitting[0]}",
    )  # fmt: skip


def find_already_in_cells(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R10: the RoIs fill the map's own cells, in the first corner of the image, and are tiny."""
    rois, corners, _, _ = _usable(inputs)
    assert inputs.scale is not None
    assert inputs.map_cells is not None
    assert inputs.pyramid is not None
    if len(corners) < FEWEST_IN_CELLS or inputs.scale.max() > COARSEST_SCALE_GUESSED:
        return
    cells_of_map = inputs.map_cells[inputs.usable]
    if not fits_inside(corners, cells_of_map, 1.0).all():
        return
    distinct = len(np.unique(corners, axis=0))
    if distinct < FEWEST_IN_CELLS:
        return
    span = (corners[:, 2:].max(axis=0) - corners[:, :2].min(axis=0)) / cells_of_map.max(axis=0)
    side = inputs.cells[inputs.usable, 2:] - inputs.cells[inputs.usable, :2]
    if span.min() < SPAN_IN_CELLS:
        return
    median = np.median(side.max(axis=1))
    if median >= SMALL_SIDE_CELLS:
        # Of a sensible size, so only what else is telling: many, or of several images, and spread
        # over the corner rather than around one object in it.
        images = len(np.unique(rois.batch[inputs.usable]))
        many = distinct >= MANY_IN_CELLS and span.min() >= FULL_SPAN_IN_CELLS
        raw_side = np.median(corners[:, 2:] - corners[:, :2], axis=0) / cells_of_map.max(axis=0)
        if not (many or images > 1) or np.any(raw_side > SPREAD_SIDE * span):
            return
    height, width = inputs.pyramid.levels[0].shape[2:]
    yield _draft(
        inputs, rois, np.ones(len(corners), bool),
        f"RoIs look as if they were in cells already: all lie within {corners.max():.4g} of the "
        f"origin, which fills the map's {width} x {height} cells but only a corner of the image; "
        f"scaled, the median RoI is {median:.2g} cells long",
        "save RoIs in image pixels, or give --spatial-scale 1",
    )  # fmt: skip


def find_batch_index_last(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R11: the first column names no image, the last one does, and the rest are corners inside."""
    rois, corners, extent, cell = _usable(inputs)
    images = images_of(inputs)
    wrong = ~is_image_number(rois.batch, images)[inputs.usable]
    if wrong.sum() < max(FEWEST_ROWS, SHARE_OTHER_FORMAT * len(corners)):
        return
    numbers, batch = rois.numbers[inputs.usable], rois.batch[inputs.usable]
    shifted = np.column_stack([batch, numbers[:, :3]])
    if not (np.isfinite(shifted).all() and is_image_number(numbers[:, 3], images).all()):
        return
    moved, _ = to_corners(shifted, np.zeros_like(shifted), rois.roi_format, rois.normalized_to)
    if not fits_inside(moved, extent, cell).all():
        return
    yield _draft(
        inputs, rois, wrong,
        "RoIs look as if the batch index stood in the last column: it holds image numbers only, "
        "the first column does not, and the four before it are corners inside the image",
        "move the last column to the front: rois[:, [4, 0, 1, 2, 3]]",
    )  # fmt: skip


def _usable(inputs: CheckedInputs) -> tuple[RoiTable, FloatArray, FloatArray, FloatArray]:
    """The RoIs; and of the usable ones corners (K, 4), extent (K, 2) and one cell (K, 1), in px."""
    assert inputs.rois is not None
    assert inputs.scale is not None
    usable = inputs.usable
    return (
        inputs.rois,
        inputs.rois.corners[usable],
        inputs.extent_px[usable],
        1 / inputs.scale[usable][:, None],
    )


def _draft(
    inputs: CheckedInputs, rois: RoiTable, chosen: Array, message: str, advice: str
) -> Draft:
    """A draft on the ``chosen`` of the usable RoIs."""
    rows = np.flatnonzero(inputs.usable)[chosen]
    return Draft(len(rows), rows.tolist(), message, advice, "RoIs", rois.name)
