"""Feature maps as the pipeline reads them: one image at a time, upcast once, in reused buffers."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from roicli.core.exceptions import InputError, ParameterError
from roicli.core.parse import AUTO, ArrayLike
from roicli.core.record import frozen
from roicli.core.types import (
    Array,
    BoolArray,
    FloatArray,
    FloatType,
    IntArray,
    Size,
    check_spatial_scale,
)
from roicli.core.vocabulary import StoredAs
from roicli.operators.levels import level_of_scale
from roicli.pipeline.decode import decode, no_note
from roicli.pipeline.image_scale import infer_scale
from roicli.pipeline.layout import arrange, is_of_matlab, layout_of
from roicli.pipeline.map_collection import MapCollection
from roicli.pipeline.map_scale import note_other_scale, read_stored_scale
from roicli.pipeline.roi_table import GIVEN_SCALE, NO_SCALE, Place
from roicli.pipeline.validation import check_feature_shape
from roicli.storage.address import IMAGE, Address, parse_address
from roicli.storage.array import StoredArray, describe_sharing
from roicli.storage.exchange import find_address, name_levels, open_object
from roicli.storage.file_state import FileState
from roicli.storage.limits import check_memory
from roicli.storage.open import open_array
from roicli.storage.pattern import address_of, find_keys, is_pattern, natural_order

logger = logging.getLogger("roicli")

# What maps and RoIs are given as: an address, an array of any library, a list of them (levels, or
# the boxes of each image), or named ones (levels, or a table's columns): ``storage.exchange``.
FeatureArgument = str | os.PathLike[str] | ArrayLike | Sequence[Any] | Mapping[str, Any]
# One scale a level, or "auto": from the size of the network's input.
Scales = tuple[float, ...] | Literal["auto"]


class FeatureLevel(NamedTuple):
    """The maps (N, C, H, W) of one pyramid level, still in their file.

    In a collection each image has its own H and W.
    """

    stored: StoredArray
    spatial_scale: float
    level: int | None
    scale_from: str = GIVEN_SCALE

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W); of a collection H and W are the largest that were seen."""
        return check_feature_shape(self.stored)

    @property
    def sizes(self) -> IntArray | None:
        """(N, 2) height and width of each image; None where all have those of ``shape``."""
        return self.stored.sizes if isinstance(self.stored, MapCollection) else None

    def image_shape(self, index: int) -> tuple[int, int, int]:
        """(C, H, W) of image ``index``."""
        if isinstance(self.stored, MapCollection):
            return self.stored.image_shape(index)
        return self.shape[1:]

    @property
    def place(self) -> Place:
        """What a RoI needs to know of the map."""
        return Place(
            self.spatial_scale, self.shape[2:], self.level, self.shape, self.scale_from,
            layout_of(self.stored), is_of_matlab(self.stored), self.sizes,
        )  # fmt: skip

    @property
    def compute_dtype(self) -> FloatType:
        """float64 stays float64; every other dtype is upcast to float32."""
        return np.dtype(np.float64 if self.stored.dtype == np.float64 else np.float32)

    @property
    def computed_bytes(self) -> int:
        """Bytes of one image in the dtype that it is computed in."""
        return math.prod(self.shape[1:]) * self.compute_dtype.itemsize

    def buffer_bytes(self, dtype: FloatType) -> int:
        """Bytes of one image as stored and, where that is not ``dtype``, upcast."""
        values = math.prod(self.shape[1:])
        stored = values * self.stored.dtype.itemsize
        stored += self.stored.reading_bytes  # what decoding takes besides
        return stored + (0 if self.stored.dtype == dtype else values * dtype.itemsize)

    def keep_images(self, room: int, budget: object) -> None:
        """Keep up to ``room`` bytes of decoded images for those that share a chunk with them.

        Where that is not all of a chunk's, which is then decoded again and again, it is said.
        """
        stored = self.stored
        stored.most_kept = room
        sharing = describe_sharing(self.shape[0], stored.chunk_rows)
        chunk = min(stored.chunk_rows, self.shape[0])
        if sharing is not None and stored.kept_rows < chunk:
            logger.info(
                f"{stored.name}: {sharing}, and {budget} leaves room to keep {stored.kept_rows}: "
                f"chunks are read {-(-chunk // stored.kept_rows)} times"
            )

    def read_image(self, index: int, buffer: MapBuffer, keep_float16: bool = False) -> FloatArray:
        """Image ``index`` as (C, H, W) in the buffer's dtype, or as float16 where it is kept."""
        shape = self.image_shape(index)
        stored = buffer.stored_view(shape, self.stored.dtype)
        if len(self.stored.shape) == 3:
            stored[...] = self.stored.read_all()
        else:
            self.stored.read_item_into(index, stored)
        if stored.dtype == buffer.dtype or (keep_float16 and stored.dtype == np.float16):
            return stored
        upcast = buffer.upcast_view(shape)
        with np.errstate(invalid="ignore"):  # said of signalling NaNs
            np.copyto(upcast, stored, casting="unsafe")
        return upcast


