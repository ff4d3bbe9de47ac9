"""The option ``spatial_scale``: text, a number or several numbers, one for each map."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.parsing import parse_scale, parse_scales

logger = logging.getLogger("roicli")


def parse_scale_option(option: Any) -> tuple[float, ...] | None:
    """Text, a number or several numbers to scales; None where none was given."""
    if option is None:
        return None
    if isinstance(option, str):
        return parse_scales(option)
    try:
        scales = np.atleast_1d(np.asarray(option, np.float64))
    except (TypeError, ValueError):
        raise ParameterError(f"spatial scale is {option!r}, expected numbers") from None
    return tuple(scales.tolist())


def parse_stored_scale(value: Any, name: str = "spatial scale") -> float:
    """A scale or stride as files keep it: a number, an array of one, or text like the option's.

    Raises ParameterError, also where there is a value that cannot be read.
    """
    array = np.asarray(value)
    if array.size != 1:
        raise ParameterError(
            f"{name} is {array.size} numbers, expected one",
            "the operators have one scale for x and y: bring the RoIs' x and y to one scale, and "
            "give it as --spatial-scale",
        )
    (item,) = array.reshape(-1).tolist()
    if isinstance(item, bytes):
        item = item.decode(errors="replace")
    if isinstance(item, str):
        return parse_scale(item.strip(), name)
    if isinstance(item, bool) or not isinstance(item, int | float):
        raise ParameterError(
            f"{name} is {item!r}, expected a number or a fraction, like 0.0625 or 1/16"
        )
    if not (math.isfinite(item) and item > 0):
        raise ParameterError(f"{name} is {item:g}, expected a positive, finite number")
    return float(item)


def single_scale(scales: tuple[float, ...] | None) -> float:
    """The one scale of a run without features; 1.0 where none was given, which is noted."""
    if scales is None:
        logger.info("no --spatial-scale, taking 1.0: errors in pixels are errors in cells")
        return 1.0
    if len(scales) != 1:
        raise ParameterError(f"{len(scales)} spatial scales without features, expected one")
    return scales[0]
