"""Which axis of a stored array is which: the maps' four, or three of one image, and the RoIs' two.

A layout is a word with a letter for each axis as the file holds them, the last changing fastest:
``nchw`` is what the operators take, ``ncwh`` what a column-major writer (MATLAB, Julia, R) makes of
(H, W, C, N). Where nobody says, the file may: by MATLAB's mark, or by the names of its dimensions.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.parse import AUTO, TOKENS, parse_grid
from roicli.storage.array import MATLAB_CLASS, MATLAB_EMPTY, MemoryArray, StoredArray
from roicli.storage.views import GridArray, PermutedArray

logger = logging.getLogger("roicli")

# Takes a note for the user.
Tell = Callable[[str], object]

AXES = "nchw"
# What a file says of the order of axes; HDF5's own, of labels and scales, among it.
LAYOUT_ATTRIBUTES = frozenset((MATLAB_CLASS, "DIMENSION_LABELS", "DIMENSION_LIST"))
# What dimensions are called, in any case, in the singular or the plural.
NAMES_OF_AXES = {
    "n": "n batch image img sample time",
    "c": "c channel band feature",
    "h": "h y height row lat latitude",
    "w": "w x width col column lon longitude",
}
AXIS_OF_NAME = {name: axis for axis, names in NAMES_OF_AXES.items() for name in names.split()}
# What is as good as certain: a square of at least 7 x 7 tokens, mostly with one for the class in
# front, of a usual depth, in few images. A map of so few channels has seldom such sides.
FEWEST_TOKENS, DEPTH_STEP, MOST_IMAGES = 49, 32, 16


def arrange(stored: StoredArray, layout: str, tell: Tell = logger.info) -> StoredArray:
    """The maps of a stored array as (N, C, H, W) or (C, H, W); ``tell`` notes what the file said.

    Raises InputError.
    """
    if layout.startswith(TOKENS):
        return _on_grid(stored, *parse_grid(layout))
    letters = _said_by_file(stored, tell) if layout == AUTO else layout
    if letters is None:
        _refuse_tokens(stored)
        return stored
    letters = letters.replace("n", "") if len(stored.shape) == 3 else letters
    if len(letters) != len(stored.shape):
        raise InputError(
            f"{stored.name}: features have shape {stored.shape}, which --layout {layout} does not "
            "fit",
            f"the layout has {len(letters)} axes and the array {len(stored.shape)}",
        )
    wanted = [axis for axis in AXES if axis in letters]
    axes = [letters.index(axis) for axis in wanted]
    return stored if axes == sorted(axes) else PermutedArray(stored, axes)


def layout_of(stored: StoredArray) -> str:
    """The layout of an array that ``arrange`` gave, as ``--layout`` names it: a letter for each
    axis as the file holds it, or ``tokens:HxW``.
    """
    permuted: PermutedArray | None = None
    inner: StoredArray | None = stored
    while inner is not None:
        if isinstance(inner, GridArray):
            return f"{TOKENS}{inner.grid[0]}x{inner.grid[1]}"
        permuted = inner if isinstance(inner, PermutedArray) else permuted
        stored, inner = inner, getattr(inner, "stored", None)
    if permuted is None:
        return AXES[-len(stored.shape) :]
    wanted = AXES[-len(permuted.shape) :]
    return "".join(wanted[permuted.axes.index(axis)] for axis in range(len(wanted)))


def rearrange(layout: str, found: str) -> str:
    """The layout that a file has, read as ``layout``, whose maps then look like ``found``.

    ``found`` names the axes of (N, C, H, W) as they were read: ``nhwc`` for maps whose channels
    are last. Of tokens only the grid can be another: its sides are exchanged.
    """
    if layout.startswith(TOKENS):
        height, width = parse_grid(layout)
        return f"{TOKENS}{width}x{height}"
    return "".join(found[AXES.index(axis)] for axis in layout)


def straighten_rois(stored: StoredArray) -> StoredArray:
    """RoIs that MATLAB wrote, whose axes are reversed for others, as (K, 5) or (N, M, 4).

    Of an empty array it keeps the shape in place of values.
    """
    if MATLAB_EMPTY in stored.attributes and len(stored.shape) == 1:
        with contextlib.closing(stored):
            return MemoryArray(np.empty((0, 5), np.float32), stored.name, stored.files)
    reversed_shape = stored.shape[::-1]
    is_boxes = len(reversed_shape) in (2, 3) and reversed_shape[-1] in (4, 5)
    if is_of_matlab(stored) and is_boxes:
        logger.info(f"{stored.name}: MATLAB wrote it, so its axes are read as {reversed_shape}")
        return PermutedArray(stored, tuple(range(len(reversed_shape)))[::-1])
    return stored


def is_of_matlab(stored: StoredArray) -> bool:
    """Whether MATLAB wrote the array, which keeps arrays column by column."""
    return MATLAB_CLASS in stored.attributes


def _said_by_file(stored: StoredArray, tell: Tell) -> str | None:
    """The layout that the file tells, which is noted; None where it tells nothing."""
    count = len(stored.shape)
    if count not in (3, 4):
        return None
    if is_of_matlab(stored):
        letters, why = AXES[-count:-2] + "wh", "MATLAB wrote it, whose axes are reversed here"
    else:
        named = _read_names(stored)
        if named is None:
            return None
        letters, why = named, f"its dimensions are {', '.join(stored.dimension_names)}"
    if letters != AXES[-count:]:
        tell(f"{stored.name}: read as --layout {letters}: {why}")
    return letters


def _read_names(stored: StoredArray) -> str | None:
    """The layout that the dimensions' names tell. Raises InputError for half of one."""
    names = stored.dimension_names
    letters = [axis_of_name(name) for name in names]
    known = [letter for letter in letters if letter is not None]
    if not known or len(names) != len(stored.shape):
        return None
    if len(set(known)) == len(known):
        # One name that says nothing is what is left.
        missing = [axis for axis in AXES[-len(names) :] if axis not in known]
        if len(missing) == letters.count(None) <= 1:
            return "".join(letter or missing[0] for letter in letters)
    usual = all(one in (None, axis) for one, axis in zip(letters, AXES[-len(names) :], strict=True))
    if usual:
        return None
    raise InputError(
        f"{stored.name}: its dimensions are {', '.join(names)}, which does not tell its layout",
        "give --layout, a letter for each: n images, c channels, h rows, w columns; or tokens:HxW",
    )


