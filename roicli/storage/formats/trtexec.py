"""Outputs of TensorRT's trtexec (--exportOutput): a JSON list of name, dimensions and values.

Values are decimal text of about six digits; they are taken as float32.
"""

from __future__ import annotations

import json
import logging
import math
import os
from functools import partial
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import FileContents, MemoryArray, StoredDataset
from roicli.storage.choice import Candidate, Wanted, choose_only, list_names
from roicli.storage.file_state import FileState, read_state
from roicli.storage.formats import WayOf, names_below
from roicli.storage.limits import check_memory

logger = logging.getLogger("roicli")

# A number of Python takes so many bytes for each byte of its text.
BYTES_IN_MEMORY = 8
EXPECTED = "a list of objects with name, dimensions and values, as trtexec --exportOutput writes"


def open_array(address: Address, wanted: Wanted) -> MemoryArray:
    """The output that is named, or the only one that is wanted. Raises InputError."""
    outputs, files = _read_outputs(address)
    name, output = _choose(outputs, address, wanted)
    shown = str(Address(address.path, name))
    return MemoryArray(_read_values(output, shown), shown, files)


def contents(address: Address) -> FileContents:
    """The outputs of a file, or the one that the address names."""
    outputs, _ = _read_outputs(address)
    if address.dataset is not None:
        name, output = _choose(outputs, address, Wanted("any"))
        outputs = {name: output}
    found = []
    for name, output in outputs.items():
        one = Address(address.path, name)
        shape = _read_shape(output, str(one))
        opener = partial(open_array, one, Wanted("any"))
        found.append(StoredDataset(str(one), shape, "float32", True, "text", open=opener))
    return FileContents(foreign(address.path), "trtexec", {}, tuple(found))


def find_names(path: str, group: str, way_of: WayOf) -> list[str]:
    """The outputs of a file, as ``Lister`` says."""
    return names_below(_read_outputs(Address(path))[0], group, way_of)


def _read_outputs(address: Address) -> tuple[dict[str, dict[str, Any]], dict[str, FileState]]:
    """The file's outputs by their names, and the state that it was read in."""
    check_regular_file(address.path)
    shown, state = str(Address(address.path)), read_state(address.path)
    size = os.stat(address.path).st_size
    check_memory(shown, "the JSON's values", size * BYTES_IN_MEMORY)
    try:
        with open(address.path, "rb") as stream:
            found = json.load(stream)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown}: cannot be read as JSON: {error}") from error
    return _list_outputs(found, shown), {address.path: state}


def _list_outputs(found: Any, shown: str) -> dict[str, dict[str, Any]]:
    keys = {"name", "dimensions", "values"}
    items = found if isinstance(found, list) else []
    if not items or not all(isinstance(item, dict) and keys <= item.keys() for item in items):
        raise InputError(f"{shown}: expected {EXPECTED}")
    return {foreign(str(item["name"])): item for item in items}


def _choose(
    outputs: dict[str, dict[str, Any]], address: Address, wanted: Wanted
) -> tuple[str, dict[str, Any]]:
    name = address.dataset
    if name is None:
        candidates = [
            Candidate(key, _read_shape(item, str(address)), np.dtype(np.float32))
            for key, item in outputs.items()
        ]
        name = list(outputs)[choose_only(address, candidates, wanted)]
    if name not in outputs:
        raise InputError(
            f"{Address(address.path)}: has no output {name!r}; its outputs are: "
            f"{list_names(outputs)}"
        )
    return name, outputs[name]


def _read_shape(output: dict[str, Any], name: str) -> tuple[int, ...]:
    """``15x8x7x7``, or a list of numbers."""
    given = output["dimensions"]
    sides = given.lower().split("x") if isinstance(given, str) else given
    try:
        shape = tuple(int(side) for side in sides)
    except (TypeError, ValueError):
        shape = (-1,)
    if min(shape, default=0) < 0:
        raise InputError(f"{name}: dimensions are {given!r}, expected numbers like 15x8x7x7")
    return shape


def _read_values(output: dict[str, Any], name: str) -> np.ndarray[Any, Any]:
    shape = _read_shape(output, name)
    try:
        values = np.array(output["values"], np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name}: values are not all numbers") from None
    row = math.prod(shape[1:])
    rows, rest = divmod(values.size, row) if row else (0, values.size)
    if values.ndim != 1 or rest or not shape or rows > shape[0]:
        raise InputError(
            f"{name}: has values of shape {values.shape}, and dimensions {shape} take "
            f"{math.prod(shape):,}"
        )
    if rows < shape[0]:
        logger.warning(
            f"{name}: dimensions are {output['dimensions']}, and there are values of the first "
            f"{rows} of {shape[0]} rows: these are read"
        )
        shape = (rows, *shape[1:])
    with np.errstate(over="ignore"):
        return values.astype(np.float32).reshape(shape)
