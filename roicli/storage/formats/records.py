"""Tables as JSON: lists of records and JSON lines, COCO's files among them, and lists by column.

COCO's annotations and results, LVIS's and detectron2's too, have boxes x, y, width, height.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError, first_line, not_utf8
from roicli.core.foreign import decode_text, foreign
from roicli.core.types import Size
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import precision_of
from roicli.storage.file_state import FileState, read_state
from roicli.storage.formats import image_objects, refuse_references
from roicli.storage.limits import check_memory
from roicli.storage.roi_columns import (
    BOX_NAMES,
    KNOWN_NAMES,
    is_header,
    is_image_name,
    plain_name,
)
from roicli.storage.table import Column, ListedImage, Table, text_column

# Python's objects against the text that they are parsed from.
JSON_IN_MEMORY = 20
LINES_ENDINGS = (".jsonl", ".ndjson")
# Where a document that is no list has its records: COCO's, and roicli's own.
RECORDS = ("annotations", "rois")
# What makes records COCO's, whose boxes are x, y, width, height.
COCO_KEYS = {"image_id", "bbox"}
# What is in the name of a list of boxes, and in no image's.
BOX_WORDS = ("box", "roi", "rect", "detection", "prediction", "annotation")
# Keys of kerchunk's files, old and new.
KERCHUNKS = {"refs", ".zgroup", "zarr.json"}
COCO_CLASS = {"category_id", "category"}
FLOAT64 = precision_of(np.dtype(np.float64))
FAILURES = (ValueError, TypeError, KeyError, RecursionError, AttributeError, OverflowError)


def open_table(address: Address) -> Table:
    """The table of a JSON file. Raises InputError."""
    path = address.path
    check_regular_file(path)
    state = read_state(path)
    check_memory(path, "its JSON", os.stat(path).st_size * JSON_IN_MEMORY)
    with open(path, "rb") as stream:
        return parse_table(stream.read(), path, {path: state})


def parse_table(data: bytes, name: str, files: Mapping[str, FileState] | None = None) -> Table:
    """The table in the bytes of a JSON document, or of JSON lines. Raises InputError."""
    check_memory(name, "its JSON", len(data) * JSON_IN_MEMORY)
    try:
        text = decode_text(data)
        document, lines = _parse(text, name)
        return make_table(document, name, files or {}, lines)
    except UnicodeDecodeError as error:
        raise not_utf8(name, error) from None
    except FAILURES as error:
        raise InputError(f"{name}: cannot be read as JSON: {first_line(error)}") from error


def _parse(text: str, name: str) -> tuple[Any, list[int] | None]:
    """The document, or the records of JSON lines and the lines that they stand on."""
    is_named_lines = name.lower().endswith(LINES_ENDINGS)
    if not is_named_lines or text.lstrip()[:1] == "[":
        try:
            return json.loads(text), None
        except json.JSONDecodeError as error:
            if not (is_named_lines or error.msg.startswith("Extra data")):
                raise
    records, lines = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise InputError(
                    f"{name}: line {number}: is no JSON: {first_line(error)}"
                ) from None
            lines.append(number)
    return records, lines


def make_table(
    document: Any, name: str, files: Mapping[str, FileState], lines: list[int] | None = None
) -> Table:
    """The table in a document's Python objects. Raises InputError, and what wrong types raise."""
    document = [] if _has_no_boxes(document) else document
    found = image_objects.spread(image_objects.list_images(document), name)
    others: Mapping[str, Any] = {}
    if found is not None:
        records, lines = found[0], None
    else:
        records, others = _find_records(document, name)
    boxes = image_objects.Boxes(())
    if isinstance(records, Mapping):
        columns = _columns_of(records)
        count = len(columns[0].values) if columns else 0
    else:
        boxes = image_objects.read_boxes(records, name)
        columns, count = columns_of_records(boxes.rows, name, lines), len(records)
    names = {one.name for one in columns}
    is_named = bool(names - {""}) or not columns
    roi_format = boxes.roi_format
    if roi_format is None and names >= COCO_KEYS and names & COCO_CLASS:
        roi_format = "xywh"
        columns += _name_categories(columns, others)
    return Table(
        foreign(name), count, columns, FLOAT64.name, files, is_named, roi_format=roi_format,
        normalized=boxes.normalized, images=_list_images(others) if found is None else found[1],
        lines=None if lines is None else np.array(lines, np.int64),
    )  # fmt: skip


def _has_no_boxes(document: Any) -> bool:
    """Whether it is a list of boxes, or several by image, and all are empty."""
    if not isinstance(document, dict):
        return isinstance(document, list) and all(map(_has_no_boxes, document))
    boxes = [value for key, value in document.items() if plain_name(str(key)) in BOX_NAMES]
    inner = boxes or [value for value in document.values() if isinstance(value, list | dict)]
    return bool(inner) and all(map(_has_no_boxes, inner))


