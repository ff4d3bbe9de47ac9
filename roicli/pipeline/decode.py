"""What the numbers of a stored map stand for, where its file says that they are packed.

CF's ``scale_factor``, ``add_offset`` and ``_FillValue``, as netCDF's readers apply them (CF
conventions, 8.1; also where Zarr and HDF5 files carry them); ``scale`` and ``zero_point`` of
quantized integers, as ONNX's DequantizeLinear; floats of 16 bits kept as uint16, which no file
tells.
"""

from __future__ import annotations

import binascii
import math
import re
import struct
from itertools import chain
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.types import Array, FloatArray
from roicli.core.vocabulary import StoredAs
from roicli.pipeline.layout import Tell
from roicli.storage.array import Place, StoredArray, named_dtype
from roicli.storage.views import BitsArray, DecodedArray

SCALE, OFFSET, UNSIGNED = "scale_factor", "add_offset", "_Unsigned"
FILLS = ("_FillValue", "missing_value")
QUANTIZED = ("scale", "zero_point")
# Beside them: PyTorch's own words, and others' with the same meaning.
QUANTIZED_WORDS = (
    ("q_scale", "q_zero_point"), ("quant_scale", "quant_zero_point"), ("scales", "zero_points"),
    QUANTIZED,
)  # fmt: skip
DECODING_ATTRIBUTES = frozenset((SCALE, OFFSET, UNSIGNED, *FILLS, *chain(*QUANTIZED_WORDS)))
WAY_OUT = "or take the stored numbers: --no-decode"
# Magnitudes of ordinary features; of all numbers of 16 bits a sixth are such in bfloat16.
ORDINARY = 1e-6, 1e6
# All but this share of the sample must be ordinary: next to 0 a float has any exponent.
SHARE_ODD = 0.01
# Half of all float16 are ordinary, so it takes more: features fall by half an octave, so that most
# have one of the few largest exponents, and of integers that count something most are below 2^12.
OCTAVES, SHARE_BELOW, LEAST_MEDIAN = 6, 0.03, np.float16(2**-8)
# Eight bytes in base64. Source: xarray/backends/zarr.py, FillValueCoder.
BASE64_DOUBLE = r"[A-Za-z0-9+/]{11}="
SAMPLED_SIDE = 64
INTEGERS = ("int16", "uint16")


def decode(
    stored: StoredArray, wanted: bool, stored_as: StoredAs | None, tell: Tell
) -> StoredArray:
    """The maps (N, C, H, W) or (C, H, W) in the numbers that they mean; ``tell`` notes how.

    Raises InputError, also for integers that look like a float's bits and nobody says so.
    """
    kind = stored.dtype.name
    if stored_as is not None and (kind not in INTEGERS or stored_as in {*INTEGERS} - {kind}):
        raise InputError(
            f"{stored.name}: dtype is {stored.precision.name}, and --stored-as {stored_as} is of "
            + (stored_as if stored_as in INTEGERS else "integers of 16 bits"),
            "drop --stored-as",
        )
    if stored_as in FLOATS:
        return BitsArray(stored, named_dtype(stored_as))
    if not wanted:
        return stored
    found = _decode_cf(stored) or _decode_quantized(stored)
    if found is not None:
        tell(
            f"{stored.name}: {stored.precision.name}, read as {found.described} "
            "(--no-decode takes the stored numbers)"
        )
        return found
    if stored_as is None and tell is not no_note:
        _refuse_bits(stored)
    return stored


def no_note(text: str) -> None:
    """A note that was told of another map."""


def decoding_of(stored: StoredArray | None) -> str | None:
    """In words, how the numbers of an array are unpacked; None where they are as stored."""
    while stored is not None:
        if isinstance(stored, DecodedArray):
            return stored.described
        stored = getattr(stored, "stored", None)
    return None


def _decode_cf(stored: StoredArray) -> DecodedArray | None:
    """Packed as CF says, with values that stand for none, which are NaN."""
    attributes = stored.attributes
    if not attributes.keys() & {SCALE, OFFSET, *FILLS}:
        return None
    factor, offset = _number(stored, SCALE, 1.0), _number(stored, OFFSET, 0.0)
    if not (np.isfinite([factor, offset]).all() and factor):
        raise InputError(
            f"{stored.name}: attributes {SCALE} and {OFFSET} are {factor:g} and {offset:g}, "
            "expected finite numbers, and a factor that is not 0",
            f"write what the numbers were packed with, {WAY_OUT}",
        )
    fills = [one for name in FILLS if name in attributes for one in _fills(stored, name)]
    fills = list(dict.fromkeys(fill for fill in fills if not np.isnan(fill)))
    is_unsigned = str(attributes.get(UNSIGNED, "")).lower() in ("true", "b'true'")
    as_unsigned = np.dtype(f"u{stored.dtype.itemsize}") if is_unsigned else None
    if (factor, offset) == (1.0, 0.0) and not fills:
        return None

    with np.errstate(invalid="ignore", over="ignore"):
        # What the dtype does not hold is nowhere in the array.
        gaps = np.array(fills, np.float64).astype(stored.dtype)
        gaps = gaps[gaps.astype(np.float64) == fills]

    def unpack(held: Array, place: Place) -> FloatArray:
        missing = np.isin(held, gaps)
        numbers = held if as_unsigned is None else held.view(as_unsigned)
        return np.where(missing, np.nan, numbers * factor + offset)

    words = f"number * {factor:g} + {offset:g}" if (factor, offset) != (1.0, 0.0) else "it is"
    words += f", {' and '.join(f'{fill:g}' for fill in fills)} as NaN" if fills else ""
    return DecodedArray(stored, _dtype_of(stored), unpack, words)


