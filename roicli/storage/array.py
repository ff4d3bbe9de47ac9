"""Arrays in files: how every format lets them be read, and what it says of those it holds."""

from __future__ import annotations

import contextlib
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import ForeignText, foreign, raw_text
from roicli.core.record import frozen
from roicli.core.system import read_at
from roicli.core.types import Array, IntArray, as_bytes
from roicli.storage.file_state import FileState

# An attribute that MATLAB writes with every array. Others see the axes of such an array reversed.
MATLAB_CLASS = "MATLAB_class"
MATLAB_EMPTY = "MATLAB_empty"
Place = tuple[slice, ...]
Shape = tuple[int, ...]

# Whole arrays are gone through, and HDF5 is read by its child, in blocks of this size.
BLOCK_BYTES = 16 << 20
# Chunks that hold several items are kept decoded up to this size, where nobody says another, so
# that each is decoded once.
KEPT_BYTES = 32 << 20
# Rows that are closer to each other than this are read at once, with what lies between them.
SPAN_BYTES = 4 << 20

# --- dtypes -------------------------------------------------------------------------------------

OPAQUE_BFLOAT16 = np.dtype("V2")


class Precision(NamedTuple):
    """How exactly a stored dtype holds a number; ``mantissa_bits`` is None for integers."""

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


def narrow_float(name: str) -> np.dtype[Any]:
    """A float dtype of ml_dtypes by its name: bfloat16, float8_e4m3fn and others."""
    import ml_dtypes  # 20 ms, which few files need

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found


def named_dtype(name: str) -> np.dtype[Any]:
    """The dtype with the name that ``Precision`` gives it."""
    return narrow_float(name) if name.startswith(("bfloat", "float8")) else np.dtype(name)


