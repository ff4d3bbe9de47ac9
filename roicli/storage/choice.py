"""What an array is wanted for, and of a file's arrays the one that is taken for it."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from itertools import islice, pairwise, takewhile
from typing import Any, Literal, NamedTuple, assert_never

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.storage.address import IMAGE, Address
from roicli.storage.array import (
    Shape,
    as_stored,
    headings_of_dtype,
    is_numeric,
    is_record,
    name_of_dtype,
)
from roicli.storage.roi_columns import hold_boxes

logger = logging.getLogger("roicli")

Role = Literal["features", "rois", "vector", "scale", "result", "any"]
# What a network's levels are called, before their numbers.
LEVEL = r"(?i)(p|c|l|level|layer|stage|res|conv|block|blocks)[_.]?"
# What roicli names the features of its own results.
RESULT = "roi_features"


class Wanted(NamedTuple):
    """What an array is to be read as."""

    role: Role

    def __str__(self) -> str:
        """What fits, in words."""
        return {
            "features": "numeric and 4-D (N, C, H, W)",
            "rois": "numeric and 2-D with 5 columns",
            "vector": "numeric and 1-D",
            "scale": "numeric with a number or two an image",
            "result": "numeric",
            "any": "numeric",
        }[self.role]

    def fits(self, shape: Shape) -> bool:
        """Whether an array of this shape is taken where none is named."""
        match self.role:
            case "features":
                return len(shape) == 4
            case "rois":
                return len(shape) == 2 and shape[1] == 5
            case "vector":
                return len(shape) == 1
            case "scale":
                return len(shape) == 1 or (len(shape) == 2 and shape[1] == 2)
            case "result":
                return len(shape) > 0
            case "any":
                return True
            case _:
                assert_never(self.role)

    def may_fit(self, shape: Shape) -> bool:
        """Whether it is taken where nothing fits: one image's map, or boxes (K, 4) or
        (N, M, 4), or none at all.
        """
        match self.role:
            case "features":
                return len(shape) == 3
            case "rois":
                return shape == (0,) or (len(shape) in (2, 3) and shape[-1] == 4)
            case "vector" | "scale" | "result" | "any":
                return False
            case _:
                assert_never(self.role)

    def are_of_one_image(self, shapes: Sequence[Shape | None]) -> bool:
        """Whether arrays that fit may be one an image."""
        if self.role != "features":
            return self.role == "rois"
        return all(shape is not None and (len(shape) == 3 or shape[0] == 1) for shape in shapes)

    @property
    def preferred(self) -> str | None:
        """Of several arrays that fit, the one that roicli's own results have."""
        return RESULT if self.role == "result" else None


class Candidate(NamedTuple):
    """An array of a file: its name from the root, its shape (None: without values), its dtype.

    ``is_reversed``: MATLAB wrote it, for which its axes are the other way round.
    """

    name: str
    shape: Shape | None
    dtype: np.dtype[Any]
    is_reversed: bool = False

    def fits(self, wanted: Wanted) -> bool:
        """Whether it holds numbers in a shape that is wanted."""
        if self.shape is None or not self.is_numeric:
            return False
        return wanted.fits(self.shape) or (self.is_reversed and wanted.fits(self.shape[::-1]))

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers."""
        return is_numeric(as_stored(self.dtype))

    def is_table(self, wanted: Wanted) -> bool:
        """Whether it holds records that RoIs can be made of, where these are wanted."""
        if wanted.role != "rois" or not is_record(self.dtype):
            return False
        is_row = self.shape is not None and len(self.shape) == 1
        return is_row and hold_boxes(headings_of_dtype(self.dtype))

    def may_be(self, wanted: Wanted) -> bool:
        """Whether it holds numbers in a shape that is taken where nothing fits."""
        if self.shape is None or not self.is_numeric:
            return False
        shape = self.shape[::-1] if self.is_reversed and len(self.shape) == 2 else self.shape
        return wanted.may_fit(shape)

    def __str__(self) -> str:
        return f"{self.name} {self.shape} {name_of_dtype(as_stored(self.dtype))}"


# A file may have any number of arrays; a message names some.
NAMES_SHOWN = 20


def list_names(names: Collection[str]) -> str:
    """Some names of a file's arrays, for a message."""
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(foreign, islice(names, NAMES_SHOWN))) + more or "none"


def find_pyramid(found: Sequence[Candidate]) -> list[str]:
    """The names of maps that look like the levels of one pyramid, finest first; empty where they
    do not: images and channels are as many, and each level has half the cells of the one before.
    """
    maps = [(one.name.lstrip("/"), one.shape) for one in found if one.shape and len(one.shape) == 4]
    levels = sorted(((shape, foreign(name)) for name, shape in maps), reverse=True)
    steps = [_halves(finer, coarser) for (finer, _), (coarser, _) in pairwise(levels)]
    if len(maps) < len(found) or not steps or not all(steps):
        return []
    return [name for _, name in levels]