def _decode_quantized(stored: StoredArray) -> DecodedArray | None:
    """Quantized integers, with one scale for all or one for each channel."""
    words = next((both for both in QUANTIZED_WORDS if both[0] in stored.attributes), QUANTIZED)
    there = [name for name in words if name in stored.attributes]
    if not there or stored.dtype.kind not in "iu":
        return None
    if len(there) == 1:
        raise InputError(
            f"{stored.name}: integers with an attribute {there[0]} alone, expected {words[0]} "
            f"and {words[1]} of quantized numbers",
            f"write both ({words[1]} may be 0), {WAY_OUT}",
        )
    axis = len(stored.shape) - 3
    scale, zero = (_numbers(stored, name, stored.shape[axis]) for name in words)

    def unpack(held: Array, place: Place) -> FloatArray:
        channels = place[axis] if axis >= 0 else slice(None)
        own = [one if one.size == 1 else one[channels, None, None] for one in (scale, zero)]
        return np.asarray((held.astype(np.float64) - own[1]) * own[0])

    shown = f"{scale[0]:g}" if scale.size == 1 else f"{scale.size} scales"
    zeros = f"{zero[0]:g}" if zero.size == 1 else f"{zero.size} zero points"
    return DecodedArray(stored, _dtype_of(stored), unpack, f"(number - {zeros}) * {shown}")


def _dtype_of(stored: StoredArray) -> np.dtype[Any]:
    """float32 has every number of 16 bits and narrower floats; others are decoded in float64."""
    wide = stored.dtype.itemsize > (2 if stored.dtype.kind in "iu" else 4)
    return np.dtype(np.float64 if wide else np.float32)


def _number(stored: StoredArray, name: str, missing: float) -> float:
    if name not in stored.attributes:
        return missing
    return float(_numbers(stored, name, 1)[0])


def _fills(stored: StoredArray, name: str) -> list[float]:
    """The values that stand for none: one or several; xarray writes floats to Zarr in base64."""
    value = stored.attributes[name]
    if isinstance(value, str) and re.fullmatch(BASE64_DOUBLE, value):
        return list(struct.unpack("<d", binascii.a2b_base64(value)))
    return [float(one) for one in _numbers(stored, name, None)]


def _numbers(stored: StoredArray, name: str, count: int | None) -> FloatArray:
    """An attribute of one number, or of ``count``, None for any. Raises InputError."""
    try:
        numbers = np.asarray(stored.attributes[name]).astype(np.float64).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.size not in (1, count or max(numbers.size, 1)):
        raise InputError(
            f"{stored.name}: attribute {name} is {stored.attributes[name]!r}, expected a number",
            f"write a number, {WAY_OUT}",
        )
    return numbers


def _refuse_bits(stored: StoredArray) -> None:
    """Raise InputError where integers are as good as certain to be the bits of floats.

    They are where a sample of them is ordinary as floats: of integers that count something, as
    pixels do, some are small, which are no ordinary number, and half of those about 0 are NaN.
    """
    kind = stored.dtype.name
    if stored.dtype.kind not in "iu" or not (readings := READINGS.get(stored.dtype.itemsize, {})):
        return
    sides = [min(side, SAMPLED_SIDE) for side in stored.shape]
    sides = [min(sides[0], 1), *sides[1:]] if len(sides) == 4 else sides
    if not 0 < math.prod(sides) <= SAMPLED_SIDE**3:
        return  # it is empty or no map, as others say
    held = np.empty(sides, stored.dtype)
    stored.read(tuple(slice(0, side) for side in sides), held)
    shown = []
    for name, is_plausible in readings.items():
        with np.errstate(invalid="ignore", over="ignore"):
            values = np.abs(held.view(named_dtype(name)).astype(np.float32))
        values = values[np.isfinite(values)]
        is_odd = held.size - values.size > SHARE_ODD * held.size
        if not is_odd and values.any() and is_plausible(values[values > 0]):
            shown.append((name, f"as {name} from {values.min():.3g} to {values.max():.3g}"))
    if not shown:
        return
    names, ranges = zip(*shown, strict=True)
    advice = "say which they are: --stored-as " + " or --stored-as ".join((*names, kind))
    if kind not in INTEGERS:
        advice = f"save them as {names[0]}, by NumPy's .view({names[0]!r}), {WAY_OUT}"
    raise InputError(
        f"{stored.name}: dtype is {stored.precision.name}, and its numbers look like the bits of "
        f"{' or '.join(names)}: as integers they are from {held.min():,} to {held.max():,}, "
        f"{', '.join(ranges)} in magnitude",
        advice,
    )


def _is_ordinary(magnitudes: FloatArray) -> bool:
    low, high = ORDINARY
    return bool(np.mean((magnitudes < low) | (magnitudes > high)) <= SHARE_ODD)


def _is_of_float16(magnitudes: FloatArray) -> bool:
    least = magnitudes.max() / 2**OCTAVES
    return bool(
        np.median(magnitudes) >= LEAST_MEDIAN and np.mean(magnitudes < least) <= SHARE_BELOW
    )


FLOATS = {"bfloat16": _is_ordinary, "float16": _is_of_float16}
# By the bytes of a number; --stored-as is of two.
READINGS = {2: FLOATS, 4: {"float32": _is_ordinary}, 8: {"float64": _is_ordinary}}
