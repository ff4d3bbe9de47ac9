"""What rounding does to the values: RoI Pool against RoI Align, and where it comes from.

``pool - align_avg = (pool - warp_max) + (warp_max - align_max) + (align_max - align_avg)``: the
rounding of the bins (stage 2), the rounding of the box (stage 1), and maximum against mean. Warp is
RoI Align on the quantized box (RoIWarp, Dai et al. 2016). Leaving the third term out would blame
rounding for what the maximum does.
"""

from __future__ import annotations

import numpy as np

from roicli.core.types import Array, FloatArray
from roicli.error_table.geometric import divide_where_positive


def measure_value_errors(
    pool: FloatArray, align_avg: FloatArray, align_max: FloatArray, warp_max: FloatArray
) -> dict[str, Array]:
    """The value columns of k RoIs: four results (k, C, P_h, P_w) in, arrays (k,) by name out.

    Shares are <term, total> / |total|^2 and sum to 1. NaN where a norm is 0, or not finite.
    """
    # Maps with NaN or infinities have no defined error; numbers near the largest overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        columns = _measure(pool, align_avg, align_max, warp_max)
    return {name: np.where(np.isfinite(found), found, np.nan) for name, found in columns.items()}


def _measure(
    pool: FloatArray, align_avg: FloatArray, align_max: FloatArray, warp_max: FloatArray
) -> dict[str, Array]:
    """The arithmetic of ``measure_value_errors``; not finite where it overflows."""
    rows = len(pool)
    flat = [np.reshape(part, (rows, -1)).astype(np.float64) for part in (pool, align_avg)]
    total = flat[0] - flat[1]
    squared = _dot(total, total)
    norms = [np.sqrt(_dot(part, part)) for part in flat]
    absolute = np.abs(total)
    columns: dict[str, Array] = {
        "value_error_max": absolute.max(axis=1, initial=0.0),
        "value_error_mean": absolute.mean(axis=1),
        "value_error_relative_l2": divide_where_positive(np.sqrt(squared), norms[1]),
        "value_cosine": divide_where_positive(_dot(flat[0], flat[1]), norms[0] * norms[1]),
    }
    terms = {
        "share_stage1": (warp_max, align_max),
        "share_stage2": (pool, warp_max),
        "share_aggregation": (align_max, align_avg),
    }
    for name, (after, before) in terms.items():
        term = np.reshape(after, (rows, -1)).astype(np.float64) - np.reshape(before, (rows, -1))
        columns[name] = divide_where_positive(_dot(term, total), squared)
    return columns


def _dot(left: FloatArray, right: FloatArray) -> FloatArray:
    """(k,) products of the rows of two arrays (k, n), each row by itself.

    One call for all rows would sum long ones (n > 8192, NumPy's buffer) in another order when there
    are several than when there is one, so that a column would depend on the size of the blocks.
    """
    return np.array([np.einsum("n,n->", *rows) for rows in zip(left, right, strict=True)], float)
