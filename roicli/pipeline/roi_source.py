"""RoIs from their source to the columns that they are made of: which one is the image, the box."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.types import FloatArray, IntArray, Size
from roicli.core.vocabulary import RoiFormat
from roicli.error_table.carried_columns import text_width
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.layout import straighten_rois
from roicli.pipeline.map_keys import MapKeys
from roicli.pipeline.request import Reading
from roicli.pipeline.roi_images import (
    IMAGE_COLUMN,
    BoxesOfImages,
    ByImage,
    RowsOfImages,
    choose_image,
    find_image_column,
    number_images,
    refuse_unused_image,
)
from roicli.pipeline.roi_table import ROI_BYTES, RoiTable, read_roi_table
from roicli.pipeline.row_choice import choose_rows
from roicli.pipeline.validation import describe_roi_shape
from roicli.storage.address import IMAGE, Address, parse_address
from roicli.storage.array import Heading, MemoryArray, SelectedRows, StoredArray
from roicli.storage.exchange import find_address
from roicli.storage.limits import check_memory
from roicli.storage.open import open_rois
from roicli.storage.pattern import is_pattern
from roicli.storage.roi_columns import COORDINATE_NAMES, RoiColumns, find_columns, show_names
from roicli.storage.table import RoiSource, Table, as_table, headings_of

logger = logging.getLogger("roicli")

# What provenance keeps of an option.
LONGEST_SAID = 1000
# More are no columns of RoIs, even where there are no rows.
MOST_COLUMNS = 4096
# A header may promise more axes than NumPy can hold.
MOST_AXES = 8
# What boxes are called that are y1, x1, y2, x2.
TENSORFLOWS = ("detection_boxes", "groundtruth_boxes")
# What a text of six numbers a line is taken for where all of them fit.
SCORED = ("image", "x1", "y1", "x2", "y2", "score")


class Chosen(NamedTuple):
    """Which columns RoIs are made of; ``names`` are those of all columns where others name them."""

    columns: RoiColumns
    names: Sequence[str] | None = None


def open_source(
    rois: FeatureArgument,
    reading: Reading,
    opener: Callable[[Address], RoiSource] = open_rois,
) -> RoiSource:
    """What the RoIs are read from, open and not looked at yet; ``opener`` opens an address.

    RoIs (N, M, 4) are rows, image by image, as those of a list of (L, 4) are.
    """
    source: RoiSource
    rois = find_address(rois) or rois
    if isinstance(rois, str | os.PathLike):
        address = parse_address(rois)
        if is_pattern(address):
            from roicli.pipeline.rois_of_images import read_rois_of_images  # few runs need it

            return read_rois_of_images(address)
        source = opener(address)
        if isinstance(source, Table):
            return source
        source = straighten_rois(source)
    else:
        from roicli.pipeline.given_rois import open_given_rois  # a command needs it for none

        source = open_given_rois(rois, reading)
        if isinstance(source, Table | BoxesOfImages):
            return source
    source = _flatten(source)
    # Of more columns only names tell which are the box.
    by_image = len(source.shape) == 3 and source.dtype.names is None
    if by_image and (source.shape[2] == 4 or reading.roi_columns is not None):
        return RowsOfImages(source)
    return source


def _flatten(source: StoredArray) -> StoredArray:
    """Records (K,) of any shape, and rows (K, n) of what has more axes, all of one but these.

    Boxes (1, M, 4) stay, which are image by image.
    """
    shape = list(source.shape)
    if len(shape) > MOST_AXES:
        return source
    if source.dtype.names is not None:
        wanted = [math.prod(shape)]
    elif len(shape) < 3 or (len(shape) == 3 and shape[2] == 4):
        return source
    else:
        while len(shape) > 2 and shape[-1] == 1:
            shape.pop()
        wanted = [side for side in shape[:-2] if side != 1] + shape[-2:]
        if len(wanted) == 3 and wanted[1] == 1:
            wanted.pop(1)
    if len(wanted) > 2 or wanted == list(source.shape):
        return source
    check_memory(source.name, "the RoIs", math.prod(wanted) * source.dtype.itemsize)
    with contextlib.closing(source):
        found = MemoryArray(source.read_all().reshape(wanted), source.name, source.files, True)
    found.precision = source.precision
    return found


def read_rois(
    source: RoiSource,
    chosen: Chosen,
    reading: Reading,
    rows: IntArray | None = None,
    maps: MapKeys | None = None,
) -> RoiTable:
    """The RoIs of a source that are asked for; with ``rows`` (k,), ascending, only these of them.

    ``maps`` are those that they are on, and what their images are called; None without maps.

    Raises InputError, ParameterError.
    """
    maps = maps or MapKeys(None, reading.images)
    normalized_to = read_size(source, reading)
    condition = None
    if reading.where is not None:
        from roicli.core.condition import parse_condition  # few runs have one

        condition = parse_condition(reading.where)
    chooses = condition is not None or reading.drop_invalid
    # Whose a RoI is, and which of them are asked for, only all of them tell.
    at_once = not (chooses or reading.image_from is not None or isinstance(source, ByImage))
    whole = source
    if rows is not None and at_once:
        source = source.take(rows) if isinstance(source, Table) else SelectedRows(source, rows)
    count = source.shape[0]
    check_memory(source.name, f"{count:,} RoIs", count * ROI_BYTES)
    table = _empty_table(source) if _is_empty(source) else as_table(source)
    table = _with_names(table, chosen.names)
    images = None if maps.pyramid is None else maps.pyramid.images
    columns = chosen.columns
    image = find_image_column(table, columns.image, whole, reading.image_from, images, maps.files)
    if image is None and images == 1:
        refuse_unused_image(table, columns)
    numbers = rows
    if not at_once:
        values = None if image is None else image.values
        is_counted = isinstance(whole, ByImage) and reading.image_from is not None
        kept = choose_rows(table, columns, values, condition, reading.drop_invalid, is_counted)
        if kept is not None:
            numbers = kept if rows is None else kept[rows]
        if numbers is not None:
            table, image = table.take(numbers), None if image is None else image.take(numbers)
    batch: FloatArray = np.zeros(len(table))
    is_keyed = False
    if image is not None and columns.rivals:
        places = [place for place in (columns.image, *columns.rivals) if place is not None]
        candidates = [table.columns[place] for place in places]
        which, batch, is_keyed = choose_image(candidates, table, numbers, images, maps)
        image = candidates[which]
        others = {*columns.carried, *places} - {places[which]}
        columns = columns._replace(image=places[which], carried=tuple(sorted(others)))
    elif image is not None:
        batch, is_keyed = number_images(image, table, numbers, images, maps)
    found = read_roi_table(
        table, columns, normalized_to, image, batch, reading.angle_unit or "degrees"
    )
    carried = found.carried
    if image is not None and is_keyed:
        name = IMAGE_COLUMN if columns.image is None or not image.name else image.name
        carried = (image._replace(name=name), *carried)
    widths = _text_widths(whole, [column.name for column in table.columns])
    return replace(found, row_numbers=numbers, carried=carried, text_widths=widths)


def _with_names(table: Table, names: Sequence[str] | None) -> Table:
    """The table with names that others gave its columns; as it is without any."""
    if names is None:
        return table
    renamed = zip(table.columns, names, strict=True)
    return replace(table, columns=tuple(one._replace(name=name) for one, name in renamed))


def _text_widths(source: RoiSource, names: Sequence[str]) -> dict[str, int]:
    """What the longest text of each column of texts takes, whatever rows of it are read."""
    if isinstance(source, Table):
        texts = zip(names, source.columns, strict=False)  # an empty one has none
        return {name: text_width(one.values) for name, one in texts if one.is_text}
    fields = (
        [] if source.dtype.names is None else [source.dtype[name] for name in source.dtype.names]
    )
    # A character of fixed width has four bytes, which UTF-8 seldom takes.
    return {n: one.itemsize for n, one in zip(names, fields, strict=False) if one.kind in "SU"}


def _shorten(value: object) -> str:
    """An option as it was written; a long list of keys by its beginning."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else "array"
    more = "..." if len(text) > LONGEST_SAID else ""
    return str(foreign(text[:LONGEST_SAID] + more))