class MapBuffer:
    """Room for one map as stored and, where that differs, as computed; reused over images."""

    def __init__(self, dtype: FloatType) -> None:
        self.dtype = dtype
        self._stored = np.empty(0, np.uint8)
        self._upcast = np.empty(0, dtype)

    def stored_view(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """An array of ``shape`` and ``dtype`` over the buffer."""
        size = math.prod(shape) * dtype.itemsize
        if self._stored.size < size:
            self._stored = np.empty(size, np.uint8)
        return self._stored[:size].view(dtype).reshape(shape)

    def upcast_view(self, shape: Sequence[int]) -> FloatArray:
        """An array of ``shape`` in the compute dtype."""
        size = math.prod(shape)
        if self._upcast.size < size:
            self._upcast = np.empty(size, self.dtype)
        return self._upcast[:size].reshape(shape)


@frozen
class FeaturePyramid:
    """One or more levels, finest first, with the same images and channels.

    ``keys`` is what the images are called, an image a key, where their addresses say it.
    """

    levels: tuple[FeatureLevel, ...]
    keys: tuple[str, ...] | None = None

    @property
    def images(self) -> int:
        """N, the number of images."""
        return self.levels[0].shape[0]

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        return self.levels[0].shape[1]

    @property
    def compute_dtype(self) -> FloatType:
        """The float type that every level is computed in: the widest that one needs."""
        return np.dtype(np.result_type(*(level.compute_dtype for level in self.levels)))

    @property
    def buffer_bytes(self) -> list[int]:
        """Bytes that one image takes in memory, of each level."""
        return [level.buffer_bytes(self.compute_dtype) for level in self.levels]

    @property
    def files(self) -> dict[str, FileState]:
        """Every file that the levels are read from, with its state when it was first opened."""
        levels = reversed(self.levels)
        return {path: state for level in levels for path, state in level.stored.files.items()}

    def expect(self, images: IntArray, streams: bool = False) -> None:
        """Be ready to read some images, ascending, which alone can be read of a collection.

        All of them are looked at; of many that ``streams`` a few, and the others as they come.
        Raises InputError.
        """
        for level, maps in self._collections:
            said = math.nan if level.scale_from == NO_SCALE else level.spatial_scale
            maps.expect(images, None if level.scale_from == GIVEN_SCALE else said, streams)

    def look_at_rest(self) -> None:
        """Look at all expected images that were not looked at. Raises InputError."""
        for _, maps in self._collections:
            maps.look_at_rest()

    def knows(self, images: IntArray) -> BoolArray:
        """(k,) of which images the maps' sizes are known."""
        known = [maps.knows(images) for _, maps in self._collections]
        return np.asarray(np.all([np.ones(len(images), bool), *known], axis=0))

    @property
    def _collections(self) -> Iterator[tuple[FeatureLevel, MapCollection]]:
        for level in self.levels:
            if isinstance(level.stored, MapCollection):
                yield level, level.stored

    def close(self) -> None:
        """Let go of the files."""
        for level in self.levels:
            level.stored.close()


# A comma that is none of a shape, as in x.bin::float32[2,8,24,32].
_BETWEEN_LEVELS = r",(?![^\[]*\])"


def resolve_addresses(features: str | os.PathLike[str], names: Sequence[str]) -> list[Address]:
    """One address per level: dataset ``names`` in one file or group, or a comma-separated list."""
    text = os.fspath(features)
    whole = parse_address(text)
    if names:
        return [whole.within(name) for name in names]
    if "," in text and not ("," in whole.path and os.path.exists(whole.path)):
        return [parse_address(part.strip()) for part in re.split(_BETWEEN_LEVELS, text)]
    return [whole]


class MapReading(NamedTuple):
    """How the arrays of maps are read: ``layout`` is a word of ``pipeline.layout``, or ``auto``;
    ``decode`` and ``stored_as`` are those of ``pipeline.decode``.
    """

    layout: str = AUTO
    decode: bool = True
    stored_as: StoredAs | None = None

    def read(self, stored: StoredArray, tells: bool = True) -> StoredArray:
        """The maps of an array, as (N, C, H, W) or (C, H, W). Raises InputError.

        What the file says of them is noted if ``tells``.
        """
        tell = logger.info if tells else no_note
        return decode(arrange(stored, self.layout, tell), self.decode, self.stored_as, tell)


AS_THEY_SAY = MapReading()


def open_pyramid(
    features: FeatureArgument,
    names: Sequence[str],
    scales: Scales | None,
    reading: MapReading = AS_THEY_SAY,
    image_size: Size | None = None,
) -> FeaturePyramid:
    """Open one map or a pyramid. Raises InputError or ParameterError.

    ``scales`` overrides the attribute ``spatial_scale`` of the datasets; without either it is 1.0,
    which is said in the log.
    """
    stored = open_maps(features, names, reading)
    try:
        return build_pyramid(stored, scales, image_size)
    except BaseException:
        for array in stored:
            array.close()
        raise


def open_maps(
    features: FeatureArgument,
    names: Sequence[str],
    reading: MapReading = AS_THEY_SAY,
    opener: Callable[[Address], StoredArray] | None = None,
) -> list[StoredArray]:
    """The arrays of one map or of a pyramid's levels, open and read as ``reading`` says.

    ``opener`` opens one address; without it a file's only 4-D dataset is taken. Raises InputError.
    """
    stored: list[StoredArray] = []
    try:
        features = find_address(features) or features
        if not isinstance(features, str | os.PathLike):
            for name, level in name_levels(features, names).items():
                stored.append(open_object(level, name, "features", may_be_list=False))
                stored[-1] = reading.read(stored[-1])
            return stored
        # One by one: what was opened before an error must be closed.
        addresses = resolve_addresses(features, names)
        if any(map(is_pattern, addresses)):
            keys = _find_common_keys(addresses)
            count = len(addresses)
            stored.extend(MapCollection(one, keys, reading.read, count) for one in addresses)
            return stored
        for address in addresses:
            stored.append(opener(address) if opener else open_array(address, "features"))
            stored[-1] = reading.read(stored[-1])
    except BaseException:
        for array in stored:
            array.close()
        raise
    return stored


def _find_common_keys(addresses: Sequence[Address]) -> tuple[str, ...]:
    """The keys of a pyramid's levels, which are the same for all. Raises InputError."""
    first, *others = addresses
    keys = find_keys(first)
    for address in others:
        if not is_pattern(address):
            raise InputError(f"{address}: has no {IMAGE}, expected one as in {first}")
        lacking = set(keys) ^ set(find_keys(address))
        if lacking:
            one = min(lacking, key=natural_order)
            has, has_not = (first, address) if one in keys else (address, first)
            more = f" ({len(lacking):,} such images)" if len(lacking) > 1 else ""
            raise InputError(
                f"{address_of(has_not, one)}: is not there, and {address_of(has, one)} is{more}: "
                "expected every level of every image"
            )
    return keys


def build_pyramid(
    stored: Sequence[StoredArray], scales: Scales | None, image_size: Size | None = None
) -> FeaturePyramid:
    """The levels of open arrays, with shapes and scales checked; as ``open_pyramid``."""
    if scales not in (None, AUTO) and len(scales) != len(stored):
        raise ParameterError(
            f"{len(scales)} spatial scales for {len(stored)} maps, expected as many",
            "where x and y have each their own: give x's, and --roi-scale 1,Y with y's over x's"
            if (len(scales), len(stored)) == (2, 1)
            else None,
        )
    levels = []
    for index, array in enumerate(stored):
        shape = check_feature_shape(array)
        scale_from = GIVEN_SCALE
        if scales is None:
            scale, scale_from = read_stored_scale(array, len(stored))
        elif scales == AUTO:
            if image_size is None:
                raise ParameterError(
                    "--spatial-scale auto needs the size of the network's input",
                    "add --image-size HEIGHTxWIDTH",
                )
            if isinstance(array, MapCollection):
                raise ParameterError(
                    "--spatial-scale auto infers the scale of maps of one size, and these have "
                    "their own",
                    "give the scale, like 1/16",
                )
            scale, scale_from = infer_scale(array.name, shape[2:], image_size), f"{scale_from} auto"
        else:
            scale = scales[index]
            note_other_scale(array, len(stored), scale)
        check_spatial_scale(scale)
        # As stored, and upcast.
        image_bytes = math.prod(shape[1:]) * (array.dtype.itemsize + 8)
        check_memory(array.name, f"one image of shape {shape[1:]}", image_bytes)
        levels.append(FeatureLevel(array, scale, level_of_scale(scale), scale_from))
    keys = getattr(stored[0], "keys", None)  # of a collection
    return FeaturePyramid(tuple(_number_levels(levels) if len(levels) > 1 else levels), keys)


def _advise_scales(levels: Sequence[FeatureLevel]) -> str | None:
    """What to do where levels' scales are their strides; None where they are not."""
    scales = [level.spatial_scale for level in levels]
    if min(scales) <= 1 or scales != sorted(scales):
        return None
    return f"where these are strides, scales are {','.join(f'1/{scale:g}' for scale in scales)}"


def _number_levels(levels: Sequence[FeatureLevel]) -> Sequence[FeatureLevel]:
    """The levels with their numbers: log2 of their strides, or from 0 where one is no power of two.

    Raises InputError and ParameterError where they are no pyramid, finest first.
    """
    first = levels[0]
    for level in levels:
        if level.shape[:2] != first.shape[:2]:
            raise InputError(
                f"{level.stored.name}: images and channels are {level.shape[:2]}, expected "
                f"{first.shape[:2]} as in {first.stored.name}"
            )
    for finer, coarser in pairwise(levels):
        sizes = [level.shape[2:] for level in (finer, coarser)]
        if coarser.spatial_scale < finer.spatial_scale and np.greater(sizes[1], sizes[0]).all():
            few, many = (f"{height} x {width} cells" for height, width in sizes)
            raise InputError(
                f"{coarser.stored.name}: has {many}, and {finer.stored.name}, whose scale is "
                f"larger, {few}",
                "name levels finest first, and give each its own scale",
            )
    numbers = [level.level for level in levels]
    if None in numbers:
        strides = [1 / level.spatial_scale for level in levels]
        if any(finer >= coarser for finer, coarser in pairwise(strides)):
            shown = ", ".join(f"{stride:g}" for stride in strides)
            raise ParameterError(f"strides are {shown}, expected each above the one before")
        return [level._replace(level=index) for index, level in enumerate(levels)]
    steps = range(numbers[0] or 0, (numbers[0] or 0) + len(numbers))
    if numbers != list(steps):
        raise ParameterError(
            f"levels are {numbers}, expected each stride twice the one before, finest first",
            _advise_scales(levels),
        )
    return levels
