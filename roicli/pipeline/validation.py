"""What arrays must be to be inputs: their shapes, and the memory that their sampling takes."""

from __future__ import annotations

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.types import IntArray, RoIs
from roicli.operators.interface import OperatorSpec
from roicli.storage.array import StoredArray

MAX_SAMPLES_BYTES = 256 << 20


def check_feature_shape(stored: StoredArray) -> tuple[int, int, int, int]:
    """(N, C, H, W) of a stored (N, C, H, W) or (C, H, W) array. Raises InputError."""
    shape = stored.shape
    if len(shape) not in (3, 4):
        raise InputError(
            f"{stored.name}: features have shape {shape}, expected (N, C, H, W) or (C, H, W)",
            _explain_feature_shape(shape),
        )
    n, c, h, w = (1, *shape) if len(shape) == 3 else shape
    if c == 0 or h == 0 or w == 0 or n == 0:
        raise InputError(f"{stored.name}: features are empty, shape {shape}")
    return n, c, h, w


def _explain_feature_shape(shape: tuple[int, ...]) -> str:
    """What to do about maps of too few or too many axes."""
    if len(shape) == 2:
        return (
            "tokens (L, D) are read with --layout tokens:HxW, L being H x W; one map (H, W) is to "
            "be saved as (1, H, W)"
        )
    longer = tuple(side for side in shape if side != 1)
    if len(shape) > 4 and len(longer) in (3, 4):
        return f"save them without axes of one: {longer}"
    return "save the maps with these axes"


def describe_roi_shape(shape: tuple[int, ...], images: int | None) -> tuple[str, str] | None:
    """R01 of the RoIs: what is wrong with their shape, and what to do; None where nothing is."""
    columns = "batch_index, x1, y1, x2, y2"
    if len(shape) == 2 and shape[1] == 4 and images not in (None, 1):
        found = f"RoIs have 4 columns and there are {images} images, expected 5 columns: {columns}"
        return found, (
            "put the number of the image, from 0, in front, or say whose each RoI is: --image-from "
            "ADDRESS"
        )
    if len(shape) == 2 and shape[1] in (4, 5):
        return None
    remark, advice = _explain_roi_shape(shape)
    return f"RoIs have shape {shape}, expected (K, 5): {columns}{remark}", advice


def _explain_roi_shape(shape: tuple[int, ...]) -> tuple[str, str]:
    """What a shape that is none of RoIs looks like, and what to do."""
    if len(shape) == 3 and shape[2] == 4:
        return "", "give each box a row, with the number of its image, from 0, in front"
    if len(shape) == 3 and shape[2] > 4:
        return "", (
            "name the columns of boxes that stand image by image, like --roi-columns "
            "x1,y1,x2,y2,score (_ leaves one out); else save one row a RoI"
        )
    if len(shape) == 2 and shape[0] in (4, 5) and shape[1] not in (6, 7):
        return "; this looks transposed, as MATLAB, Julia and R write arrays", "save rois.T"
    if len(shape) == 2 and shape[1] > 5:
        # Which columns are which cannot be seen: a score, a level and an angle look alike.
        remark = (
            f"; {shape[1]} columns may hold scores and classes, a level, or the angle of turned "
            "boxes, which rotated-align takes"
        )
        return remark, (
            "name them in order, like --roi-columns image,x1,y1,x2,y2,score or "
            "image,cx,cy,w,h,angle; _ leaves one out"
        )
    return "", "save one row a RoI"


def check_sampling_memory(
    rois: RoIs,
    rows: IntArray,
    spec: OperatorSpec,
    channels: int,
    dtype: np.dtype[np.floating],
    name: str,
    numbers: IntArray | None = None,
) -> None:
    """Raise InputError where one RoI of ``rows`` takes more than 256 MiB of sampling points.

    ``numbers`` (K,) are what the RoIs are called, where that is not their place.
    """
    needed, counts, kind = spec.sampling(spec.numbers_of(rois.take(rows)), channels, dtype)
    if len(needed) and needed.max() > MAX_SAMPLES_BYTES:
        worst = int(np.argmax(needed))
        row = int(rows[worst] if numbers is None else numbers[rows[worst]])
        message, advice = describe_huge_grid(row, needed[worst], counts[worst], kind)
        raise InputError(f"{name}: {message}", advice)


def describe_huge_grid(row: int, needed: float, counts: IntArray, kind: str) -> tuple[str, str]:
    """R16: what is wrong with a RoI of so many bytes and points a bin (x, y), and what to do."""
    across, down = counts
    message = (
        f"row {row}: {kind} takes {down} x {across} points a bin, {needed / 2**20:,.0f} MiB for "
        f"this one RoI, expected at most {MAX_SAMPLES_BYTES >> 20} MiB"
    )
    advice = "give --sampling-ratio 2 or a smaller output size, or check coordinates and scale"
    return message, advice