def describe_choice(reading: Reading) -> dict[str, Any]:
    """What was said of whose RoIs are, which there are and how maps are stored, for a result's
    provenance.
    """
    said = {name: getattr(reading, name) for name in ("where", "image_from", "images")}
    found: dict[str, Any] = {k: _shorten(v) for k, v in said.items() if v is not None}
    found |= {"drop_invalid": True} if reading.drop_invalid else {}
    found |= {"decode": False} if not reading.decode else {}
    return found | ({"stored_as": reading.stored_as} if reading.stored_as else {})


def read_size(source: RoiSource, reading: Reading) -> Size | None:
    """The (height, width) that coordinates are fractions of, None where they are in pixels.

    Raises ParameterError where it is needed and not given, or given and not needed.
    """
    if isinstance(source, Table) and source.normalized:
        reading = replace(reading, normalized=True)
    reading.check_image_size()
    return reading.normalized_to


def choose_columns(source: RoiSource, reading: Reading, images: int | None) -> Chosen:
    """Which columns of a source RoIs are made of; ``images`` is how many maps there are.

    Raises InputError where there are no four coordinates, or no column for several images.
    """
    if reading.image_from is not None or isinstance(source, ByImage):
        images = None  # whose a RoI is stands elsewhere
    headings: Sequence[Heading] | None = headings_of(source)
    names: Sequence[str] | None = reading.roi_columns
    if names is None and headings is None and source.shape[1:] == (len(reading.names_of_turned),):
        names = reading.names_of_turned
    names = names or _recognize(source)
    if names is not None and not _is_empty(source):
        if _has_keys_in_front(source) and len(names) == source.shape[1] - 1:
            names = (IMAGE_COLUMN, *names)  # which are those of each image's own columns
        headings = _rename(source, headings, names)
    if headings is None or _is_empty(source):
        if reading.names_of_turned and not _is_empty(source):
            raise _lack_angle(source, reading)
        columns = _by_position(source, reading.roi_format, images)
        _check_yolo(source, columns, images, read_size(source, reading))
        return Chosen(columns)
    own = source.roi_format if isinstance(source, Table) else None
    is_given = reading.roi_columns is not None
    columns = find_columns(headings, reading.roi_format, source.name, own, is_given)
    if reading.names_of_turned and columns.angle is None:
        raise _lack_angle(source, reading)
    if columns.image is None and images not in (None, 1):
        raise InputError(
            f"{source.name}: no column names the RoI's image, and there are {images} images, "
            f"found: {show_names(headings)}",
            "name the columns: --roi-columns image,x1,y1,x2,y2, with _ for those to be left out; "
            "or say whose each RoI is: --image-from ADDRESS",
        )
    if columns.is_assumed:
        name = foreign(headings[columns.coordinates[0]].name)
        _warn_of_tensorflow(source.name, name)
        logger.info(
            f"{source.name}: {name} is read as {_describe(columns.roi_format)}; --roi-format says "
            "otherwise"
        )
    return Chosen(columns, names)


