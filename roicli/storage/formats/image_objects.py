"""JSON of annotation tools: an image after another, each with a list of its objects.

A row an object is made of them. What the tools call a box, and what its numbers are, is a table
here: detectron2's data sets, labelme, FiftyOne, CreateML, BDD100K, VIA, Supervisely, Label Studio.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.vocabulary import RoiFormat
from roicli.storage.roi_columns import BOX_NAMES, SYNONYMS, is_image_name, plain_name
from roicli.storage.table import ListedImage

logger = logging.getLogger("roicli")

Record = Mapping[str, Any]
BOX = "box"
NO_BOX = [float("nan")] * 4
# What an image is called where nothing that it has is a name of images.
OTHER_NAMES = ("name", "id", "key")
# Lists of objects by these names may be empty in all images.
LISTS = ("annotations", "annotation", "shapes", "objects", "regions", "predictions", "detections")
# detectron2's BoxMode: XYXY_ABS, XYWH_ABS, XYXY_REL, XYWH_REL.
# Source: detectron2/structures/boxes.py.
BOX_MODES: dict[Any, tuple[RoiFormat, bool]] = {
    0: ("xyxy", False), 1: ("xywh", False), 2: ("xyxy", True), 3: ("xywh", True)
}  # fmt: skip


class Boxes(NamedTuple):
    """Rows with a box each, and what the tool defines of it; None where it does not."""

    rows: Sequence[Any]
    roi_format: RoiFormat | None = None
    normalized: bool | None = None


class Kind(NamedTuple):
    """A tool's box: an object with ``key`` has it, and ``read`` makes four numbers of the object;
    it raises where the object is no rectangle.
    """

    key: str
    read: Callable[[Any], list[Any]]
    roi_format: RoiFormat
    normalized: bool = False


def _named(key: str, *names: str) -> Callable[[Any], list[Any]]:
    return lambda one: [one[key][name] for name in names]


def _corners(one: Any) -> list[Any]:
    """Rectangles of labelme and Supervisely: points in any order."""
    kind, points = one.get("shape_type") or one["geometryType"], one["points"]
    if kind != "rectangle":
        raise ValueError(kind)
    x, y = zip(*(points["exterior"] if isinstance(points, dict) else points), strict=True)
    return [min(x), min(y), max(x), max(y)]


def _percent(one: Any) -> list[Any]:
    """Label Studio's rectangles: percent of the image, turned about their first corner."""
    if one.get("value", one)["rotation"]:
        raise ValueError("turned")
    sides = one["original_width"], one["original_height"]
    one = one.get("value", one)
    numbers = [one[name] for name in ("x", "y", "width", "height")]
    return [number * sides[place % 2] / 100 for place, number in enumerate(numbers)]


FIFTYONE = Kind("bounding_box", lambda one: list(one["bounding_box"]), "xywh", True)
KINDS = (
    Kind("shape_type", _corners, "xyxy"),
    Kind("geometryType", _corners, "xyxy"),
    Kind("coordinates", _named("coordinates", "x", "y", "width", "height"), "cxcywh"),
    Kind("box2d", _named("box2d", "x1", "y1", "x2", "y2"), "xyxy"),
    Kind("shape_attributes", _named("shape_attributes", "x", "y", "width", "height"), "xywh"),
    Kind("original_width", _percent, "xywh"),
)
# What has one of these is an object, whatever lists it has besides. An image has a width, too.
CORNERS = chain(*(SYNONYMS[name] for name in ("x1", "y1", "x2", "y2", "cx", "cy")))
BOXES = {plain_name(one.key) for one in (*KINDS, FIFTYONE)} | {"x", "y", *BOX_NAMES, *CORNERS}


def list_images(document: Any) -> Sequence[Any]:
    """The images of a document, which has them in a list, or by their keys."""
    if isinstance(document, list):
        if not document or not all(map(_are_objects, document)):
            return document
        return [{"image": number, "objects": one} for number, one in enumerate(document)]
    if not isinstance(document, dict):
        return ()
    inner = document.get("_via_img_metadata") or document
    by_key = inner.get("labels") if "classes" in inner else inner
    if isinstance(by_key, dict) and by_key:  # FiftyOne's image detections; VIA
        values = list(by_key.values())
        if all(isinstance(one, dict) and "regions" in one for one in values):
            return values
        if by_key is not inner and all(map(_are_objects, values)):
            return [
                {"image": key, "detections": [{"_cls": "Detection", **one} for one in value]}
                for key, value in by_key.items()
            ]
    return [document]


