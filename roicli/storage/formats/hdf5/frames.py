"""Tables of pandas in HDF5: a group is one table, in pandas' fixed or its table layout.

Names that pandas keeps as pickled attributes are read from the pickle's opcodes: nothing is
unpickled. Columns of objects are pickles themselves, and are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import h5py
import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.types import Array
from roicli.storage.address import Address
from roicli.storage.array import Heading, StoredArray
from roicli.storage.choice import list_names
from roicli.storage.file_state import FileState
from roicli.storage.formats.hdf5.links import find_within
from roicli.storage.roi_columns import is_image_name, plain_name
from roicli.storage.table import Column, Table, column_of, text_column

logger = logging.getLogger("roicli")

PANDAS_TYPE = "pandas_type"
KINDS = ("frame", "frame_table")
# The opcodes of texts and of whole numbers; and those by which a list of them is built.
NAME_OPCODES = {
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1",
}  # fmt: skip
LIST_OPCODES = {
    "PROTO", "FRAME", "MARK", "LIST", "EMPTY_LIST", "APPEND", "APPENDS", "PUT", "BINPUT",
    "LONG_BINPUT", "MEMOIZE", "STOP",
}  # fmt: skip
MOST_BLOCKS = 10_000
# How a pickle ends, and what marks codes of categories.
PICKLED, CATEGORY = ".", "category"


class Block(NamedTuple):
    """Columns that lie in one dataset: its address, the field of its records, and their names.

    ``names`` is the address of a dataset of names where they are not known yet.
    """

    values: str
    field: str | None
    names: Sequence[str] | str


class Frame(NamedTuple):
    """A table of pandas: its group, its columns in order or "" unknown, and its blocks.

    ``rows`` is the name of the rows where they have one, which is a column then. Addresses of
    names of columns of objects are ``left_out``, names of columns of codes ``coded``. ``is_empty``:
    it has no rows, which pandas keeps as one.
    """

    name: str
    order: str
    blocks: tuple[Block, ...]
    rows: str = ""
    left_out: tuple[str, ...] = ()
    coded: tuple[str, ...] = ()
    is_empty: bool = False


def is_frame(group: h5py.Group) -> bool:
    """Whether a group is a table of pandas."""
    return _text(group.attrs.get(PANDAS_TYPE)) in KINDS


def describe(group: h5py.Group) -> Frame:
    """How a table of pandas lies in its group. Raises InputError."""
    if _text(group.attrs.get(PANDAS_TYPE)) == "frame":
        return _describe_fixed(group)
    return _describe_table(group)


def _describe_fixed(group: h5py.Group) -> Frame:
    blocks, left_out = [], []
    count = int(group.attrs.get("nblocks", 0))
    for number in range(min(count, MOST_BLOCKS)):
        items, values = (f"{group.name}/block{number}_{what}" for what in ("items", "values"))
        if "O" in (_dataset(group, values).dtype.kind, _dataset(group, items).dtype.kind):
            left_out.append(items)
        else:
            blocks.append(Block(values, None, items))
    rows = _dataset(group, f"{group.name}/axis1")
    index = _text(rows.attrs.get("name", ""))
    index = "" if index.endswith(PICKLED) or rows.dtype.kind == "O" else index
    if index:
        blocks.insert(0, Block(rows.name, None, [index]))
    return Frame(
        group.name, f"{group.name}/axis0", tuple(blocks), index, tuple(left_out),
        is_empty="shape" in rows.attrs,
    )  # fmt: skip


def _describe_table(group: h5py.Group) -> Frame:
    table, blocks = _dataset(group, f"{group.name}/table"), []
    coded: list[str] = []
    index = _find_index_name(group.attrs.get("info", b""))
    if index:
        blocks.append(Block(table.name, "index", [index]))
    for field in table.dtype.names or ():
        kind = table.attrs.get(f"{field}_kind")
        if field == "index" or kind is None:
            continue
        names = read_names(kind, table.name)
        if _text(table.attrs.get(f"{field}_meta")) == CATEGORY:
            coded += names
        else:
            blocks.append(Block(table.name, field, names))
    return Frame(group.name, "", tuple(blocks), index, coded=tuple(coded))


def _find_index_name(info: bytes | str) -> str:
    """What the rows of a table are called, in pandas' pickled notes; "" where that is nothing."""
    import pickletools  # few files have a pickle

    data = info.encode("latin1") if isinstance(info, str) else bytes(info)
    is_next = False
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if is_next and opcode.name not in LIST_OPCODES:
                return str(argument) if opcode.name in NAME_OPCODES else ""
            is_next = is_next or argument == "index_name"
    except Exception as error:
        logger.debug(f"notes of pandas cannot be read: {error}")
    return ""