def _lack_angle(source: RoiSource, reading: Reading) -> InputError:
    wanted = ", ".join(reading.names_of_turned)
    return InputError(
        f"{source.name}: RoIs have shape {source.shape}, expected turned ones (K, 6): {wanted}",
        "run align for upright RoIs, or name the columns: --roi-columns image,cx,cy,w,h,angle",
    )


def _rename(
    source: RoiSource, headings: Sequence[Heading] | None, names: Sequence[str]
) -> Sequence[Heading]:
    """The columns with the names that were given. Raises InputError where they are not as many."""
    if headings is None:
        known = isinstance(source, Table) or len(source.shape) == 2
        headings = [Heading("")] * (source.shape[1] if known else 0)
        found = f"shape {source.shape}"
    else:
        found = f"{len(headings)} columns: {show_names(headings)}"
    if len(headings) != len(names):
        raise InputError(
            f"{source.name}: --roi-columns names {len(names)} columns ({show_names(names)}), "
            f"found {found}",
            "name every column in order, with _ for those to be left out",
        )
    return [one._replace(name=name) for one, name in zip(headings, names, strict=True)]


def _describe(roi_format: RoiFormat) -> str:
    if roi_format == "xywh":
        return "x, y, width, height, as COCO has it"
    return ", ".join(COORDINATE_NAMES[roi_format])


