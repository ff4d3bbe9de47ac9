"""A format for roicli: a line ``NUMBERS 2x3x8x9``, then that many numbers."""

from pathlib import Path

import numpy as np

from roicli.core.exceptions import InputError
from roicli.storage.address import Address
from roicli.storage.array import FileContents, MemoryArray, StoredArray, StoredDataset
from roicli.storage.choice import Wanted
from roicli.storage.formats import Format

NUMBERS = Format("numbers", (".numbers",), b"NUMBERS", holds="one", module=__name__)


def open_array(address: Address, wanted: Wanted) -> StoredArray:
    """The only array of a file. Raises InputError."""
    head, _, text = Path(address.path).read_text(encoding="utf-8").partition("\n")
    shape = tuple(map(int, head.split()[1].split("x")))
    values = np.array(text.split(), np.float32)
    if values.size != np.prod(shape):
        raise InputError(f"{address.path}: holds {values.size} numbers, its head says {shape}")
    return MemoryArray(values.reshape(shape), address.path)


def contents(address: Address) -> FileContents:
    """What the file holds, for ``roicli inspect``."""
    array = open_array(address, Wanted("any"))
    described = StoredDataset(
        address.path, array.shape, array.dtype.name, is_numeric=True, layout="text"
    )
    return FileContents(address.path, "numbers", {}, (described,))
