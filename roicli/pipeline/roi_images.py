"""Whose image each RoI is: from a column, from another array, or by the place in the array."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError, ParameterError
from roicli.core.foreign import foreign
from roicli.core.types import Array, FloatArray, IntArray
from roicli.pipeline.image_keys import (
    ImageKeys,
    count_keys,
    number_by_appearance,
    number_by_keys,
)
from roicli.pipeline.map_keys import LISTED, MapKeys
from roicli.pipeline.roi_table import is_image_number
from roicli.storage.array import MemoryArray, Place, StoredArray, precision_of
from roicli.storage.file_state import FileState
from roicli.storage.roi_columns import RoiColumns, may_name_images, show_names
from roicli.storage.table import Column, Table
from roicli.storage.views import View

logger = logging.getLogger("roicli")

# What the column is called whose values the images' keys are.
IMAGE_COLUMN = "image"
# So many keys are shown in a message.
FEW_KEYS = 5
WHOLE = precision_of(np.dtype(np.int64))
# A column of such a name has keys rather than the maps' numbers.
NAMED_BY_KEY = r"(?i)id$|ids$|name$|file|path"


class ByImage(StoredArray):
    """RoIs (K, w) that stand image by image: ``counts`` (N,) are those of each image.

    ``form`` says in words how they stand; ``an_image`` is how many rows each image has, None where
    each has its own number of them.
    """

    counts: IntArray
    form: str
    an_image: int | None = None


class BoxesOfImages(MemoryArray, ByImage):
    """RoIs as a list of (L, w), an image each, as torchvision's operators take them."""

    def __init__(self, boxes: Sequence[Array]) -> None:
        widths = {one.shape[1] for one in boxes if one.ndim == 2} or {4}
        if len(widths) > 1 or any(one.ndim != 2 and one.size for one in boxes):
            shapes = ", ".join(dict.fromkeys(str(one.shape) for one in boxes))
            raise InputError(f"rois: boxes of images have shapes {shapes}, expected (L, 4) of each")
        width = widths.pop()
        super().__init__(np.concatenate([one.reshape(-1, width) for one in boxes]), "rois")
        self.counts = np.array([len(one) if one.ndim == 2 else 0 for one in boxes], np.int64)
        self.form = f"a list of {len(boxes):,}"