def headings_of(frame: Frame, group: h5py.Group) -> tuple[Heading, ...]:
    """The columns' names, in order, for ``inspect``."""
    if frame.order:
        names = _texts(_dataset(group, frame.order)[()])
        return tuple(map(Heading, [frame.rows, *names] if frame.rows else names))
    return tuple(Heading(name) for block in frame.blocks for name in block.names)


def count_rows(frame: Frame, group: h5py.Group) -> int:
    """How many rows the table has, for ``inspect``."""
    if frame.is_empty or not frame.blocks:
        return 0
    return int(_dataset(group, frame.blocks[0].values).shape[0])


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """A dataset of the file of ``group``. Raises KeyError."""
    found = find_within(group.file, name)
    if not isinstance(found, h5py.Dataset):
        raise KeyError(f"{group.name} is a table of pandas without {name}")
    return found


def read_names(pickled: bytes | str, where: str) -> list[str]:
    """The names in a pickled list of texts or numbers. Raises InputError for any other pickle."""
    import pickletools  # few files have a pickle

    data = pickled.encode("latin1") if isinstance(pickled, str) else bytes(pickled)
    names = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in NAME_OPCODES:
                names.append(str(argument))
            elif opcode.name not in LIST_OPCODES:
                raise ValueError(f"opcode {opcode.name}")
    except Exception as error:
        raise InputError(
            f"{where}: pandas kept the names of its columns as a pickle that is no list of names, "
            "and a pickle is never loaded",
            "save the table as .parquet or .csv",
        ) from error
    return names


def read_frame(path: str, frame: Frame, opener: Callable[[Address], StoredArray]) -> Table:
    """The table, its datasets opened by ``opener`` one by one. Raises InputError."""
    shown = str(Address(path, frame.name))
    columns: dict[str, Column] = {}
    arrays: dict[str, Array] = {}
    files: dict[str, FileState] = {}

    def read(name: str) -> Array:
        if name not in arrays:
            stored = opener(Address(path, name))
            try:
                arrays[name] = stored.read_all()
                files.update(stored.files)
            finally:
                stored.close()
        return arrays[name]

    for block in () if frame.is_empty else frame.blocks:
        values = read(block.values)
        if block.field is not None:
            values = values[block.field]
        names = _texts(read(block.names)) if isinstance(block.names, str) else block.names
        values = values if values.ndim == 2 else values[:, None]
        if values.shape[1] != len(names):
            raise InputError(
                f"{Address(path, block.values)}: {values.shape[1]} columns, expected "
                f"{len(names)} as there are names"
            )
        columns.update((name, column_of(name, values[:, i])) for i, name in enumerate(names))
    lost = [name for items in frame.left_out for name in _try_texts(read, items)]
    _tell_lost([*lost, *frame.coded], list(columns), shown)
    order = _texts(read(frame.order)) if frame.order else list(columns)
    if frame.is_empty:
        columns = {name: column_of(name, np.empty(0)) for name in order}
    if frame.rows and frame.rows not in order:
        order.insert(0, frame.rows)
    ordered = [columns[name] for name in order if name in columns]
    counts = {len(one.values) for one in ordered}
    if len(counts) > 1:
        raise InputError(f"{shown}: its columns have different lengths")
    is_named = order != [str(number) for number in range(len(order))]
    if not is_named:
        ordered = [one._replace(name="") for one in ordered]
    stored_as = next((one.precision.name for one in ordered if one.precision), "text")
    return Table(
        foreign(shown), counts.pop() if counts else 0, tuple(ordered), stored_as, files, is_named
    )  # fmt: skip


def _tell_lost(lost: Sequence[str], kept: Sequence[str], shown: str) -> None:
    """Note columns that are left out. Raises InputError where they alone name images."""
    if not lost:
        return
    named = [name for name in lost if is_image_name(plain_name(name))]
    if named and not any(is_image_name(plain_name(name)) for name in kept):
        raise InputError(
            f"{shown}: column {foreign(named[0])} seems to name images, and pandas keeps it as a "
            "pickle or as codes, which are not read",
            "make it texts and save the table as .parquet or .csv, or with format='table'",
        )
    logger.info(f"{shown}: columns of Python objects or codes are left out: {list_names(lost)}")


def _texts(values: Array) -> list[str]:
    if values.dtype.kind in "iu":
        return [str(value) for value in values.tolist()]
    found = text_column("", np.asarray(values).reshape(-1).tolist()).values
    return [str(name) for name in found]


def _try_texts(read: Callable[[str], Array], name: str) -> list[str]:
    try:
        return _texts(read(name))
    except InputError:
        return [name]


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