def is_narrow_float(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is one of ml_dtypes' floats."""
    return dtype.isbuiltin == 2 and dtype.name.startswith(("bfloat", "float"))


def as_stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that is meant by a file's: NumPy saves ml_dtypes' bfloat16 as two opaque bytes."""
    return narrow_float("bfloat16") if dtype == OPAQUE_BFLOAT16 else dtype


def as_read(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which values are given out: float32 for the floats of ml_dtypes."""
    return np.dtype(np.float32) if is_narrow_float(dtype) else dtype.newbyteorder("=")


def precision_of(dtype: np.dtype[Any]) -> Precision:
    """The precision of an integer or float dtype."""
    if is_narrow_float(dtype):
        import ml_dtypes

        found: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
        return Precision(dtype.name, int(found.nmant), int(found.minexp))
    if dtype.kind != "f":
        return Precision("record" if dtype.names else dtype.name, None)
    information = np.finfo(dtype)
    return Precision(dtype.newbyteorder("=").name, information.nmant, int(information.minexp))


def is_numeric(dtype: np.dtype[Any]) -> bool:
    """Whether roicli reads the dtype: an integer, or a float of at most 64 bits."""
    return is_narrow_float(dtype) or (
        dtype.isbuiltin != 2 and dtype.kind in "iuf" and dtype.itemsize <= 8
    )


def without_objects(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype without fields that point to objects, as texts of any length do."""
    names = dtype.names or ()
    kept = [(name, dtype[name]) for name in names if not dtype[name].hasobject]
    return np.dtype(kept) if kept and len(kept) < len(names) else dtype


def is_record(dtype: np.dtype[Any]) -> bool:
    """Whether roicli reads records of the dtype: of numbers, bools, times, texts of one length."""
    if dtype.fields is None:
        return False
    bases = [one[0].base for one in dtype.fields.values()]
    return all(is_numeric(as_stored(base)) or base.kind in "bSUMm" for base in bases)


def name_of_dtype(dtype: np.dtype[Any]) -> str:
    """A dtype as it is shown: numbers in native byte order, others as NumPy writes them."""
    return precision_of(dtype).name if is_numeric(dtype) else str(dtype)


def check_numeric(dtype: np.dtype[Any], name: str) -> None:
    """Raise InputError unless ``is_numeric``."""
    if is_numeric(dtype):
        return
    hint = None

    if dtype == np.dtype("V1"):
        hint = (
            "NumPy saves float8_e4m3fn and others of ml_dtypes so, and not which: "
            "save it as float16, or as .safetensors, which keeps the name"
        )
    raise InputError(
        f"{name}: dtype is {dtype}, expected float16, float32, float64, bfloat16 or an integer",
        hint,
    )


def check_readable(dtype: np.dtype[Any], name: str) -> None:
    """Raise InputError unless the dtype is one of numbers, of short texts or of records."""
    if dtype.itemsize == 0:
        raise InputError(f"{name}: dtype is {dtype.str}, whose items have no bytes")
    if not (is_record(dtype) or dtype.kind in "SU"):
        check_numeric(dtype, name)


# --- arrays -------------------------------------------------------------------------------------


class StoredArray(ABC):
    """An array in a file, open for reading. ``name`` is FILE or FILE::DATASET.

    ``dtype`` is that of the values as they are handed over, ``precision`` tells how they are
    stored; ``dimension_names`` are what the file calls the axes, "" for one without a name, and
    empty where none has one. ``files`` is every file that reading opens, with its state when it was
    opened: the file itself and all that it leads to. Nothing that comes through a pipe or from a
    URL is among them. ``chunk_rows`` items are decoded together, one in chunks of its own lies in
    ``image_files`` files, and ``reading_bytes`` is what reading holds besides what it is read
    into. ``offset`` is where all values lie in the file, in one piece and as they are handed over;
    None where they do not, or nobody needs to know.
    ``most_kept`` is how many bytes of decoded items may be kept; None for 32 MiB.
    """

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    precision: Precision
    attributes: Mapping[str, Any] = {}
    group_attributes: Mapping[str, Any] = {}
    file_attributes: Mapping[str, Any] = {}
    dimension_names: tuple[str, ...] = ()
    files: Mapping[str, FileState] = {}
    chunk_rows: int = 1
    image_files: int = 1
    reading_bytes: int = 0
    offset: int | None = None
    most_kept: int | None = None
    _kept: tuple[int, Array] | None = None

    @abstractmethod
    def read(self, place: Place, out: Array) -> None:
        """The values at ``place``, a slice with a start and a stop for each axis, into ``out``.

        ``out`` has that shape and ``dtype``, and is C-contiguous. Raises InputError.
        """

    def read_all(self) -> Array:
        """The whole array, C-contiguous, in native byte order."""
        try:
            out = np.empty(self.shape, self.dtype)
        except ValueError as error:  # where one side is 0, nothing bounds the others but NumPy
            raise InputError(
                f"{self.name}: shape is {self.shape}, which no array can have"
            ) from error
        self.read(tuple(slice(0, side) for side in self.shape), out)
        return out

    def read_item_into(self, index: int, out: Array) -> None:
        """Item ``index`` along the first axis into ``out``."""
        self.read_rows_into(index, out[np.newaxis])

    def read_rows_into(self, first: int, out: Array) -> None:
        """As many items as ``out`` has, from ``first`` on."""
        if self.kept_rows == 1:
            self._read_rows(first, out)
            return
        done = 0
        while done < len(out):
            start, values = self._keep_rows_of(first + done)
            found = values[first + done - start :][: len(out) - done]
            out[done : done + len(found)] = found
            done += len(found)

    @property
    def kept_rows(self) -> int:
        """How many items are read together and kept: those of a chunk, or as many as there is room
        for.
        """
        room = KEPT_BYTES if self.most_kept is None else self.most_kept
        fitting = room // max(self._row_bytes, 1)
        return max(1, min(self.chunk_rows, fitting, self.shape[0] if self.shape else 1))

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def _keep_rows_of(self, row: int) -> tuple[int, Array]:
        """The first row and the values of what is read together with a row."""
        if self._kept is None or not self._kept[0] <= row < self._kept[0] + len(self._kept[1]):
            chunk, inside = row - row % self.chunk_rows, row % self.chunk_rows
            start = chunk + inside - inside % self.kept_rows
            stop = min(start + self.kept_rows, chunk + self.chunk_rows, self.shape[0])
            values = self._kept[1] if self._kept is not None else np.empty(0)
            self._kept = None  # it is written over, or goes before there is more
            if len(values) != stop - start:
                del values
                values = np.empty((stop - start, *self.shape[1:]), self.dtype)
            self._read_rows(start, values)
            self._kept = (start, values)
        return self._kept

    def _read_rows(self, first: int, out: Array) -> None:
        rest = (slice(0, side) for side in self.shape[1:])
        self.read((slice(first, first + len(out)), *rest), out)

    def beside(self, name: str) -> str | None:
        """The address of the array ``name`` in the same group of the same file, if there is one."""
        return None

    def close(self) -> None:
        """Let go of the file."""
        self._kept = None


def describe_sharing(images: int, chunk_rows: int) -> str | None:
    """What it means that so many of all images are decoded together; None where each is alone."""
    sharing = min(images, chunk_rows)
    if sharing <= 1:
        return None
    return f"each chunk holds {sharing} images: reading one image reads {sharing}"


class MemoryArray(StoredArray):
    """An array that is in memory or memory-mapped: from Python, from stdin, parsed from text."""

    def __init__(
        self,
        values: Array,
        name: str,
        files: Mapping[str, FileState] | None = None,
        may_be_table: bool = False,
    ) -> None:
        (check_readable if may_be_table else check_numeric)(values.dtype, name)
        self.name = foreign(name)
        self.files = files or {}
        self.shape = values.shape
        self.dtype = as_read(values.dtype)
        self.precision = precision_of(values.dtype)
        self._values = values

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``."""
        out[...] = self._values[place]

    def read_all(self) -> Array:
        """The whole array, C-contiguous, in native byte order: itself where it is that already."""
        return np.ascontiguousarray(self._values, self.dtype)


class RawLayout(NamedTuple):
    """Values that lie in a file unencoded and in C order, from the byte ``offset`` on."""

    offset: int
    shape: Shape
    dtype: np.dtype[Any]


class RawArray(StoredArray):
    """An array whose values lie in a file unencoded; they are read at offsets, not mapped."""

    def __init__(self, path: str, layout: RawLayout, name: str, state: FileState) -> None:
        check_readable(layout.dtype, name)
        self.name = foreign(name)
        self.files = {path: state}
        self.shape = layout.shape
        self.dtype = as_read(layout.dtype)
        self.precision = precision_of(layout.dtype)
        self._layout = layout
        # Of records, and of what is turned or widened, each value is made anew.
        self.offset = layout.offset if layout.dtype == self.dtype else None
        self._file: io.FileIO = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``, run by run of what lies together."""
        if out.size == 0:
            return
        stored = self._layout.dtype
        same = stored.itemsize == self.dtype.itemsize and (stored.isnative or not stored.names)
        raw = out if same else np.empty(out.shape, stored)
        view = as_bytes(raw)
        done = 0
        for first, count in contiguous_runs(self.shape, place):
            size = count * stored.itemsize
            offset = self._layout.offset + first * stored.itemsize
            self._read_at(offset, view[done : done + size])
            done += size
        if raw is not out:
            out[...] = raw
        elif not stored.isnative:
            out.byteswap(inplace=True)

    def _read_at(self, offset: int, view: memoryview) -> None:
        try:
            read_whole(self._file.fileno(), view, offset)
        except EOFError as error:
            raise InputError(f"{self.name}: {error}") from error
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(OSError):
            self._file.close()


def read_whole(descriptor: int, view: memoryview, offset: int) -> None:
    """Fill ``view`` from ``offset`` on. Raises OSError; EOFError where the file ends before."""
    while view:
        count = read_at(descriptor, view, offset)
        if count == 0:
            raise EOFError(f"ends at byte {offset}, the header promised more")
        view, offset = view[count:], offset + count


def contiguous_runs(shape: Shape, place: Place) -> Iterator[tuple[int, int]]:
    """(first value, count) of the runs that make up ``place`` of a C-ordered array, in order."""
    sides = [part.stop - part.start for part in place]
    # The last axes that are taken whole, and one more, lie together.
    split = len(shape)
    while split > 0 and sides[split - 1] == shape[split - 1]:
        split -= 1
    split = max(split - 1, 0)
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    start = sum(part.start * stride for part, stride in zip(place, strides, strict=True))
    count = math.prod(sides[split:])
    for steps in np.ndindex(*sides[:split]):
        yield start + sum(n * stride for n, stride in zip(steps, strides, strict=False)), count


class SelectedRows(StoredArray):
    """The ``rows`` (k,), ascending, of a stored array (K, ...), as an array (k, ...).

    They are read without the others, where these do not lie in between.
    """

    def __init__(self, stored: StoredArray, rows: IntArray) -> None:
        self._stored, self._rows = stored, rows
        self.name = stored.name
        self.files = stored.files
        self.shape = (len(rows), *stored.shape[1:])
        self.dtype = stored.dtype
        self.precision = stored.precision
        self.attributes = stored.attributes
        self.file_attributes = stored.file_attributes

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` of the selection into ``out``."""
        rows, inner = self._rows[place[0]], place[1:]
        span = max(1, SPAN_BYTES // max(1, out[:1].nbytes))
        start = 0
        while start < len(rows):
            stop = int(np.searchsorted(rows, rows[start] + span))
            first, last = int(rows[start]), int(rows[stop - 1])
            held = np.empty((last - first + 1, *out.shape[1:]), out.dtype)
            self._stored.read((slice(first, last + 1), *inner), held)
            out[start:stop] = held[rows[start:stop] - first]
            start = stop

    def close(self) -> None:
        """Let go of the file."""
        self._stored.close()


# --- what a file holds ----------------------------------------------------------------------------


class Heading(NamedTuple):
    """What is known of a column before it is read: its name, and how many numbers a row has."""

    name: str
    width: int = 1


@frozen
class StoredDataset:
    """One dataset as it is stored.

    ``address`` is what a command takes; ``shape`` is None for a null dataspace; ``layout`` is one
    of contiguous, chunked, compact, virtual, C order, Fortran order, text; ``compression`` lists
    the filters in order, and ``stored_bytes`` is what they leave on disk, None where that is not
    known. ``is_numeric``: integers or floats of at most 64 bits, which roicli reads. ``open`` opens
    it for reading. ``columns`` are the names of a table's columns, with the numbers a row of each.
    ``reads_whole_chunks``: an item cannot be read without the rest of the chunk it lies in.
    """

    address: str
    shape: Shape | None
    dtype: str
    is_numeric: bool
    layout: str
    chunks: Shape | None = None
    compression: str | None = None
    stored_bytes: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    open: Callable[[], StoredArray] | None = field(default=None, repr=False, compare=False)
    columns: tuple[Heading, ...] | None = None
    reads_whole_chunks: bool = True

    def blocks(self) -> Iterator[Array]:
        """The values (N, ...), a block of at most 16 MiB, or one chunk, at a time."""
        assert self.open is not None
        with contextlib.closing(self.open()) as array:
            for place in split_into_blocks(array.shape, array.dtype.itemsize, self.chunks):
                block = np.empty([part.stop - part.start for part in place], array.dtype)
                array.read(place, block)
                yield block


class FileContents(NamedTuple):
    """What a file holds: its format, its own attributes and its datasets."""

    path: str
    file_format: str
    attributes: Mapping[str, Any]
    datasets: tuple[StoredDataset, ...]


def headings_of_dtype(dtype: np.dtype[Any]) -> tuple[Heading, ...]:
    """The columns of an array of records; "" for a field of several axes, which is none."""
    fields: Mapping[str, Any] = dtype.fields or {}
    found = []
    for name, one in fields.items():
        shape = one[0].shape
        found.append(Heading(name if len(shape) < 2 else "", shape[0] if len(shape) == 1 else 1))
    return tuple(found)


def split_into_blocks(
    shape: Sequence[int], itemsize: int, chunks: Sequence[int] | None = None
) -> Iterator[Place]:
    """Slices that cover an array, each at most 16 MiB where whole chunks allow.

    An empty array has none, whatever its other sides are.
    """
    if 0 in shape:
        return
    chunk = tuple(chunks) if chunks is not None else (1,) * len(shape)
    size = list(shape)
    # Axis by axis from the first, as few items as fit, but whole chunks.
    for axis in range(len(shape)):
        rest = int(np.prod([float(side) for side in size[axis + 1 :]])) * itemsize
        leading = int(np.prod([float(side) for side in size[:axis]]))
        fitting = BLOCK_BYTES // max(rest * leading, 1) // chunk[axis] * chunk[axis]
        size[axis] = min(size[axis], max(fitting, chunk[axis]))
    yield from _grid(shape, size)


def _grid(shape: Sequence[int], size: Sequence[int]) -> Iterator[Place]:
    if not shape:
        yield ()
        return
    for start in range(0, shape[0], max(size[0], 1)):
        for rest in _grid(shape[1:], size[1:]):
            yield (slice(start, min(start + size[0], shape[0])), *rest)


# A longer attribute is shown by its beginning.
ATTRIBUTE_ITEMS = 16
ATTRIBUTE_CHARACTERS = 500


def plain_attributes(attributes: Any) -> dict[str, Any]:
    """Attributes as numbers, texts and lists of them, which can be shown."""
    found: dict[str, Any] = {}
    for name in attributes:
        try:
            found[foreign(name)] = _plain_value(attributes[name])
        except (OSError, TypeError, ValueError) as error:
            found[foreign(name)] = unreadable(str(error))
    return found


def unreadable(reason: str) -> ForeignText:
    """The text shown in place of a value that cannot be read, so that it does not seem missing."""
    return foreign(f"cannot be read: {reason}")


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes | str):
        cut = len(value) > ATTRIBUTE_CHARACTERS
        text = raw_text(foreign(value[:ATTRIBUTE_CHARACTERS]))
        return foreign(f"{text}..." if cut else text)
    array = np.asarray(value)
    items = [_plain_item(item) for item in array.reshape(-1)[:ATTRIBUTE_ITEMS].tolist()]
    if array.size > ATTRIBUTE_ITEMS:
        items.append("...")
    return items[0] if array.ndim == 0 else items


def _plain_item(item: Any) -> Any:
    if isinstance(item, bool | int) or (isinstance(item, float) and np.isfinite(item)):
        return item
    return foreign(item if isinstance(item, bytes | str) else str(item))
