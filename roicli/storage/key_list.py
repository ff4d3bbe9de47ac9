"""Lists of images' keys: what ``--images`` names, and what a file has beside its maps."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from roicli.core.exceptions import InputError, ParameterError, not_utf8
from roicli.core.foreign import foreign
from roicli.storage.address import Address, check_regular_file, parse_address
from roicli.storage.file_state import FileState, read_state
from roicli.storage.formats import TextReader, recognize
from roicli.storage.limits import check_memory
from roicli.storage.open import open_array
from roicli.storage.roi_columns import is_image_name, plain_name

# The keys of an image: as a rule one, and of COCO's images the id and the file's name.
Keys = tuple[str, ...]
# 1..118287, as people count.
_SPAN = r"(\d{1,12})\.\.(\d{1,12})"
MOST_SPANNED = 100_000_000
# What JSON takes in memory for each of its bytes, about.
JSON_BYTES = 8


class KeyList(NamedTuple):
    """Keys, an image each, in the maps' order; ``name`` is what they are called in messages."""

    keys: Sequence[Keys]
    name: str
    files: Mapping[str, FileState]


def read_key_list(given: Any) -> KeyList:
    """``--images``: a file of keys, an address of an array, the keys themselves, or an array.

    A text file has a key a line, or a header that names the columns of keys; a JSON file a list, or
    COCO's ``images``. Raises InputError and ParameterError.
    """
    if not isinstance(given, str | os.PathLike):
        return KeyList(_as_keys(np.asarray(given).reshape(-1).tolist(), "images"), "images", {})
    text = os.fspath(given)
    address = parse_address(text) if text.strip() else None
    if address is None or (address.dataset is None and not os.path.exists(address.path)):
        return KeyList(_spelled(text), "--images", {})
    path = address.path
    ending = os.path.splitext(path)[1].lower()
    if address.dataset is not None or ending not in (".json", ".csv", ".tsv", ".txt", ".lst", ""):
        return _read_array(text)
    check_regular_file(path)
    state = read_state(path)
    check_memory(path, "its keys", os.path.getsize(path) * JSON_BYTES)
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            content = stream.read()
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from None
    keys = _parse_json(content, path) if ending == ".json" else _parse_lines(content, path, ending)
    return KeyList(keys, path, {path: state})


def _read_array(text: str) -> KeyList:
    """An array of numbers or of texts."""
    address = parse_address(text)
    texts = read_texts(address)
    if texts is not None:
        return KeyList(_as_keys(texts, text), text, {address.path: read_state(address.path)})
    stored = open_array(address, "vector")
    try:
        check_memory(stored.name, "its keys", int(np.prod(stored.shape, dtype=float)) * 100)
        values = stored.read_all().reshape(-1).tolist()
    finally:
        stored.close()
    return KeyList(_as_keys(values, stored.name), stored.name, dict(stored.files))


def read_texts(address: Address) -> list[Any] | None:
    """The texts of an array; None of numbers, and of what is told better where numbers are read."""
    found = recognize(address)
    if found.holds not in ("several", "one"):
        return None
    reader = found.reader
    if not hasattr(reader, "read_texts"):
        return None
    try:
        return cast("TextReader", reader).read_texts(address)
    except (OSError, ValueError, KeyError):
        return None


def _spelled(text: str) -> list[Keys]:
    """Keys separated by commas; 1..5 are five."""
    keys: list[Keys] = []
    for part in text.split(","):
        span = re.fullmatch(_SPAN, part.strip())
        if span is None:
            keys.append((part.strip(),))
            continue
        first, last = int(span[1]), int(span[2])
        if not first <= last < first + MOST_SPANNED:
            raise ParameterError(f"images is {text!r}, expected FIRST..LAST to ascend")
        keys += [(str(number),) for number in range(first, last + 1)]
    if not all(key for (key,) in keys):
        raise ParameterError(
            f"images is {text!r}, expected a file of keys, or keys separated by single commas"
        )
    if len(keys) == 1 and re.search(
        r"\.(?:csv|tsv|txt|lst|json|npy|npz|h5|hdf5)$", text, re.IGNORECASE
    ):
        raise InputError(f"{text}: no such file")
    return keys


def _as_keys(values: Sequence[Any], name: str) -> list[Keys]:
    keys: list[Keys] = [(as_key(value),) for value in values]
    empty = next((place for place, (key,) in enumerate(keys) if not key), None)
    if empty is not None:
        raise InputError(f"{name}: item {empty} is empty, expected the key of an image")
    return keys


def as_key(value: object) -> str:
    """A key as text; a whole number without a point."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def _parse_lines(content: str, path: str, ending: str) -> list[Keys]:
    """A key a line; with a header of several names the columns that name images."""
    if ending not in (".csv", ".tsv"):
        return _as_keys([line for line in content.splitlines() if line.strip()], path)
    import csv

    reader = csv.reader(content.splitlines(), delimiter="\t" if ending == ".tsv" else ",")
    rows = [row for row in reader if any(cell.strip() for cell in row)]
    header = [plain_name(cell) for cell in rows[0]] if rows else []
    places = [at for at, name in enumerate(header) if is_image_name(name) or name == "id"]
    if places:
        del rows[0]
    elif rows and max(map(len, rows)) > 1:
        raise InputError(
            f"{path}: has {max(map(len, rows))} columns and no header that names an image's",
            "give a key a line, or a header like image_id,file_name",
        )
    keys: list[Keys] = []
    for number, row in enumerate(rows):
        cells = tuple(row[at].strip() for at in places or [0] if at < len(row) and row[at].strip())
        if not cells:
            raise InputError(f"{path}: row {number} has no key of an image")
        keys.append(cells)
    return keys


def _parse_json(content: str, path: str) -> list[Keys]:
    """A list of keys, or of COCO's ``images`` with their ids and file names."""
    import json

    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {error}") from None
    listed = document.get("images") if isinstance(document, dict) else document
    if not isinstance(listed, list):
        raise InputError(f"{path}: holds no list of keys, and no COCO images", "write [1, 2, ...]")
    keys = []
    for number, item in enumerate(listed):
        names = [item]
        if isinstance(item, dict):
            names = [item[name] for name in ("id", "file_name") if name in item]
        plain = [name for name in names if isinstance(name, str | int | float)]
        if not plain or len(plain) < len(names):
            found = str(foreign(str(item)))[:60]
            raise InputError(f"{path}: item {number} is {found}, expected the key of an image")
        keys.append(tuple(as_key(name) for name in plain))
    return keys
