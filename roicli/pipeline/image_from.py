"""Which image each RoI is of, where another array says it: indices, counts, starts or ranges.

Detectors keep it beside the boxes: ONNX's ``batch_indices`` an index a RoI, Paddle's ``boxes_num``
and TensorFlow's ``num_detections`` a count an image, others where an image's RoIs begin, or where
they begin and end. Which of these an array is, its numbers mostly say; where two readings fit and
differ, nothing is guessed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast, get_args

import numpy as np

from roicli.core.exceptions import InputError, ParameterError
from roicli.core.record import frozen
from roicli.core.types import Array, IntArray
from roicli.storage.address import SEPARATOR, parse_address
from roicli.storage.exchange import open_object
from roicli.storage.file_state import read_state
from roicli.storage.formats import recognize
from roicli.storage.key_list import read_texts
from roicli.storage.limits import check_memory
from roicli.storage.open import open_array, open_rois
from roicli.storage.table import RoiSource, Table, text_column

logger = logging.getLogger("roicli")

ImageKind = Literal["indices", "counts", "starts", "ranges", "inclusive", "lengths"]
KINDS: tuple[ImageKind, ...] = get_args(ImageKind)
MEANINGS: dict[ImageKind, str] = {
    "indices": "the image of every RoI",
    "counts": "how many RoIs every image has",
    "starts": "the row of every image's first RoI",
    "ranges": "the first row of every image and the row after its last",
    "inclusive": "the first and the last row of every image",
    "lengths": "the first row of every image and how many RoIs it has",
}
OF_ONE: tuple[ImageKind, ...] = ("indices", "counts", "starts")
OF_TWO: tuple[ImageKind, ...] = ("ranges", "inclusive", "lengths")
# The image of a RoI that is none's.
NO_IMAGE = -1


@frozen
class RoiRows:
    """How many rows there are, and in how many each image has its own: None where they are strewn.

    RoIs (N, M, 4) are N * M rows, M an image. ``name`` is theirs.
    """

    name: str
    count: int
    an_image: int | None = None


@frozen
class ImageSource:
    """The arrays that say whose image a RoI is, and what they are where that was said."""

    arrays: tuple[Any, ...]
    kind: ImageKind | None


class _MisfitError(Exception):
    """Why an array is not of a kind."""


def parse_image_from(value: Any) -> ImageSource:
    """``ADDRESS[:KIND]``, ``FIRST,LAST[:KIND]``, an array, or two. Raises ParameterError."""
    if isinstance(value, ImageSource):
        return value
    if not isinstance(value, str | os.PathLike):
        several = isinstance(value, list | tuple) and len(value) == 2
        if several and all(isinstance(one, str | os.PathLike) or np.ndim(one) for one in value):
            return ImageSource(tuple(value), None)
        return ImageSource((value,), None)
    text = os.fspath(value)
    kind: ImageKind | None = None
    before, colon, after = text.rpartition(":")
    if colon and after in KINDS and not before.endswith(":") and not os.path.exists(text):
        text, kind = before, cast("ImageKind", after)
    if "," in text and not os.path.exists(text.partition(SEPARATOR)[0]):
        return _parse_pair(text.partition(","), kind)
    if "," in text.partition(SEPARATOR)[2]:
        return _parse_pair(text.partition(","), kind)
    return ImageSource((text,), kind)


def _parse_pair(parts: tuple[str, str, str], kind: ImageKind | None) -> ImageSource:
    """Two addresses; the second may be a dataset beside the first one."""
    first, second = parts[0].strip(), parts[2].strip()
    if not first or not second or "," in second:
        raise ParameterError(
            f"image from is {''.join(parts)!r}, expected ADDRESS or FIRST,LAST",
            f"FIRST and LAST say where an image's RoIs begin and end; of the kinds {_words(KINDS)}",
        )
    address = parse_address(first)
    if address.dataset is not None and SEPARATOR not in second and not os.path.exists(second):
        group, slash, _ = address.dataset.rpartition("/")
        inside = second if second.startswith("/") else f"{group}{slash}{second}"
        second = f"{address.path}{SEPARATOR}{inside}"
    return ImageSource((first, second), kind)


def read_vectors(source: ImageSource) -> tuple[list[RoiSource], list[Array]]:
    """The arrays as they stand in their files, closed again, and their values: numbers, or texts of
    a table's only column.
    """
    stored: list[RoiSource] = []
    values: list[Array] = []
    for number, one in enumerate(source.arrays):
        name = f"image_from[{number}]" if len(source.arrays) > 1 else "image_from"
        array = _open(one, name)
        try:
            check_memory(array.name, "its numbers", int(np.prod(array.shape, dtype=float)) * 8)
            values.append(_values_of(array))
        finally:
            array.close()
        stored.append(array)
    return stored, values


def _open(one: Any, name: str) -> RoiSource:
    if not isinstance(one, str | os.PathLike):
        return open_object(one, name, "any")
    address = parse_address(one)
    if not address.is_stdin and recognize(address).holds == "table":
        return open_rois(address)
    if not address.is_stdin and (texts := read_texts(address)) is not None:
        state = {address.path: read_state(address.path)}
        return Table(str(address), len(texts), (text_column("", texts),), "text", state)
    return open_array(address, "any" if address.dataset is not None else "vector")


def _values_of(array: RoiSource) -> Array:
    if not isinstance(array, Table):
        return array.read_all()
    if len(array.columns) not in (1, 2):
        raise InputError(
            f"{array.name}: is a table of {len(array.columns)} columns, expected one, or two: "
            "where an image's RoIs begin and end"
        )
    columns = [column.values for column in array.columns]
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def find_images(
    vectors: Sequence[Array],
    names: Sequence[str],
    kind: ImageKind | None,
    rows: RoiRows,
    images: int | None,
) -> Array:
    """(K,) the image of each row, NO_IMAGE where it is none's; ``images`` is how many there are.

    Indices are given back as they are: they may be ids. Without ``kind`` the one that fits is taken
    and told. Raises InputError where none fits, or several that differ.
    """
    columns, shown = _as_columns(vectors, names), ",".join(names)
    possible = OF_ONE if len(columns) == 1 else OF_TWO
    if rows.an_image is not None and len(columns) == 1:
        possible = ("indices", "counts")
    if kind is not None and kind not in possible:
        raise InputError(
            f"{shown}: {'one array' if len(columns) == 1 else 'two arrays'} cannot be {kind}, "
            f"expected one of: {_words(possible)}"
        )
    found: dict[ImageKind, Array] = {}
    reasons: list[str] = []
    for one in possible if kind is None else (kind,):
        try:
            found[one] = _READERS[one](columns, rows, images)
        except _MisfitError as misfit:
            reasons.append(f"as {one} {misfit}")
    if not found:
        of_images = "" if images is None else f" of {images:,} images"
        raise InputError(
            f"{shown}: does not say whose the {rows.count:,} RoIs{of_images} in {rows.name} are: "
            + "; ".join(reasons),
            f"expected {'; or '.join(f'{MEANINGS[one]} (:{one})' for one in possible)}",
        )
    chosen = _choose(found, shown, images)
    if kind is None:
        logger.info(f"{shown}: read as {chosen}, {MEANINGS[chosen]}")
    return found[chosen]


def _choose(found: dict[ImageKind, Array], shown: str, images: int | None) -> ImageKind:
    """The only reading, or the most complete of several. Raises InputError where two differ."""
    first = next(iter(found))
    if "indices" in found and len(found) > 1 and not _are_indices(found["indices"], images):
        del found["indices"]  # which could only be ids
    whole = {kind: image for kind, image in found.items() if not np.any(image == NO_IMAGE)}
    left = whole if whole and first not in OF_ONE else found
    kinds = list(left)
    if all(np.array_equal(left[kinds[0]], left[other]) for other in kinds[1:]):
        return kinds[0]
    readings = " or ".join(f"{kind} ({MEANINGS[kind]})" for kind in kinds)
    raise InputError(
        f"{shown}: may be {readings}, and the images would differ",
        f"say which: {' or '.join(f'{shown}:{kind}' for kind in kinds)}",
    )


def _are_indices(values: Array, images: int | None) -> bool:
    if values.dtype.kind in "UO":
        return False
    return bool(np.all(values >= NO_IMAGE) and (images is None or np.all(values < images)))


def _as_columns(vectors: Sequence[Array], names: Sequence[str]) -> list[Array]:
    """One vector, or two: (N, 2) is two, and axes of one number are none."""
    if len(vectors) == 1 and vectors[0].ndim == 2 and vectors[0].shape[1] == 2:
        return [vectors[0][:, 0], vectors[0][:, 1]]
    columns = []
    for values, name in zip(vectors, names, strict=True):
        if values.size != max(values.shape, default=1):
            raise InputError(
                f"{name}: has shape {values.shape}, expected one number a RoI (K,) or an image "
                "(N,), or (N, 2): where an image's RoIs begin and end"
            )
        columns.append(values.reshape(-1))
    return columns


def _whole(values: Array) -> IntArray:
    if values.dtype.kind in "UO":
        raise _MisfitError("they would be numbers, not texts")
    with np.errstate(invalid="ignore"):
        wrong = ~(np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**53))
    if wrong.any():
        raise _MisfitError(f"{values[wrong][0]:g} would be a whole number")
    return values.astype(np.int64)


def _check_images(values: IntArray, images: int | None, also: int = 0) -> None:
    if images is not None and len(values) not in (images, images + also):
        raise _MisfitError(f"they would be {images:,}, one an image, not {len(values):,}")


def _read_indices(columns: Sequence[Array], rows: RoiRows, images: int | None) -> Array:
    if len(columns[0]) != rows.count:
        raise _MisfitError(f"they would be {rows.count:,}, one a RoI, not {len(columns[0]):,}")
    return columns[0]


def _read_counts(columns: Sequence[Array], rows: RoiRows, images: int | None) -> Array:
    counts = _whole(columns[0])
    _check_images(counts, images)
    if np.any(counts < 0):
        raise _MisfitError(f"{counts.min()} would be a number from 0")
    if rows.an_image is not None:
        each = rows.an_image
        if len(counts) * each != rows.count:
            raise _MisfitError(f"they would be {rows.count // max(each, 1):,}, one an image")
        if np.any(counts > each):
            raise _MisfitError(f"{counts.max():,} would be at most the {each:,} that an image has")
        image = np.repeat(np.arange(len(counts)), each)
        place = np.tile(np.arange(each), len(counts))
        return np.where(place < counts[image], image, NO_IMAGE)
    total = sum(counts.tolist())
    if total != rows.count:
        raise _MisfitError(f"their sum {total:,} would be {rows.count:,}")
    return np.repeat(np.arange(len(counts)), counts)


def _read_starts(columns: Sequence[Array], rows: RoiRows, images: int | None) -> Array:
    """N first rows, or N + 1 with the end of the last image behind them."""
    starts = _whole(columns[0])
    _check_flat(rows)
    _check_images(starts, images, also=1)
    there = np.flatnonzero(starts != NO_IMAGE)
    used = starts[there]
    if len(used) == 0 or used[0] != 0:
        raise _MisfitError("the first would be 0")
    if np.any(np.diff(used) < 0) or used[-1] > rows.count:
        raise _MisfitError(f"they would ascend, to {rows.count:,} at most")
    closes = images is None and used[-1] == rows.count and len(starts) > 1
    if images is not None and len(starts) == images + 1:
        if used[-1] != rows.count:
            raise _MisfitError(f"the last of {len(starts):,} would be {rows.count:,}, the end")
        closes = True
    ends = np.append(used[1:], rows.count)
    if closes:
        there, used, ends = there[:-1], used[:-1], ends[:-1]
    return np.repeat(there, ends - used)


def _read_ranges(columns: Sequence[Array], rows: RoiRows, images: int | None) -> Array:
    first, last = _pair(columns, rows, images)
    if len(first) and first.min() == 1 and last.max() == rows.count:
        sizes = last - first + 1
        if sizes.sum() == rows.count and not np.array_equal(first, last):
            raise _MisfitError("rows would be numbered from 0, and all fit from 1, ends inclusive")
    return _between(first, last, rows.count)


def _read_inclusive(columns: Sequence[Array], rows: RoiRows, images: int | None) -> Array:
    first, last = _pair(columns, rows, images)
    return _between(first, last + 1, rows.count)


def _read_lengths(columns: Sequence[Array], rows: RoiRows, images: int | None) -> Array:
    first, length = _pair(columns, rows, images)
    return _between(first, first + np.maximum(length, 0), rows.count)


def _pair(columns: Sequence[Array], rows: RoiRows, images: int | None) -> tuple[IntArray, IntArray]:
    first, second = _whole(columns[0]), _whole(columns[1])
    _check_flat(rows)
    if len(first) != len(second):
        raise _MisfitError(
            f"there would be as many of both, not {len(first):,} and {len(second):,}"
        )
    _check_images(first, images)
    return first, second


def _check_flat(rows: RoiRows) -> None:
    if rows.an_image is not None:
        raise _MisfitError(
            f"the RoIs would have one row each, and stand {rows.an_image:,} an image"
        )


def _between(first: IntArray, end: IntArray, count: int) -> IntArray:
    """(K,) the image of each row by its first row and the row behind its last; -1 is none."""
    there = np.flatnonzero((first >= 0) & (end != first))
    first, end = first[there], end[there]
    if np.any(end < first):
        raise _MisfitError("no image would end before it begins")
    if len(end) and end.max() > count:
        raise _MisfitError(f"the last row would be below {count:,}")
    order = np.argsort(first, kind="stable")
    if np.any(first[order][1:] < end[order][:-1]):
        raise _MisfitError("two images would have no row in common")
    image = np.full(count, NO_IMAGE, np.int64)
    sizes = end - first
    # The rows of all ranges: each range's own steps, from its first row on.
    steps = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    image[np.repeat(first, sizes) + steps] = np.repeat(there, sizes)
    return image


_READERS: dict[ImageKind, Callable[[Sequence[Array], RoiRows, int | None], Array]] = {
    "indices": _read_indices,
    "counts": _read_counts,
    "starts": _read_starts,
    "ranges": _read_ranges,
    "inclusive": _read_inclusive,
    "lengths": _read_lengths,
}


def _words(kinds: Sequence[ImageKind]) -> str:
    return ", ".join(kinds)
