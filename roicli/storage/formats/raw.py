"""Raw binary: numbers one after another, whose dtype and shape only the address says.

``file.bin::float32[15,8,7,7]``, C-ordered from the first byte on; ``>float32[...]`` is big-endian.
This is what trtexec, SNPE and other runtimes write their outputs as.
"""

from __future__ import annotations

import math
import os
import re

import numpy as np

from roicli.core.exceptions import InputError
from roicli.storage.address import SEPARATOR, Address, check_regular_file
from roicli.storage.array import (
    FileContents,
    RawArray,
    RawLayout,
    StoredDataset,
    name_of_dtype,
    named_dtype,
)
from roicli.storage.choice import Wanted
from roicli.storage.file_state import read_state

_WORDS = r"(?P<order>[<>]?)(?P<dtype>[a-z]+[0-9a-z_]*)\[(?P<shape>[0-9, ]+)\]"
DTYPES = (
    *(f"float{bits}" for bits in (16, 32, 64)), "bfloat16",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
)  # fmt: skip

# NumPy's short names: f4 is float32.
_NUMPYS = {np.dtype(name).str[1:]: name for name in DTYPES if name != "bfloat16"}


def open_array(address: Address, wanted: Wanted) -> RawArray:
    """The array that the address describes. Raises InputError where the file is of another size."""
    layout = _read_layout(address)
    name = str(Address(address.path, address.dataset))
    return RawArray(address.path, layout, name, read_state(address.path))


def contents(address: Address) -> FileContents:
    """The one array that the address describes. Raises InputError."""
    layout = _read_layout(address)
    size = os.stat(address.path).st_size

    def open_it() -> RawArray:
        return open_array(address, Wanted("any"))

    array = StoredDataset(
        str(address), layout.shape, name_of_dtype(layout.dtype), True, "C order",
        stored_bytes=size, open=open_it,
    )  # fmt: skip
    return FileContents(address.path, "raw", {}, (array,))


def _read_layout(address: Address) -> RawLayout:
    check_regular_file(address.path)
    size = os.stat(address.path).st_size
    if address.dataset is None:
        values = f"{size // 4:,} float32 values" if size % 4 == 0 else f"{size:,} bytes"
        raise InputError(
            f"{address.path}: is raw binary of {values}, and says no shape",
            f"write dtype and shape: '{address.path}{SEPARATOR}float32[K,C,P_h,P_w]' in numbers",
        )
    match = re.fullmatch(_WORDS, address.dataset)
    sides = [] if match is None else [part.strip() for part in match["shape"].split(",")]
    named = "" if match is None else _NUMPYS.get(match["dtype"], match["dtype"])
    if match is None or named not in DTYPES or not all(sides):
        raise InputError(
            f"{address}: expected a dtype and a shape, like x.bin{SEPARATOR}float32[15,8,7,7]",
            f"dtypes are {', '.join(DTYPES)}",
        )
    shape = tuple(int(side) for side in sides)
    dtype = named_dtype(named)
    if match["order"] and dtype.itemsize > 1 and dtype.isbuiltin != 2:
        dtype = dtype.newbyteorder(match["order"])  # type: ignore[arg-type]
    needed = math.prod(shape) * dtype.itemsize
    if needed != size:
        raise InputError(
            f"{address}: takes {needed:,} bytes, and the file has {size:,}",
            "give the dtype and the shape that were written",
        )
    return RawLayout(0, shape, np.dtype(dtype))