class RowsOfImages(View, ByImage):
    """RoIs (N, M, w), image by image, as rows (N * M, w)."""

    an_image: int

    def __init__(self, stored: StoredArray) -> None:
        images, self.an_image, width = stored.shape
        super().__init__(stored, (images * self.an_image, width))
        self.counts = np.full(images, self.an_image)
        self.form = f"shape {stored.shape}"
        self.chunk_rows = 1

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place`` into ``out``: whole images, of which the rows are cut."""
        rows, inner = place[0], place[1:]
        if out.size == 0:
            return
        first, last = rows.start // self.an_image, -(-rows.stop // self.an_image)
        held = np.empty((last - first, self.an_image, *out.shape[1:]), out.dtype)
        self.stored.read((slice(first, last), slice(0, self.an_image), *inner), held)
        start = rows.start - first * self.an_image
        out[...] = held.reshape(-1, *out.shape[1:])[start : start + len(out)]


def find_image_column(
    table: Table,
    image: int | None,
    source: object,
    image_from: object,
    images: int | None,
    files: dict[str, FileState],
) -> Column | None:
    """The column of images: ``table``'s own at place ``image``, or made of what says it.

    ``source`` is what the table was read from, ``image_from`` the option, ``images`` how many maps
    there are; ``files`` gets those that are read. Raises InputError, ParameterError.
    """
    flat = source if isinstance(source, ByImage) else None
    own = None if image is None else table.columns[image]
    if flat is not None and images is not None and len(flat.counts) != images:
        raise InputError(
            f"{table.name}: {flat.form} are RoIs of {len(flat.counts):,} images, and there are "
            f"{images:,} maps",
            "give the maps that the RoIs are of",
        )
    if image_from is None:
        if flat is None or own is not None:
            return own
        if flat.an_image is not None:
            logger.info(
                f"{table.name}: {flat.form} is read image by image, {flat.an_image:,} RoIs each"
            )
        return Column("image", np.repeat(np.arange(len(flat.counts)), flat.counts), WHOLE)
    if flat is not None and flat.an_image is None:
        raise ParameterError(
            f"{table.name}: {flat.form} says whose image a RoI is, and --image-from says it too",
            "drop --image-from",
        )
    if own is not None:
        raise ParameterError(
            f"{table.name}: column {foreign(own.name) or 'batch_index'} says whose image a RoI is, "
            "and --image-from says it too",
            "drop --image-from, or leave the column out with --roi-columns and _ for it",
        )
    from roicli.pipeline.image_from import (  # few runs need it
        RoiRows,
        find_images,
        parse_image_from,
        read_vectors,
    )

    parsed = parse_image_from(image_from)
    stored, vectors = read_vectors(parsed)
    rows = RoiRows(table.name, len(table), None if flat is None else flat.an_image)
    names = [array.name for array in stored]
    found = find_images(vectors, names, parsed.kind, rows, images)
    for array in stored:
        files.update(array.files)
    if found.dtype == object:
        return Column(names[0], found, None)
    said = stored[0]
    if isinstance(said, StoredArray) and np.shares_memory(found, vectors[0]):
        return Column(names[0], found, said.precision)
    return Column(names[0], found, WHOLE)


def refuse_unused_image(table: Table, columns: RoiColumns) -> None:
    """Raise InputError where RoIs of the only map have a column that may name several images.

    What is another in every row names rows.
    """
    for column in (table.columns[place] for place in columns.carried):
        if column.values.ndim > 1 or not may_name_images(column.name, are_counted=True):
            continue
        groups = _number_groups(column)
        distinct = int(groups.max(initial=-1)) + 1
        if not 1 < distinct < len(groups):
            continue
        are_counted = column.values.dtype.kind in "iuf" and any(
            np.array_equal(column.values, groups + first) for first in (0, 1)
        )
        if may_name_images(column.name, are_counted and bool(np.all(np.diff(groups) >= 0))):
            raise InputError(
                f"{table.name}: column {foreign(column.name)} may name the RoI's image, and there "
                f"is one map: it has {distinct:,} values, found: {show_names(table.headings)}",
                "name the columns: --roi-columns image,x1,y1,x2,y2, with _ for those to be left "
                "out, and another name for it where it names no image",
            )


def choose_image(
    candidates: Sequence[Column],
    table: Table,
    rows: IntArray | None,
    images: int | None,
    keys: MapKeys,
) -> tuple[int, FloatArray, bool]:
    """Which of several columns names the images of the maps; and what ``number_images`` gives of
    it, whose arguments these are.

    A column counts that names a map in every row: one of keys, else one of numbers, which must tell
    images apart as all the others do. Raises InputError where two columns name different images.
    """
    found, error = _find_matching(candidates, table, rows, images, keys)
    if not found:
        if error is not None:
            raise error
        return 0, *number_images(candidates[0], table, rows, images, keys)
    chosen = next((one for one in found if one[2]), found[0])
    own = candidates[chosen[0]]
    for place, batch, _ in found:
        if images is not None and not np.array_equal(batch, chosen[1]):
            raise _name_different(own, candidates[place], chosen[1] != batch, table, rows)
    if not chosen[2] or images is None:
        groups = _number_groups(own)
        for other in candidates:
            if not np.array_equal(_number_groups(other), groups):
                raise _name_different(own, other, _number_groups(other) != groups, table, rows)
    logger.info(f"{table.name}: of {len(candidates)} columns of images, {foreign(own.name)} counts")
    return chosen


def _find_matching(
    candidates: Sequence[Column], *given: Any
) -> tuple[list[tuple[int, FloatArray, bool]], InputError | None]:
    """The columns that name a map in every row, by their places, with what ``number_images`` gives
    of them; and the first error. ``given`` are its other arguments.
    """
    found, first = [], None
    images = given[2]
    for place, column in enumerate(candidates):
        try:
            batch, is_keyed = number_images(column, *given)
        except InputError as error:
            first = first or error
            continue
        if is_image_number(batch, images).all():
            found.append((place, batch, is_keyed))
    return found, first


def _number_groups(column: Column) -> IntArray:
    """(K,) a number for each image that a column tells apart."""
    values = column.values
    texts = values if not column.is_text else np.array([one or "" for one in values], object)
    return number_by_appearance(texts)[0]


def _name_different(
    one: Column, other: Column, differing: Array, table: Table, rows: IntArray | None
) -> InputError:
    place = int(np.flatnonzero(differing)[0])
    return InputError(
        f"{table.name}: columns {foreign(one.name)} and {foreign(other.name)} tell images apart "
        f"differently: row {place if rows is None else int(rows[place])}",
        "leave one out: --roi-columns names the columns in order, with _ for it",
    )


def number_images(
    column: Column,
    table: Table,
    rows: IntArray | None,
    images: int | None,
    keys: MapKeys,
) -> tuple[FloatArray, bool]:
    """(K,) the number of each RoI's map, and whether it was found by a key.

    ``column`` are the images of the rows of ``table``, ``rows`` (K,) their numbers in the file,
    ``images`` is how many maps there are. A number that names no map stays as it is: the rules say
    so. Raises InputError for a key that no map has.
    """
    if len(column.values) == 0:
        return np.zeros(0), False
    name = str(foreign(column.name)) or "batch_index"
    values = column.values
    if column.is_text:
        values = np.array([text or "" for text in values.tolist()], object)
        found = keys.said(table.images) or keys.found(table.images)
    else:
        found = _keys_of_numbers(values, name, table, images, keys)
    if found is not None:
        _check_exact(column, table, rows)
        numbers = number_by_keys(values, found, table.name, name, rows)
        logger.info(f"{table.name}: column {name} is matched with {found.source}")
        return numbers.astype(np.float64), True
    numeric = [_is_number(text) for text in values.tolist()] if column.is_text else [True]
    if all(numeric):
        return values.astype(np.float64), False
    if any(numeric):
        place = numeric.index(False)
        row = place if rows is None else int(rows[place])
        raise InputError(
            f"{table.name}: row {row}, column {name}: found {str(foreign(values[place]))!r:.80}, "
            "expected a number, as in other rows",
            "leave the row out: a second header, or units, are no RoI",
        )
    if images is None:
        return number_by_appearance(values)[0].astype(np.float64), True
    row = 0 if rows is None else int(rows[0])
    raise InputError(
        f"{table.name}: row {row}, column {name}: found {str(foreign(values[0]))!r}, expected the "
        f"number of the image in FEATURES, from 0: the {images:,} maps have no keys",
        "say what the maps' images are called, in their order: --images LIST",
    )


def _keys_of_numbers(
    values: Array, name: str, table: Table, images: int | None, keys: MapKeys
) -> ImageKeys | None:
    """The keys that the images of RoIs are, None where they are the maps' numbers, or nothing.

    Numbers of maps are taken as such, unless their column is called like one of keys.
    """
    if not np.isfinite(values).all():
        return None
    said = keys.said(table.images)
    is_number = bool(is_image_number(values, images).all())
    if said is not None or (is_number and re.search(NAMED_BY_KEY, name) is None):
        return said
    found = keys.found(table.images)
    known, distinct = (0, 1) if found is None else count_keys(values, found)
    if found is None or known == 0 or (is_number and known < distinct):
        return None
    if is_number and found.source == LISTED:
        numbers = number_by_keys(values, found, table.name, name)
        if not np.array_equal(numbers, values):
            order = ",".join(found.first_names[:FEW_KEYS])
            raise InputError(
                f"{table.name}: column {name} may hold the maps' numbers, or ids of images that "
                f"the file lists in another order ({order}{', ...' * (len(found) > FEW_KEYS)})",
                "say what the maps' images are called, in the maps' order: --images LIST",
            )
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_exact(column: Column, table: Table, rows: IntArray | None) -> None:
    """Raise InputError for keys that the dtype may have for another number."""
    bits = None if column.precision is None else column.precision.mantissa_bits
    if bits is None or column.precision is None or column.values.dtype.kind in "iu":
        return
    last = 2.0 ** (bits + 1)
    lost = np.flatnonzero(np.abs(column.values) >= last)
    if len(lost):
        row = int(lost[0]) if rows is None else int(rows[lost[0]])
        raise InputError(
            f"{table.name}: row {row}, column {foreign(column.name) or 'batch_index'}: found "
            f"{column.values[lost[0]]:.0f}, which may be another image: {column.precision.name} "
            f"holds whole numbers up to {last:g} only",
            "make the RoIs again with images as whole numbers or float64",
        )
