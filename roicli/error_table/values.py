"""What rounding does to the values: RoI Pool against RoI Align, and where it comes from.

``pool - align_avg = (pool - warp_max) + (warp_max - align_max) + (align_max - align_avg)``: the
rounding of the bins (stage 2), the rounding of the box (stage 1), and maximum against mean. Warp is
RoI Align on the quantized box (RoIWarp, Dai et al. 2016). Leaving the third term out would blame
rounding for what the maximum does.
"""

from __future__ import annotations

import numpy as np

from roicli.core.norms import (
    Rows,
    Sums,
    divide_norms,
    divide_sums,
    find_cosine,
    find_exponents,
    scale_down,
)
from roicli.core.types import Array, FloatArray


def measure_value_errors(
    pool: FloatArray, align_avg: FloatArray, align_max: FloatArray, warp_max: FloatArray
) -> dict[str, Array]:
    """The value columns of k RoIs: four results (k, C, P_h, P_w) in, arrays (k,) by name out.

    Shares are <term, total> / |total|^2 and sum to 1. NaN where a norm is 0, or not finite.
    """
    # Maps with NaN or infinities have no defined error.
    with np.errstate(over="ignore", invalid="ignore"):
        columns = _measure(*(_flatten(part) for part in (pool, align_avg, align_max, warp_max)))
    return {name: np.where(np.isfinite(found), found, np.nan) for name, found in columns.items()}


def _flatten(result: FloatArray) -> FloatArray:
    return np.reshape(result, (len(result), -1)).astype(np.float64)


def _measure(*results: FloatArray) -> dict[str, Array]:
    """The columns of four results (k, n); not finite where they are not."""
    # All four are divided alike, so that their differences do not overflow.
    exponents = find_exponents(*results)
    pool, align_avg, align_max, warp_max = (scale_down(part, exponents) for part in results)
    difference = pool - align_avg
    absolute, total = np.abs(difference), Rows(difference)
    squared, (rows_pool, rows_align) = total.dot(total), (Rows(pool), Rows(align_avg))
    norm_pool, norm_align = rows_pool.dot(rows_pool), rows_align.dot(rows_align)
    columns: dict[str, Array] = {
        "value_error_max": Sums(absolute.max(axis=1, initial=0.0), exponents).to_float64(),
        "value_error_mean": Sums(absolute.mean(axis=1), exponents).to_float64(),
        "value_error_relative_l2": divide_norms(squared, norm_align),
        "value_cosine": find_cosine(rows_pool.dot(rows_align), norm_pool, norm_align),
    }
    terms = {
        "share_stage1": (warp_max, align_max),
        "share_stage2": (pool, warp_max),
        "share_aggregation": (align_max, align_avg),
    }
    for name, (after, before) in terms.items():
        columns[name] = divide_sums(Rows(after - before).dot(total), squared)
    return columns
