"""Pascal VOC's annotations: an XML file an image, or a folder of them (extra ``roicli[voc]``).

XML is read by defusedxml, which refuses entities and what else XML may lead to.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from roicli.core.exceptions import InputError, MissingPackageError, first_line
from roicli.core.foreign import foreign, plain_numbers
from roicli.core.types import Size
from roicli.storage.address import Address, check_regular_file
from roicli.storage.array import precision_of
from roicli.storage.file_state import FileState, read_state
from roicli.storage.limits import check_memory
from roicli.storage.table import Column, ListedImage, Table, text_column

logger = logging.getLogger("roicli")

ENDING = ".xml"
EDGES = ("xmin", "ymin", "xmax", "ymax")
# An element in memory against its text.
XML_IN_MEMORY = 40
FLOAT64 = precision_of(np.dtype(np.float64))


class Annotation(NamedTuple):
    """What a file says: its image, and a class and four edges an object."""

    image: ListedImage
    classes: list[str | None]
    boxes: list[list[float]]


def open_table(address: Address) -> Table:
    """The objects of a file, or of a folder of them. Raises InputError."""
    path = address.path
    if os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(ENDING))
        if not names:
            raise InputError(f"{path}: holds no annotations, which end in {ENDING}")
        files = [os.path.join(path, name) for name in names]
    else:
        check_regular_file(path)
        files = [path]
    state = read_state(path)  # before anything is read, so that a change meanwhile is seen
    return _make_table(map(_read_file, files), path, {path: state})


def parse_table(data: bytes, name: str, files: Mapping[str, FileState] | None = None) -> Table:
    """The objects in the bytes of a file. Raises InputError."""
    return _make_table([_parse(data, name)], name, files or {})


def _make_table(found: Iterable[Annotation], name: str, files: Mapping[str, FileState]) -> Table:
    found = list(found)
    images = [one.image.id for one in found for _ in one.boxes]
    boxes = np.array([box for one in found for box in one.boxes], np.float64).reshape(-1, 4)
    if len(boxes):
        logger.info(
            f"{name}: Pascal VOC counts pixels from 1 and its last one is inside; the numbers are "
            "taken as they stand"
        )
    columns = (
        text_column("image", images),
        *(Column(edge, boxes[:, place], FLOAT64) for place, edge in enumerate(EDGES)),
        text_column("class", [name for one in found for name in one.classes]),
    )
    listed = tuple(one.image for one in found)
    return Table(foreign(name), len(boxes), columns, FLOAT64.name, files, images=listed)


def _read_file(path: str) -> Annotation:
    check_memory(path, "its XML", os.path.getsize(path) * XML_IN_MEMORY)
    with open(path, "rb") as stream:
        return _parse(stream.read(), path)


def _parse(data: bytes, name: str) -> Annotation:
    try:
        from defusedxml import DefusedXmlException, ElementTree
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{name}: Pascal VOC's XML is read by defusedxml, which is not installed",
            "pip install 'roicli[voc]'",
        ) from error
    check_memory(name, "its XML", len(data) * XML_IN_MEMORY)
    try:
        root = ElementTree.fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        kind = type(error).__name__
        raise InputError(
            f"{name}: holds XML entities or a DTD ({kind}), which is refused"
        ) from None
    except Exception as error:
        raise InputError(f"{name}: cannot be read as XML: {first_line(error)}") from error
    if root.tag != "annotation":
        shown = str(foreign(str(root.tag)))
        raise InputError(f"{name}: is XML of {shown!r:.60}, expected Pascal VOC's annotation")
    return _read_annotation(root, name)


def _read_annotation(root: Any, name: str) -> Annotation:
    file_name = (root.findtext("filename") or "").strip() or os.path.basename(name)
    sides = [(root.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    size: Size | None = None
    if all(side.isascii() and side.isdigit() and int(side) > 0 for side in sides):
        size = int(sides[0]), int(sides[1])
    classes, boxes = [], []
    for number, one in enumerate(root.findall("object")):
        classes.append((one.findtext("name") or "").strip() or None)
        boxes.append([_read_edge(one, edge, f"{name}: object {number}") for edge in EDGES])
    return Annotation(ListedImage(os.path.splitext(file_name)[0], file_name, size), classes, boxes)


def _read_edge(element: Any, edge: str, where: str) -> float:
    text = (element.findtext(f"bndbox/{edge}") or "").strip()
    try:
        return float(plain_numbers(text))
    except ValueError:
        found = str(foreign(text)) or "nothing"
        raise InputError(f"{where}, {edge}: found {found!r:.60}, expected a number") from None