def _by_position(source: RoiSource, roi_format: RoiFormat | None, images: int | None) -> RoiColumns:
    """The columns of an array, or a text, without names. Raises InputError for another shape."""
    width = 5
    if not _is_empty(source):
        wrong = describe_roi_shape(source.shape, images)
        if _has_keys_in_front(source) and source.shape[1] != width:
            found = source.shape[1] - 1
            columns = "x1, y1, x2, y2"
            advice = (
                "name them in order, like --roi-columns x1,y1,x2,y2,score or class,cx,cy,w,h; _ "
                "leaves one out"
            )
            if source.name.endswith(".txt"):
                advice += "; label files of YOLO's are read from their folder"
            wrong = f"RoIs of an image have {found} columns, expected 4: {columns}", advice
        if wrong is not None:
            raise InputError(f"{source.name}: {wrong[0]}", wrong[1])
        width = source.shape[1]
    if roi_format is None:
        _warn_of_tensorflow(source.name, source.name)
    image = 0 if width == 5 else None
    places = tuple(range(width - 4, width))
    return RoiColumns(image, places, roi_format or "xyxy", are_named=False)


def _warn_of_tensorflow(name: str, box: str) -> None:
    """Say so where RoIs that are read as corners, x first, have a name of TensorFlow's.

    Source: research/object_detection/core/standard_fields.py, whose boxes are y1, x1, y2, x2.
    """
    words = [word for word in re.split(r"[/:\\.]+", box) if word]
    if any(word in TENSORFLOWS for word in words[-2:]):
        logger.warning(
            f"{name}: detection_boxes of TensorFlow's models are y1, x1, y2, x2, and these are "
            "read as x1, y1, x2, y2; say which they are: --roi-format yxyx or --roi-format xyxy"
        )


def _has_keys_in_front(source: RoiSource) -> bool:
    """Whether RoIs were read image by image, so that their first column is the key."""
    return isinstance(source, Table) and IMAGE in source.name


def _is_empty(source: RoiSource) -> bool:
    """Whether a source holds nothing, and nothing says what its columns would be."""
    if isinstance(source, Table):
        return not len(source) and not source.columns
    return (
        source.dtype.names is None
        and len(source.shape) in (1, 2)
        and source.shape[0] == 0
        and source.shape[-1] <= MOST_COLUMNS
    )


def _empty_table(source: RoiSource) -> Table:
    return as_table(MemoryArray(np.empty((0, 5), np.float32), source.name, source.files))


def _recognize(source: RoiSource) -> Sequence[str] | None:
    """The names of a text of numbers that can only be one thing; None of anything else."""
    if not isinstance(source, Table) or source.is_named or source.shape[1] != 6 or not len(source):
        return None
    image, x1, y1, x2, y2, score = (one.values for one in source.columns)
    if any(one.is_text for one in source.columns) or image.dtype.kind != "i":
        return None
    if x1.dtype.kind == y1.dtype.kind == "i" or image.min() < 0:
        return None
    if not ((x1 <= x2) & (y1 <= y2) & (score >= 0) & (score <= 1)).all() or x2.max() <= 1:
        return None
    logger.info(
        f"{source.name}: has no header, read as {', '.join(SCORED)}; --roi-columns says otherwise"
    )
    return SCORED


def _check_yolo(
    source: RoiSource, columns: RoiColumns, images: int | None, normalized_to: Size | None
) -> None:
    """Raise InputError where a text may be a label file of YOLO's, which has no image's number.

    Its lines are ``class cx cy w h``, normalized; with one image a class that is none is R03's.
    """
    # Of arrays the columns are those that this program documents.
    looks_alike = columns.roi_format == "cxcywh" and normalized_to is not None
    is_text = isinstance(source, Table) and not any(one.is_text for one in source.columns)
    if looks_alike and is_text and columns.image == 0 and source.shape[0]:
        if images in (None, 1):
            return
        raise InputError(
            f"{source.name}: has no header, and its first column may be the image's number or, as "
            f"in label files of YOLO's, the class: there are {images} images",
            "add --roi-columns image,cx,cy,w,h or --roi-columns class,cx,cy,w,h",
        )