def _find_records(document: Any, name: str) -> tuple[Any, Mapping[str, Any]]:
    """The records, or columns by name, of a document; and what stands beside them."""
    if isinstance(document, list):
        return _by_image(dict(enumerate(document)), document), {}
    if not isinstance(document, dict):
        raise InputError(f"{name}: is one JSON value, expected a list of records")
    if document.keys() & KERCHUNKS:
        refuse_references(name)
    for key in RECORDS:
        if isinstance(document.get(key), list):
            return document[key], document
    lists = {key: value for key, value in document.items() if isinstance(value, list)}
    records = [key for key, value in lists.items() if value and isinstance(value[0], dict)]
    if len(records) == 1:
        return document[records[0]], document
    if records:
        shown = ", ".join(map(foreign, records))
        raise InputError(f"{name}: has several lists of records ({shown}), expected one")
    return _columns_or_images(document, lists), {}


def _columns_or_images(document: Mapping[str, Any], lists: Mapping[str, list[Any]]) -> Any:
    """The records, or columns by name, of a document without a list of records."""
    if set(document) >= {"columns", "data"}:  # pandas, split
        cells = zip(*document["data"], strict=True)
        return dict(zip(document["columns"], map(list, cells), strict=True))
    if (records := _by_image(document, None)) is not None:
        return records
    if (records := _by_row(document)) is not None:
        return records
    if _are_columns(document):
        return {key: list(value.values()) for key, value in document.items()}
    boxes = [value for value in lists.values() if value and isinstance(value[0], list)]
    if boxes or (lists and not any(map(_is_box, lists.values()))):
        length = len(boxes[0]) if boxes else max(map(len, lists.values()))
        return {key: value for key, value in lists.items() if len(value) == length}
    return [document]


def _by_image(images: Mapping[Any, Any], otherwise: Any) -> Any:
    """A record a box of a document that has, image by image, boxes or a record with a list of them.

    ``images`` are by their keys, which stand for those that have none of their own; ``otherwise``
    is given back where it is no such document.
    """
    of_image = {key: _boxes_of(value) for key, value in images.items()}
    if not images or None in of_image.values() or not any(of_image.values()):
        return otherwise
    if any(_is_name_of_column(str(key)) for key in images):
        return otherwise
    return [
        record if any(is_image_name(plain_name(str(name))) for name in record)
        else {"image": key, **record}
        for key, boxes in of_image.items() for record in boxes or ()
    ]  # fmt: skip


def _is_name_of_column(key: str) -> bool:
    plain = plain_name(key)
    return plain in KNOWN_NAMES or any(word in plain for word in BOX_WORDS)


def _boxes_of(value: Any) -> list[dict[str, Any]] | None:
    """A record for each box of an image; None of what is no image's."""
    if isinstance(value, list) and all(map(_is_box, value)):
        return [{"box": box} for box in value]
    if not isinstance(value, dict):
        return None
    name = _name_of_boxes(value)
    if name is None:  # data sets of Hugging Face have an image's objects by column
        inner = next((k for k, v in value.items() if isinstance(v, dict) and _name_of_boxes(v)), "")
        value = {**{k: v for k, v in value.items() if k != inner}, **value.get(inner, {})}
        name = _name_of_boxes(value)
    boxes = value.get(name)
    if not isinstance(boxes, list) or not all(map(_is_box, boxes)):
        return None
    beside = {key: one for key, one in value.items() if key != name}
    columns = {
        key: one if isinstance(one, list) and len(one) == len(boxes) else [one] * len(boxes)
        for key, one in beside.items()
        if not isinstance(one, list) or len(one) == len(boxes)
    }
    return [
        {**{key: one[row] for key, one in columns.items()}, str(name): box}
        for row, box in enumerate(boxes)
    ]


def _name_of_boxes(record: Mapping[str, Any]) -> str | None:
    return next((key for key in record if plain_name(str(key)) in BOX_NAMES), None)


