"""What one RoI's result should be, in float64 and plain NumPy, and how far rounding may take it.

Nothing of ONNX Runtime or of the compiled kernels is used here: it is what they are checked with.
Where a bin or a sampling point lies comes from ``geometry``, in the operator's own floating type,
for a RoI that is rounded to another cell is another RoI; the values at these places are read,
weighted and added in float64.

The bounds are a priori ones. In floating point ``fl(a op b) = (a op b)(1 + d)`` with ``|d| <= u``,
so a sum of terms, each of which went through at most k roundings, is within
``gamma_k * sum(|terms|)`` of the exact one, ``gamma_k = k u / (1 - k u)``, in whatever order it is
added (Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd edition, lemma 3.1 and
equation 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from roicli.core.types import FloatArray

# Values of one step; a RoI's channels are taken so many at a time.
STEP_VALUES = 1 << 16


class Expected(NamedTuple):
    """One RoI's result; all arrays (C, P_h, P_w) float64.

    ``values``; ``magnitude``, the size of what was added (the values with every cell replaced by
    its absolute value), which is what rounding is relative to; ``bound``, how far a right result
    can be from ``values``. A value that is NaN or infinite must be found as it is: its bound is 0.
    ``bound`` is infinite where nothing can be said: where the sum may overflow, where a point may
    lie on either side of the map's end, and where a cell is not finite and it is not certain which
    points read it.
    """

    values: FloatArray
    magnitude: FloatArray
    bound: FloatArray


def channel_steps(channels: int, values: int) -> Iterator[slice]:
    """Runs of channels that take about STEP_VALUES, each of ``values``."""
    step = max(1, STEP_VALUES // max(values, 1))
    for first in range(0, channels, step):
        yield slice(first, min(first + step, channels))


def rounding_gamma(roundings: int, unit: float) -> float:
    """Higham's gamma_k; infinite where so many roundings can give anything."""
    product = roundings * unit
    return product / (1 - product) if product < 1 else np.inf
