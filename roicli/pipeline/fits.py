"""How many RoIs are inside their maps, as they are read or as they may be read instead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from roicli.core.types import FloatArray
from roicli.pipeline.roi_table import Block, PlacedRois, fits_inside

# Fewer RoIs than this may be outside on purpose: operators' own test cases are.
FEWEST_REFUSED = 10
# RoIs fill most of the image that they were found in.
FILLED_SHARE = 0.6
# A reading explains RoIs that lie outside where it puts this share of them inside.
SHARE_FITTING = 0.9


def count_fitting(
    rois: PlacedRois,
    factor: float,
    corners: Callable[[Block], FloatArray],
    cells: Callable[[Block], FloatArray],
    filled: float = 0.0,
) -> str:
    """``15 of 15 inside`` where most are, with the scale times ``factor``; "" where they are not.

    They must reach over the share ``filled`` of both sides.
    """
    inside, reach = 0, np.zeros(2)
    for block in rois.blocks():
        assert block.scale is not None
        boxes = corners(block)[block.usable] * block.scale[block.usable] * factor
        extent = cells(block)[block.usable]
        inside += int(np.count_nonzero(fits_inside(boxes, extent, 1.0)))
        reach = np.maximum(reach, (boxes[:, 2:] / extent).max(axis=0, initial=0.0))
    fits = inside >= SHARE_FITTING * rois.usable and np.all(reach >= filled)
    return f"{inside:,} of {rois.usable:,} inside" if fits else ""


def corners_of(block: Block) -> FloatArray:
    """(k, 4) corners as they are read; 0 where the RoI is not usable."""
    return block.safe_corners


def map_cells_of(block: Block) -> FloatArray:
    """(k, 2) width and height of the RoIs' maps as they are read."""
    assert block.map_cells is not None
    return block.map_cells