def axis_of_name(name: str) -> str | None:
    """The letter of an axis that goes by this name; None for another name."""
    plain = name.casefold().strip().rpartition("/")[2]
    singulars = (plain, plain.removesuffix("s"), plain.removesuffix("es"))
    return next((AXIS_OF_NAME[name] for name in singulars if name in AXIS_OF_NAME), None)


def _on_grid(stored: StoredArray, height: int, width: int) -> StoredArray:
    """Tokens (N, L, D) or (L, D) as maps."""
    count = len(stored.shape)
    if count not in (2, 3):
        raise InputError(
            f"{stored.name}: features have shape {stored.shape}, expected tokens (N, L, D), (L, D)"
        )
    tokens = stored.shape[-2]
    if tokens != height * width:
        extra = tokens - height * width
        advice = None
        if 0 < extra <= 16:
            advice = f"save the tokens of the image alone: {extra} more may be for classes"
        raise InputError(
            f"{stored.name}: {tokens} tokens an image, expected {height} x {width} = "
            f"{height * width}",
            advice,
        )
    return arrange(GridArray(stored, height), "nhwc")


def _refuse_tokens(stored: StoredArray) -> None:
    """Raise InputError for what is no map but the tokens of a transformer."""
    if len(stored.shape) != 3:
        return
    images, tokens, depth = stored.shape
    side = math.isqrt(tokens)
    is_square = side * side == tokens and tokens % 64 != 0
    has_class = math.isqrt(tokens - 1) ** 2 == tokens - 1 if tokens else False
    usual = depth % DEPTH_STEP == 0 and depth >= 2 * DEPTH_STEP and depth != tokens
    if images <= MOST_IMAGES and tokens >= FEWEST_TOKENS and usual and (is_square or has_class):
        side = math.isqrt(tokens - (0 if is_square else 1))
        class_token = "" if is_square else f", without the one of the class: {side} x {side} + 1"
        raise InputError(
            f"{stored.name}: shape {stored.shape} looks like tokens (N, L, D) of a transformer",
            f"give --layout tokens:{side}x{side}{class_token}; or --layout chw for a map of "
            f"{images} channels",
        )
