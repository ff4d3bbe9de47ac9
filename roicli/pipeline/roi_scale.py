"""What RoIs' coordinates are multiplied by: network pixels for each pixel that they are stored in.

Boxes of data sets are in pixels of the image as it was taken, and networks see it resized.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import field
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray
from roicli.storage.address import split_name
from roicli.storage.array import StoredArray
from roicli.storage.exchange import open_object
from roicli.storage.file_state import FileState
from roicli.storage.limits import check_memory

logger = logging.getLogger("roicli")

OPTION = "--roi-scale"
SHAPES = (
    "(N,), a number an image; (N, 2), x and y; (N, 4), x, y, x, y; or (N, 2, 2), original and "
    "network height and width"
)
# Of an image's network and original size: a scale beyond these was meant another way.
LEAST, MOST = 1e-6, 1e6


@frozen
class RoiScale:
    """``factors`` (1, 2) for all images or (N, 2), an image each, of x and y; ``name`` says whose.

    ``files`` are those that they were read from.
    """

    factors: FloatArray
    name: str
    files: Mapping[str, FileState] = field(default_factory=dict)

    def of(self, batch: FloatArray) -> FloatArray:
        """(k, 4) or (1, 4) for x1, y1, x2, y2 of RoIs on the images ``batch`` (k,).

        Of a RoI whose image there is none of, those of some image.
        """
        pair = self.factors
        if len(pair) > 1:
            known = (batch >= 0) & (batch < len(pair))
            pair = pair[np.where(known, batch, 0).astype(np.int64)]
        return np.tile(pair, 2)

    @property
    def is_one(self) -> bool:
        """Whether it is one pair for all images."""
        return len(self.factors) == 1

    def __str__(self) -> str:
        """The factor, or from where to where."""
        low, high = self.factors.min(axis=0), self.factors.max(axis=0)
        sides = [f"{a:g}" if a == b else f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True)]
        return sides[0] if sides[0] == sides[1] else f"{sides[0]} in x, {sides[1]} in y"

    def announce(self, rois: str) -> None:
        """Say what is done to the RoIs, and what pixels are from there on."""
        whose = "" if self.name == OPTION else f" of {self.name}"
        logger.info(
            f"{rois}: coordinates times {self}{whose} ({OPTION}): errors, sizes and pictures are "
            "in the network's pixels"
        )

    def describe(self) -> dict[str, Any]:
        """What a result's parameters say of it: both factors, or whose they are."""
        if self.is_one:
            return {"roi_scale": self.factors[0].tolist()}
        name, dataset = split_name(self.name)
        return {"roi_scale_name": name, "roi_scale_dataset": dataset}


def open_roi_scale(given: Any, images: int | None, last_image: float) -> RoiScale:
    """What ``--roi-scale`` says: numbers, an address, or an array.

    ``images`` is how many maps there are, None where that is unknown; ``last_image`` the largest
    batch index. Raises InputError.
    """
    if isinstance(given, tuple):
        return RoiScale(np.array([given], np.float64), OPTION)
    stored = open_object(given, "roi_scale", "scale")
    try:
        return read_roi_scale(stored, images, last_image)
    finally:
        stored.close()


def read_roi_scale(stored: StoredArray, images: int | None, last_image: float) -> RoiScale:
    """Factors, or sizes, of every image. Raises InputError."""
    check_memory(stored.name, "the scales", 8 * int(np.prod(stored.shape, dtype=np.float64)))
    values = stored.read_all().astype(np.float64)
    factors = _as_factors(values, stored.name)
    bad = np.flatnonzero(~((factors >= LEAST) & (factors <= MOST)).all(axis=1))
    if len(bad):
        raise InputError(
            f"{stored.name}: item {bad[0]} is {values[bad[0]].tolist()}, expected positive, finite "
            "numbers: network pixels for each pixel of the RoIs"
        )
    expected = images if images is not None else int(max(last_image, 0)) + 1
    enough = len(factors) in (1, expected) if images is not None else len(factors) >= expected
    if not enough:
        raise InputError(
            f"{stored.name}: has scales of {len(factors):,} images, and there are {expected:,}",
            "give one (or two, x and y) for each image, in the order of FEATURES",
        )
    return RoiScale(factors, stored.name, stored.files)


def _as_factors(values: Array, name: str) -> FloatArray:
    """(N, 2) factors of x and y from what files hold (``SHAPES``)."""
    shape = values.shape
    if len(shape) == 3 and shape[1:] == (2, 2):
        original, network = values[:, 0], values[:, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((network / original)[:, ::-1])
    if len(shape) == 2 and shape[1] == 4 and np.array_equal(values[:, :2], values[:, 2:]):
        return np.asarray(values[:, :2])
    if len(shape) == 2 and shape[1] == 2:
        return np.asarray(values)
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return np.repeat(values.reshape(-1, 1), 2, axis=1)
    if len(shape) == 0:
        return np.full((1, 2), values)
    raise InputError(f"{name}: scales have shape {shape}, expected {SHAPES}")
