"""Maps that stand one by one under keys, each of its own size, and are read one at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Sequence

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.system import renew_time
from roicli.core.types import Array, IntArray
from roicli.pipeline.decode import DECODING_ATTRIBUTES
from roicli.pipeline.layout import LAYOUT_ATTRIBUTES
from roicli.pipeline.map_scale import SCALE_ATTRIBUTES, find_stored_scale
from roicli.pipeline.validation import check_feature_shape
from roicli.storage.address import Address
from roicli.storage.array import Place, StoredArray
from roicli.storage.file_state import FileState
from roicli.storage.pattern import address_of, open_shelf
from roicli.storage.views import View

# What is found of each image that is looked at: C, H, W, a dtype's letter, the stored scale, and
# where the values lie in a file that stays open, 0 where they are to be opened.
FACTS = 6
TELLING_ATTRIBUTES = LAYOUT_ATTRIBUTES | DECODING_ATTRIBUTES
# How an array is read, given whether what its file says is to be noted.
Read = Callable[[StoredArray, bool], StoredArray]


class MapCollection(StoredArray):
    """N maps, one under each key, as an array (N, C, H, W) whose H and W are the largest seen.

    ``sizes`` (N, 2) are the height and width of each map that was looked at, else 0. The first map
    speaks for all: what its file says of the layout and the numbers is noted, its attributes are
    the collection's, and ``stored`` is its array, which is closed. ``maps`` is the number of
    levels.
    """

    def __init__(self, pattern: Address, keys: Sequence[str], read: Read, maps: int) -> None:
        self.name = str(pattern)
        self.keys = tuple(keys)
        self._pattern, self._read, self._maps = pattern, read, maps
        self.sizes: IntArray = np.zeros((len(keys), 2), np.int64)
        self._offsets: IntArray = np.zeros(len(keys), np.int64)
        self._seen: dict[str, FileState] = {}
        self._shelf = open_shelf(pattern, "features")
        try:
            with contextlib.closing(self._open(0, tells=True)) as first:
                self.dtype, self.precision = first.dtype, first.precision
                self.attributes = first.attributes
                self.group_attributes = dict(first.group_attributes)
                self.file_attributes = first.file_attributes
                self.reading_bytes = first.reading_bytes
                self.stored = first
                shape = _shape_of_one(first)
        except BaseException:
            self.close()
            raise
        self.shape = (len(keys), *shape)
        self.sizes[0] = shape[1:]

    @property
    def files(self) -> dict[str, FileState]:  # type: ignore[override]
        """The files of the maps that were opened."""
        return {**self._seen, **self._shelf.files}

    def look_at(self, images: IntArray, scale: float | None) -> None:
        """Take down the sizes and dtypes of some images, before any of them is read.

        Where the stored ``scale`` is used (NaN: there is none) all must say the same. Raises
        InputError.
        """
        if len(images) == 0:
            return
        keys = [self.keys[image] for image in images]
        said = scale is not None

        def fill(some: Sequence[str], found: Array) -> None:
            self._fill(some, found, said)

        facts = self._shelf.look_at(keys, fill, FACTS)
        missing = np.flatnonzero(facts[:, 0] == 0)
        if len(missing):  # what a child could not say, this process meets itself
            fill([keys[place] for place in missing], again := facts[missing])
            facts[missing] = again
        self._check_channels(images, facts)
        if scale is not None:
            self._check_scales(images, facts[:, 4], scale)
        self.sizes[images] = facts[:, 1:3]
        letters = {chr(int(code)) for code in np.unique(facts[:, 3])}
        self.dtype = np.result_type(self.dtype, *(np.dtype(letter) for letter in letters))
        self._offsets[images] = np.where(facts[:, 3] == ord(self.dtype.char), facts[:, 5], 0)
        largest = tuple(int(side) for side in self.sizes.max(axis=0))
        # What reading holds besides grows with the map.
        self.reading_bytes = math.ceil(
            self.reading_bytes * math.prod(largest) / math.prod(self.shape[2:])
        )
        self.shape = (*self.shape[:2], *largest)

    def _fill(self, keys: Sequence[str], facts: Array, with_scale: bool) -> None:
        telling = TELLING_ATTRIBUTES | (SCALE_ATTRIBUTES if with_scale else set())
        first = self._plain_shape(telling)
        scale = self._find_common_scale() if first and with_scale else None
        for row, key in zip(facts, keys, strict=True):
            renew_time()
            plain = self._shelf.peek(key, telling) if first else None
            if plain is not None and _is_alike(plain.shape, first):
                row[:] = (*plain.shape[-3:], ord(plain.dtype.char), scale, plain.offset)
                continue
            with contextlib.closing(self._open_key(key)) as array:
                found = find_stored_scale(array, self._maps) if with_scale else None
                row[:] = (
                    *_shape_of_one(array),
                    ord(array.dtype.char),
                    math.nan if found is None else found[0],
                    array.offset or 0,
                )

    def _plain_shape(self, telling: Collection[str]) -> tuple[int, ...]:
        """The shape of the first map, where nothing is told of it and it is read as it lies."""
        plain = self._shelf.peek(self.keys[0], telling)
        is_float = plain is not None and plain.dtype.kind == "f"
        return self.stored.shape if is_float and not isinstance(self.stored, View) else ()

    def _find_common_scale(self) -> float:
        """The scale of maps that say none of their own; NaN where the file says none either."""
        with contextlib.closing(self._open(0)) as first:
            found = find_stored_scale(first, self._maps)
        return math.nan if found is None else found[0]

    def _check_channels(self, images: IntArray, facts: Array) -> None:
        different = np.flatnonzero(facts[:, 0] != self.shape[1])
        if len(different) == 0:
            return
        place = different[0]
        channels, height, width = facts[place, :3].astype(int).tolist()
        advice = None
        if width == self.stored.shape[-1]:
            advice = f"the last axis is {width} long in both: --layout hwc puts the channels there"
        raise InputError(
            f"{self._address(images[place])}: a map of shape {(channels, height, width)}, expected "
            f"{self.shape[1]} channels as in {self._address(0)}",
            advice,
        )

    def _check_scales(self, images: IntArray, scales: Array, scale: float) -> None:
        same = np.isclose(scales, scale, rtol=1e-6, atol=0, equal_nan=True)
        different = np.flatnonzero(~same)
        if len(different):
            place = different[0]
            raise InputError(
                f"{self._address(images[place])}: says {_show_scale(scales[place])}, and "
                f"{self._address(0)} says {_show_scale(scale)}",
                "give --spatial-scale, one for all images",
            )

    def image_shape(self, image: int) -> tuple[int, int, int]:
        """(C, H, W) of an image that was looked at."""
        height, width = self.sizes[image]
        return self.shape[1], int(height), int(width)

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place``, which is inside each of its maps, into ``out``."""
        for row, image in enumerate(range(place[0].start, place[0].stop)):
            if self._offsets[image] and out[row].shape == self.image_shape(image):
                self._shelf.read_piece(int(self._offsets[image]), out[row])
                continue
            with contextlib.closing(self._open(image)) as array:
                own = place[1:] if len(array.shape) == 3 else (slice(0, 1), *place[1:])
                target = out[row] if len(array.shape) == 3 else out[row : row + 1]
                if array.dtype == out.dtype:
                    array.read(own, target)
                    continue
                held = np.empty(target.shape, array.dtype)
                array.read(own, held)
                target[...] = held

    def read_item_into(self, index: int, out: Array) -> None:
        """The map of image ``index`` into ``out`` (C, H, W)."""
        self.read((slice(index, index + 1), *(slice(0, side) for side in out.shape)), out[None])

    def _open(self, image: int, tells: bool = False) -> StoredArray:
        return self._open_key(self.keys[image], tells)

    def _open_key(self, key: str, tells: bool = False) -> StoredArray:
        stored = self._shelf.open(key)
        try:
            for path, state in stored.files.items():
                self._seen.setdefault(path, state)
            return self._read(stored, tells)
        except BaseException:
            stored.close()
            raise

    def _address(self, image: int) -> str:
        return foreign(str(address_of(self._pattern, self.keys[image])))

    def close(self) -> None:
        """Let go of what stays open."""
        self._shelf.close()


def _is_alike(shape: tuple[int, ...], first: tuple[int, ...]) -> bool:
    """Whether a map is read as the first one, whose channels it has."""
    return len(shape) == len(first) and shape[:-2] == first[:-2] and min(shape) > 0


def _show_scale(scale: float) -> str:
    return "no scale" if math.isnan(scale) else f"{scale:g}"


def _shape_of_one(array: StoredArray) -> tuple[int, int, int]:
    """(C, H, W) of an array of one map. Raises InputError."""
    images, *shape = check_feature_shape(array)
    if images != 1:
        raise InputError(
            f"{array.name}: has {images} images, expected one map under each key: (C, H, W) or "
            "(1, C, H, W)",
            "maps of one size in one array need no {image}",
        )
    channels, height, width = shape
    return channels, height, width
