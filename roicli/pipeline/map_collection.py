"""Maps that stand one by one under keys, each of its own size, and are read one at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.system import renew_time
from roicli.core.types import Array, BoolArray, IntArray
from roicli.pipeline.decode import DECODING_ATTRIBUTES
from roicli.pipeline.layout import LAYOUT_ATTRIBUTES
from roicli.pipeline.map_scale import find_stored_scale
from roicli.pipeline.validation import check_feature_shape
from roicli.storage.address import Address
from roicli.storage.array import Place, StoredArray
from roicli.storage.file_state import FileState
from roicli.storage.pattern import address_of, open_shelf
from roicli.storage.shelf import Look, Plain
from roicli.storage.views import View

# What is found of each image that is looked at: C, H, W, a dtype's letter, the stored scale, and
# where the values lie in a file that stays open, 0 where they are to be opened.
FACTS = 6
TELLING_ATTRIBUTES = LAYOUT_ATTRIBUTES | DECODING_ATTRIBUTES
# So many images are looked at before the first is computed where others can wait, at so many spots
# of the collection; then so many at once, when the first of them comes.
FEW, SPOTS, AT_ONCE = 512, 8, 256
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
        # The images that will be read, ascending, and what looks at them by their places there.
        self._expected: IntArray = np.zeros(0, np.int64)
        self._look: Look | None = None
        self._scale: float | None = None
        self._is_settled = False
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
        """The files of the maps that were opened, or will be."""
        return {**self._seen, **self._shelf.files}

    # --- looking at maps --------------------------------------------------------------------------

    def expect(self, images: IntArray, scale: float | None, streams: bool) -> None:
        """Be ready to read some images, ascending: look at all of them, or at a few if it
        ``streams``, and at the others as they come.

        Where the stored ``scale`` is used (NaN: there is none) all must say the same. The dtype of
        those that are looked at here holds all others' too. Raises InputError.
        """
        self._expected, self._scale = images, scale
        keys = [self.keys[image] for image in images]
        self._look = self._shelf.begin_look(keys, self._fill, FACTS)
        for start, stop in _spread(len(images)) if streams else ((0, len(images)),):
            self._look_at(start, stop)
        self._is_settled = True

    def look_at_rest(self) -> None:
        """Look at all images that will be read and were not looked at. Raises InputError."""
        new = np.flatnonzero(~self.knows(self._expected))
        if len(new):
            self._look_at(int(new[0]), int(new[-1]) + 1)

    def knows(self, images: IntArray) -> BoolArray:
        """(k,) which images were looked at."""
        return np.asarray(self.sizes[images, 0] > 0)

    def _look_at(self, start: int, stop: int) -> None:
        """Take down the sizes and places of some of the images that are expected."""
        assert self._look is not None
        images = self._expected[start:stop]
        if len(images) == 0:
            return
        facts = self._look(start, stop)
        missing = np.flatnonzero(facts[:, 0] == 0)
        if len(missing):  # what a child could not say, this process meets itself
            self._fill([self.keys[images[place]] for place in missing], again := facts[missing])
            facts[missing] = again
        self._check_channels(images, facts)
        if self._scale is not None:
            self._check_scales(images, facts[:, 4], self._scale)
        self._take_dtypes(images, facts[:, 3])
        self.sizes[images] = facts[:, 1:3]
        self._offsets[images] = np.where(facts[:, 3] == ord(self.dtype.char), facts[:, 5], 0)
        largest = np.maximum(self.shape[2:], facts[:, 1:3].max(axis=0)).astype(int).tolist()
        # What reading holds besides grows with the map.
        self.reading_bytes = math.ceil(
            self.reading_bytes * math.prod(largest) / math.prod(self.shape[2:])
        )
        self.shape = (*self.shape[:2], *largest)

    def _fill(self, keys: Sequence[str], facts: Array) -> None:
        alike = () if isinstance(self.stored, View) else self.stored.shape
        for row, key in zip(facts, keys, strict=True):
            renew_time()
            plain = self._shelf.peek(key, TELLING_ATTRIBUTES) if alike else None
            if plain is not None and plain.dtype.kind == "f" and _is_alike(plain.shape, alike):
                row[:] = (
                    *plain.shape[-3:], ord(plain.dtype.char), self._scale_of(plain), plain.offset,
                )  # fmt: skip
                continue
            with contextlib.closing(self._open_key(key)) as array:
                letter, offset = ord(array.dtype.char), array.offset or 0
                row[:] = (*_shape_of_one(array), letter, self._scale_of(array), offset)

    def _scale_of(self, array: StoredArray | Plain) -> float:
        """What the file says of one map's scale; NaN for nothing, or where nobody asks."""
        found = None if self._scale is None else find_stored_scale(array, self._maps)
        return math.nan if found is None else found[0]

    def _take_dtypes(self, images: IntArray, letters: Array) -> None:
        """Widen the dtype for maps of a wider one. Raises InputError where it is too late for that.

        Results are being computed in one dtype then.
        """
        for letter in np.unique(letters).tolist():
            dtype = np.dtype(chr(int(letter)))
            wide = np.result_type(self.dtype, dtype)
            if wide != self.dtype and self._is_settled:
                image = images[np.flatnonzero(letters == letter)[0]]
                raise InputError(
                    f"{self._address(image)}: dtype is {dtype.name}, which {self.dtype.name}, that "
                    "of the maps before it, does not hold",
                    "save all maps in one dtype",
                )
            self.dtype = wide

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

    # --- reading them -----------------------------------------------------------------------------

    def image_shape(self, image: int) -> tuple[int, int, int]:
        """(C, H, W) of an image, which is looked at with the next ones where it was not.

        Raises InputError.
        """
        if not self.sizes[image, 0]:
            start = int(np.searchsorted(self._expected, image))
            self._look_at(start, min(start + AT_ONCE, len(self._expected)))
        height, width = self.sizes[image]
        return self.shape[1], int(height), int(width)

    def read(self, place: Place, out: Array) -> None:
        """The values at ``place``, which is inside each of its maps, into ``out``."""
        for row, image in enumerate(range(place[0].start, place[0].stop)):
            if self._offsets[image] and out[row].shape == self.image_shape(image):
                key = self.keys[image]
                self._shelf.read_piece(key, int(self._offsets[image]), out[row])
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


def _spread(count: int) -> Iterator[tuple[int, int]]:
    """Where to look at a few of ``count`` images that stand for all: some here, some there."""
    if count <= FEW:
        yield 0, count
        return
    for spot in np.linspace(0, count - FEW // SPOTS, SPOTS).astype(int).tolist():
        yield spot, spot + FEW // SPOTS


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
