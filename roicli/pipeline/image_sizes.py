"""``image_sizes`` beside the maps: how images were resized for the network, and whether RoIs were.

The dataset (N, 2, 2) holds the original and the network's height and width of each image. RoIs are
multiplied by what that comes to only where they can be in no other pixels than the original's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.types import Array, FloatArray
from roicli.pipeline.roi_table import RoiTable, fits_inside, is_image_number
from roicli.storage.address import parse_address
from roicli.storage.open import open_array

if TYPE_CHECKING:
    from roicli.pipeline.features import FeaturePyramid
    from roicli.pipeline.roi_scale import RoiScale

logger = logging.getLogger("roicli")

DATASET = "image_sizes"
# Boxes and sizes are rounded to whole pixels here and there.
SLACK_PX = 1.0


def find_size_scale(table: RoiTable, pyramid: FeaturePyramid) -> RoiScale | None:
    """The scale of the RoIs by the sizes beside the maps; None where they are in place already.

    Raises InputError where they may be in either kind of pixels.
    """
    address = pyramid.levels[0].stored.beside(DATASET)
    if address is None or len(table) == 0:
        return None
    stored = open_array(parse_address(address), "any")
    try:
        if stored.shape != (pyramid.images, 2, 2):
            logger.info(
                f"{address}: has shape {stored.shape}, expected ({pyramid.images}, 2, 2), original "
                f"and network height and width: not used, RoIs are taken to be in network pixels"
            )
            return None
        original, network = np.moveaxis(stored.read_all().astype(np.float64), 1, 0)
        files = stored.files
    finally:
        stored.close()
    from roicli.pipeline.roi_scale import OPTION, RoiScale  # few files have them

    if not _are_of_the_maps(network, pyramid):
        logger.info(
            f"{address}: its second sizes are not those of the maps: not used, RoIs are taken to "
            "be in network pixels"
        )
        return None
    if np.array_equal(original, network):
        return None
    in_original, in_network = (_all_inside(table, sizes) for sizes in (original, network))
    if in_original and in_network:
        shown = " to ".join(f"{h:g} x {w:g}" for h, w in (original[0], network[0]))
        raise InputError(
            f"{table.name}: RoIs may be in pixels of the original images or of the network's: "
            f"{address} says that these were resized (the first from {shown} px, height x width), "
            "and all RoIs are inside both",
            f"add {OPTION} {address} where they are the original's, {OPTION} 1 where the network's",
        )
    if not in_original:
        return None
    return RoiScale((network / original)[:, ::-1], address, files)


def _are_of_the_maps(network: FloatArray, pyramid: FeaturePyramid) -> bool:
    """Whether no image is larger than what the finest map covers, but for a cell."""
    level = pyramid.levels[0]
    extent = (np.array(level.shape[2:]) + 1) / level.spatial_scale
    return bool(np.all((network > 0) & (network <= extent)))


def _all_inside(table: RoiTable, sizes: FloatArray) -> bool:
    """Whether every RoI on an image that there is lies inside the image's size."""
    known = is_image_number(table.batch, len(sizes)) & np.isfinite(table.corners).all(axis=1)
    extent: Array = sizes[table.batch[known].astype(np.int64), ::-1]
    return bool(fits_inside(table.corners[known], extent, SLACK_PX).all())
