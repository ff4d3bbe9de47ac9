"""The scale that a file says of its map: an attribute of the dataset, its group or the file."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError, ParameterError
from roicli.core.parse import parse_scale
from roicli.core.types import check_spatial_scale
from roicli.pipeline.roi_table import NO_SCALE
from roicli.storage.array import StoredArray
from roicli.storage.shelf import Plain

logger = logging.getLogger("roicli")

SCALE_ATTRIBUTE = "spatial_scale"
STRIDE_ATTRIBUTE = "stride"


def read_stored_scale(array: StoredArray, maps: int) -> tuple[float, str]:
    """The scale that the file has for a map, and where: the nearest attribute that says it.

    Without one it is 1.0, which is noted, and no pyramid.
    """
    found = find_stored_scale(array, maps)
    if found is not None:
        return found
    if maps > 1:
        raise InputError(
            f"{array.name}: has no attribute {SCALE_ATTRIBUTE}, and a pyramid needs its scales",
            "add --spatial-scale with one per level, like 1/4,1/8",
        )
    logger.info(f"{array.name}: no attribute {SCALE_ATTRIBUTE}, taking --spatial-scale 1.0")
    return 1.0, NO_SCALE


def note_other_scale(array: StoredArray, maps: int, scale: float) -> None:
    """Note that the file says another scale than the one that was given, which counts."""
    try:
        found = find_stored_scale(array, maps)
    except InputError:
        return  # the given one stands for what cannot be read
    if found is not None and not math.isclose(found[0], scale, rel_tol=1e-6):
        stored, where = found
        said = f"{array.name}: {where} says a scale of {stored:g}"
        logger.info(f"{said}, and {scale:g}, which was given, counts")


def find_stored_scale(array: StoredArray | Plain, maps: int) -> tuple[float, str] | None:
    """As ``read_stored_scale``; None where there is none."""
    for attributes, whose in _attributes_around(array, maps):
        found = _read_scale(array.name, attributes, whose)
        if found is not None:
            return found
    return None


def _attributes_around(
    array: StoredArray | Plain, maps: int
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Attributes that may say a map's scale; those of the file where it has one map's scale."""
    yield array.attributes, ""
    yield array.group_attributes, " of the group"
    if maps == 1:
        yield array.file_attributes, " of the file"


def _read_scale(name: str, attributes: Mapping[str, Any], whose: str) -> tuple[float, str] | None:
    """``spatial_scale``, or the inverse of ``stride``, and which; None where there is neither."""
    found: dict[str, float] = {}
    for attribute in (SCALE_ATTRIBUTE, STRIDE_ATTRIBUTE):
        if attribute not in attributes:
            continue
        try:
            scale = parse_stored_scale(attributes[attribute], attribute.replace("_", " "))
            scale = scale if attribute == SCALE_ATTRIBUTE else 1 / scale
            check_spatial_scale(scale)
        except ParameterError as error:
            raise InputError(
                f"{name}: attribute {attribute}{whose}: {error.message}",
                error.hint or "or give --spatial-scale",
            ) from None
        found[attribute] = scale
    if len(found) == 2 and not math.isclose(*found.values(), rel_tol=1e-6):
        scale, other = found.values()
        raise InputError(
            f"{name}: attribute {SCALE_ATTRIBUTE}{whose} is {scale:g}, and {STRIDE_ATTRIBUTE} is "
            f"{1 / other:g}, expected one to be the inverse of the other",
            "give --spatial-scale",
        )
    for attribute, scale in found.items():
        return scale, f"attribute {attribute}{whose}"
    return None


def _advise_two_scales(value: Any, name: str) -> str:
    """What to give where a map has two scales: they may be of x and y, or of y and x."""
    advice = "the operators have one scale for x and y: give --spatial-scale, and --roi-scale 1,Y"
    numbers = np.asarray(value).reshape(-1)
    if numbers.size != 2 or numbers.dtype.kind not in "iuf" or not np.all(numbers > 0):
        return advice
    pair = tuple(1 / number if name == STRIDE_ATTRIBUTE else number for number in numbers)
    first, second = (
        f"--spatial-scale {x:.9g} --roi-scale 1,{y / x:.9g}" for x, y in (pair, pair[::-1])
    )
    return (
        f"the operators have one scale for x and y: give {first} where they are x, y; {second} "
        "where they are y, x"
    )


def parse_stored_scale(value: Any, name: str) -> float:
    """A scale or stride as files keep it: a number, an array of one, or text like the option's.

    Raises ParameterError, also where there is a value that cannot be read.
    """
    array = np.unique(value) if np.size(value) == 2 else np.asarray(value)
    if array.size != 1:
        raise ParameterError(
            f"{name} is {array.size} numbers, expected one", _advise_two_scales(value, name)
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