def spread(
    images: Sequence[Any], name: str
) -> tuple[list[dict[str, Any]], tuple[ListedImage, ...]] | None:
    """A row an object, with what names its image, and the images; None where records are no images
    with one list of objects, however deep. Raises InputError where many have several.
    """
    if not images or not all(isinstance(one, dict) for one in images):
        return None
    found = [_find_lists(one) for one in images]
    keys = {key for lists in found for key, objects in lists.items() if objects}
    keys = keys or {key for key in found[0] if key in LISTS}
    own = {plain_name(key) for one in images for key in one if key not in keys}
    if not keys or own & BOXES or (len(keys) > 1 and len(images) == 1):
        return None
    if len(keys) > 1:
        shown = ", ".join(map(foreign, sorted(keys)))
        raise InputError(
            f"{name}: its images have several lists of objects ({shown}), expected one",
            "save it with the objects of one of them",
        )
    key = keys.pop()
    objects = [lists.get(key) or [] for lists in found]
    named = all(_names_of(one) for some in objects for one in some)
    rows, listed = [], []
    for number, (image, some) in enumerate(zip(images, objects, strict=True)):
        names = _names_of(image)
        if not names and len(images) > 1:
            names = {"image": next((image[one] for one in OTHER_NAMES if one in image), number)}
        if names:
            texts = list(map(str, names.values()))
            listed.append(ListedImage(texts[0], texts[-1]))
        rows += [one if named else {**names, **one} for one in some]
    return spread(rows, name) or (rows, tuple(listed))


def read_boxes(rows: Sequence[Any], name: str) -> Boxes:
    """The rows with the box of a tool that is known; others as they are. Raises InputError."""
    first = rows[0] if rows and isinstance(rows[0], dict) else {}
    if "bbox_mode" in first and "bbox" in first:
        return _read_modes(rows, name)
    is_fiftyone = first.get("_cls") == "Detection" and FIFTYONE.key in first
    kind = FIFTYONE if is_fiftyone else next((one for one in KINDS if one.key in first), None)
    if kind is None:
        return Boxes(rows)
    found, lost = [], 0
    for row in rows:
        try:
            box = kind.read(row)
        except (KeyError, TypeError, ValueError):
            box, lost = NO_BOX, lost + 1
        plain = {key: one for key, one in row.items() if not isinstance(one, dict | list)}
        taken = ("x", "y", "width", "height") if kind.read is _percent else ()
        found.append({**{key: one for key, one in plain.items() if key not in taken}, BOX: box})
    if lost:
        logger.info(f"{name}: {lost:,} of {len(rows):,} objects are no rectangles: they have NaN")
    return Boxes(found, kind.roi_format, kind.normalized)


def _read_modes(rows: Sequence[Any], name: str) -> Boxes:
    """detectron2's objects, whose boxes say themselves what they are."""
    modes = list(dict.fromkeys(one.get("bbox_mode") for one in rows))
    if len(modes) > 1 or modes[0] not in BOX_MODES:
        shown = ", ".join(map(str, modes[:4]))
        raise InputError(
            f"{name}: bbox_mode is {foreign(shown)}, expected one of 0 to 3 in all objects",
            "convert the boxes to one: BoxMode.convert(box, mode, BoxMode.XYXY_ABS)",
        )
    return Boxes(
        [{key: value for key, value in one.items() if key != "bbox_mode"} for one in rows],
        *BOX_MODES[modes[0]],
    )


def _find_lists(image: Record) -> dict[str, list[Any]]:
    """The lists of objects that an image has, by their keys; also a key further in."""
    return {key: value for key, value in _with_inner(image) if _are_objects(value)}


def _names_of(record: Record) -> dict[str, Any]:
    """What a record says of its image, itself or a key further in."""
    return {
        key: value
        for key, value in _with_inner(record)
        if not isinstance(value, dict | list) and is_image_name(plain_name(key))
    }


def _with_inner(record: Record) -> Iterable[tuple[str, Any]]:
    """The items of a record, and before them those of records in it."""
    inner = (one.items() for one in record.values() if isinstance(one, dict))
    return chain(chain.from_iterable(inner), record.items())


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)
