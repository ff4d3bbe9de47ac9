"""The option ``spatial_scale``: text, a number or several numbers, one for each map."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.parsing import parse_scales

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


def single_scale(scales: tuple[float, ...] | None) -> float:
    """The one scale of a run without features; 1.0 where none was given, which is noted."""
    if scales is None:
        logger.info("no --spatial-scale, taking 1.0: errors in pixels are errors in cells")
        return 1.0
    if len(scales) != 1:
        raise ParameterError(f"{len(scales)} spatial scales without features, expected one")
    return scales[0]