def _halves(finer: Shape, coarser: Shape) -> bool:
    """Whether a map has half the height and width of another, rounded up or down."""
    sides = zip(finer[2:], coarser[2:], strict=True)
    return finer[:2] == coarser[:2] and all(
        half in (side // 2, -(-side // 2)) for side, half in sides
    )


def find_pattern(names: Sequence[str]) -> str | None:
    """``box_{image}`` for box_0 and box_1: what differs, in one part of the names, is the image.

    Of ``1/p2``, ``1/p3``, ``2/p2`` and their kind it is that of the first; None without one.
    """
    every = [name.strip("/").split("/") for name in names]
    alike = [way for way in every if len(way) == len(every[0]) and way[-1] == every[0][-1]]
    ways = alike if len(alike) > 1 else every
    if len({len(way) for way in ways}) > 1:
        return None
    differing = [place for place, words in enumerate(zip(*ways, strict=True)) if len({*words}) > 1]
    if len(differing) != 1:
        return None
    words = [way[differing[0]] for way in ways]
    before = _common_start(words)
    behind = _common_start([word[len(before) :][::-1] for word in words])[::-1]
    if re.fullmatch(LEVEL, before):
        return None
    named = list(ways[0])
    named[differing[0]] = f"{before}{IMAGE}{behind}"
    return "/".join(named)


def _common_start(words: Sequence[str]) -> str:
    """What all begin with, without a number that may go on."""
    letters = (set(some) for some in zip(*words, strict=False))
    length = sum(1 for _ in takewhile(lambda some: len(some) == 1, letters))
    return words[0][:length].rstrip("0123456789")


def _note_larger_maps(
    address: Address, found: Sequence[Candidate], taken: Candidate, wanted: Wanted
) -> None:
    """Say what is taken where it may be a result, (K, C, 7, 7) beside the maps (C, H, W)."""
    if wanted.role != "features" or taken.shape is None:
        return
    side = max(taken.shape[2:])
    larger = [one for one in found if one.may_be(wanted) and min((one.shape or (0, 0))[1:]) > side]
    if larger:
        logger.info(
            f"{address}: taking {taken}, not {larger[0]}: where that is the map, name it: "
            f"{Address(address.path)}::{larger[0].name}"
        )


def choose_only(address: Address, found: Sequence[Candidate], wanted: Wanted) -> int:
    """The index of the only array that holds numbers and fits.

    Raises InputError where there is none, or more than one.
    """
    fitting = [index for index, candidate in enumerate(found) if candidate.fits(wanted)]
    if not fitting:
        fitting = [index for index, candidate in enumerate(found) if candidate.is_table(wanted)]
    if len(fitting) == 1:
        _note_larger_maps(address, found, found[fitting[0]], wanted)
        return fitting[0]
    if not fitting:
        # Nobody is to guess what was taken of a file that has no such array.
        others = [index for index, one in enumerate(found) if one.may_be(wanted)]
        if len(others) == 1:
            logger.info(f"{address}: no dataset is {wanted}, taking {found[others[0]]}")
            return others[0]
    if fitting:
        shown = list_names([str(found[index]) for index in fitting])
        hint = f"name one: {Address(address.path)}::{found[fitting[0]].name}"
        names = find_pyramid([found[index] for index in fitting])
        if names and wanted.role == "features":
            group = (address.dataset or "").strip("/") + "/"
            levels = ",".join(name.removeprefix(group) for name in names)
            hint += f", or make them a pyramid with --levels {levels}"
        elif wanted.are_of_one_image([found[index].shape for index in fitting]) and (
            pattern := find_pattern([found[index].name for index in fitting])
        ):
            hint += f"; one an image is written '{Address(address.path)}::{foreign(pattern)}'"
        raise InputError(f"{address}: {len(fitting)} datasets fit ({wanted}): {shown}", hint)
    shown = list_names(list(map(str, found)))
    turned = [
        one.name
        for one in found
        if one.shape is not None
        and one.is_numeric
        and wanted.fits(one.shape[::-1])
        and not one.may_be(wanted)
    ]
    advice = None
    if turned:
        advice = f"{turned[0]} fits with its axes reversed: MATLAB, Julia and R write arrays so"
    if len(others) > 1 and (pattern := find_pattern([found[index].name for index in others])):
        advice = f"one an image is written '{Address(address.path)}::{foreign(pattern)}'"
    raise InputError(f"{address}: no dataset is {wanted}; found: {shown}", advice)