def _by_row(document: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The records of a document that has one a key, as pandas writes rows by their numbers; other
    keys are images. None of anything else.
    """
    rows = list(document.values())
    if not rows or not all(isinstance(one, dict) and is_header(list(one)) for one in rows):
        return None
    if any(is_image_name(plain_name(name)) for name in rows[0]):
        return rows
    are_numbers = all(key.isdecimal() for key in document)
    return None if are_numbers else [{"image": key, **one} for key, one in document.items()]


def _are_columns(document: Mapping[str, Any]) -> bool:
    """Whether it is a column a key, row by row, as pandas writes it."""
    rows = [list(value) if isinstance(value, dict) else None for value in document.values()]
    return bool(rows) and rows[0] is not None and all(one == rows[0] for one in rows)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and not isinstance(value[0], list)


def columns_of_records(
    records: Sequence[Any], name: str, lines: Sequence[int] | None = None
) -> tuple[Column, ...]:
    """A column for every key that some record has; what a record has not is NaN or None."""
    if records and all(isinstance(one, list) for one in records):
        width = len(records[0])
        if any(len(one) != width for one in records):
            raise InputError(f"{name}: its rows have different lengths")
        cells = [_make_column("", [one[place] for one in records]) for place in range(width)]
        return tuple(one for one in cells if one is not None)
    keys: dict[str, None] = {}
    flat = []
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            spot = f"line {lines[row]}" if lines else f"record {row}"
            raise InputError(f"{name}: {spot}: is a {type(record).__name__}, expected a record")
        flat.append(_flatten(record))
        keys.update(dict.fromkeys(flat[-1]))
    _check_boxes(flat, name, lines)
    return _columns_of({key: [record.get(key) for record in flat] for key in keys})


def _check_boxes(
    records: Sequence[Mapping[str, Any]], name: str, lines: Sequence[int] | None
) -> None:
    """Raise InputError where some records have a box and others none, or only a polygon."""
    for key in BOX_NAMES:
        if not any(isinstance(one.get(key), list) for one in records):
            continue
        bad = [row for row, one in enumerate(records) if not _is_box(one.get(key))]
        if bad and len(bad) < len(records):
            spot = f"line {lines[bad[0]]}" if lines else f"record {bad[0]}"
            raise InputError(
                f"{name}: {spot}: {key} is {records[bad[0]].get(key)!r}, expected four numbers as "
                f"in other records ({len(bad):,} such records)",
                "leave these records out, or write their boxes",
            )
        return
    if records and all("segmentation" in one for one in records):
        raise InputError(
            f"{name}: its annotations have a segmentation and no bbox",
            "write the box of each as bbox: x, y, width, height",
        )


def _flatten(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record whose inner records, as ``"box": {"x1": ...}``, are keys of its own."""
    if not any(isinstance(value, dict) for value in record.values()):
        return record
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            found.update({f"{key}_{inner}": item for inner, item in value.items()})
        else:
            found[key] = value
    return found


def _columns_of(by_name: Mapping[str, Sequence[Any]]) -> tuple[Column, ...]:
    """The columns that can be held: numbers, lists of as many numbers, texts."""
    lengths = {len(values) for values in by_name.values()}
    if len(lengths) > 1:
        raise ValueError(f"its columns have different lengths: {sorted(lengths)}")
    columns = [_make_column(str(key), values) for key, values in by_name.items()]
    return tuple(one for one in columns if one is not None)


def _make_column(name: str, values: Sequence[Any]) -> Column | None:
    """None of what is neither numbers nor texts, as a segmentation is."""
    kinds = {type(value) for value in values}
    if kinds & {list, dict}:
        return _make_lists(name, values) if kinds == {list} else None
    if kinds <= {int, float, bool, type(None)} and kinds != {type(None)}:
        numbers = [np.nan if value is None else value for value in values]
        whole = kinds <= {int, bool}
        with suppress(OverflowError):  # an id of twenty digits is a text
            return Column(name, np.array(numbers, np.int64 if whole else np.float64), FLOAT64)
    return text_column(name, [None if value is None else str(value) for value in values])


def _make_lists(name: str, values: Sequence[Any]) -> Column | None:
    """A column of as many numbers in every row; None of other lists."""
    width = len(values[0])
    numbers = (one for row in values for one in row)
    if width < 2 or any(len(row) != width for row in values):
        return None
    if not all(type(one) in (int, float) for one in numbers):
        return None
    return Column(name, np.array(values, np.float64), FLOAT64)


def _name_categories(columns: Iterable[Column], others: Mapping[str, Any]) -> tuple[Column, ...]:
    """COCO's names of the categories, as one more column."""
    listed = others.get("categories")
    ids = next((one.values for one in columns if one.name == "category_id"), None)
    if not isinstance(listed, list) or not listed or ids is None:
        return ()
    names = {one["id"]: one["name"] for one in listed if isinstance(one, dict) and "name" in one}
    return (text_column("category_name", [names.get(number) for number in ids.tolist()]),)


def _list_images(others: Mapping[str, Any]) -> tuple[ListedImage, ...]:
    """COCO's ``images``; LVIS has addresses instead of names."""
    listed = others.get("images")
    if not isinstance(listed, list):
        return ()
    found = []
    for one in listed:
        if not isinstance(one, dict) or "id" not in one:
            return ()
        file_name = one.get("file_name") or posixpath.basename(str(one.get("coco_url") or ""))
        height, width = one.get("height"), one.get("width")
        size: Size | None = None
        if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
            size = height, width
        found.append(ListedImage(str(one["id"]), str(file_name) or None, size))
    return tuple(found)
