"""What every format gives: an array that is read one image at a time, or whole."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.system import read_at
from roicli.core.types import Array
from roicli.storage.file_state import FileState

BFLOAT16_NAME = "bfloat16"


class Precision(NamedTuple):
    """How finely a stored dtype holds a number; ``mantissa_bits`` None for whole numbers."""

    name: str
    mantissa_bits: int | None
    minimum_exponent: int = 0

    def half_spacing(self, values: Array) -> Array:
        """Half the distance to the next number that the dtype holds, at each value; float64."""
        if self.mantissa_bits is None:
            return np.full(np.shape(values), 0.5)
        _, exponent = np.frexp(np.abs(values.astype(np.float64)))
        exponent = np.maximum(
            np.where(values == 0, self.minimum_exponent, exponent - 1), self.minimum_exponent
        )
        return np.asarray(np.ldexp(0.5, exponent - self.mantissa_bits))


BFLOAT16 = Precision(BFLOAT16_NAME, 7, -126)


def precision_of(dtype: np.dtype[Any]) -> Precision:
    """The precision of a NumPy integer or float dtype."""
    if dtype.kind in "iu":
        return Precision(dtype.name, None)
    information = np.finfo(dtype)
    return Precision(dtype.newbyteorder("=").name, information.nmant, int(information.minexp))


class StoredArray(Protocol):
    """An array in a file, open for reading. ``name`` is FILE or FILE::DATASET.

    ``files`` is every file that reading opens, with its state when it was opened: the file itself
    and all that it leads to. Nothing that comes through a pipe or from a URL is among them.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    precision: Precision
    attributes: Mapping[str, Any]
    file_attributes: Mapping[str, Any]
    files: Mapping[str, FileState]

    def read_item_into(self, index: int, out: Array) -> None:
        """Item ``index`` along the first axis into ``out``, which has the stored dtype."""

    def read_rows_into(self, first: int, out: Array) -> None:
        """As many items as ``out`` has, from ``first`` on."""

    def read_all(self) -> Array:
        """The whole array, C-contiguous, in native byte order."""

    def close(self) -> None:
        """Let go of the file."""


class MemoryArray:
    """An array that is in memory already: from Python, from stdin, or parsed from text."""

    def __init__(
        self,
        values: Array,
        name: str,
        precision: Precision | None = None,
        files: Mapping[str, FileState] | None = None,
    ) -> None:
        check_numeric(values.dtype, name)
        self.files: Mapping[str, FileState] = files or {}
        self.name: str = foreign(name)
        self.shape = values.shape
        self.dtype = values.dtype.newbyteorder("=")
        self.precision = precision or precision_of(values.dtype)
        self.attributes: Mapping[str, Any] = {}
        self.file_attributes: Mapping[str, Any] = {}
        self._values = values

    def read_item_into(self, index: int, out: Array) -> None:
        """Item ``index`` along the first axis into ``out``."""
        out[...] = self._values[index]

    def read_rows_into(self, first: int, out: Array) -> None:
        """As many items as ``out`` has, from ``first`` on."""
        out[...] = self._values[first : first + len(out)]

    def read_all(self) -> Array:
        """The whole array, C-contiguous, in native byte order."""
        return np.ascontiguousarray(self._values, self.dtype)

    def close(self) -> None:
        """Nothing to let go of."""


class NpyArray:
    """A C-ordered .npy file, read at offsets into the caller's buffer: nothing is mapped."""

    def __init__(self, path: str, mapped: np.memmap[Any, Any], state: FileState) -> None:
        self.name: str = foreign(path)
        self.files: Mapping[str, FileState] = {path: state}
        self.shape = mapped.shape
        self.dtype = mapped.dtype.newbyteorder("=")
        self.precision = precision_of(mapped.dtype)
        self.attributes: Mapping[str, Any] = {}
        self.file_attributes: Mapping[str, Any] = {}
        self._stored_dtype = mapped.dtype
        self._offset = int(mapped.offset)
        self._file: io.FileIO = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()

    def read_item_into(self, index: int, out: Array) -> None:
        """Item ``index`` along the first axis into ``out``."""
        self._read_at(self._offset + index * out.nbytes, out)

    def read_rows_into(self, first: int, out: Array) -> None:
        """As many items as ``out`` has, from ``first`` on."""
        self._read_at(self._offset + first * (out.nbytes // max(len(out), 1)), out)

    def read_all(self) -> Array:
        """The whole array, C-contiguous, in native byte order."""
        out = np.empty(self.shape, self.dtype)
        self._read_at(self._offset, out)
        return out

    def _read_at(self, offset: int, out: Array) -> None:
        view = memoryview(cast("Any", out.reshape(-1).view(np.uint8)))
        while view:
            try:
                count = read_at(self._file.fileno(), view, offset)
            except OSError as error:
                raise InputError(f"{self.name}: cannot be read: {error.strerror}") from error
            if count == 0:
                raise InputError(f"{self.name}: ends at byte {offset}, the header promised more")
            view, offset = view[count:], offset + count
        if not self._stored_dtype.isnative:
            out.byteswap(inplace=True)

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(OSError):
            self._file.close()


def check_numeric(dtype: np.dtype[Any], name: str) -> None:
    """Raise InputError unless ``dtype`` is an integer, or a float of at most 64 bits."""
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(
            f"{name}: dtype is {dtype}, expected float16, float32, float64, bfloat16 or an integer"
        )
