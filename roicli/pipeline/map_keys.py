"""What the maps' images are called: what was said, what their addresses say, what stands beside."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.pipeline.image_keys import ImageKeys, plain_key
from roicli.storage.address import Address, is_url, split_name
from roicli.storage.array import StoredArray
from roicli.storage.file_state import FileState
from roicli.storage.formats import Lister, recognize
from roicli.storage.key_list import KeyList, Keys, as_key, read_key_list
from roicli.storage.table import ListedImage

if TYPE_CHECKING:
    from roicli.pipeline.features import FeaturePyramid

# What to do about a RoI whose image is none of maps that have an address each.
OF_ADDRESSES = (
    "name RoIs' images as {image} in FEATURES does, or give what else they are called with "
    "--images, a table like id,file_name; --where leaves others out"
)
# What a list of images is called beside maps.
NAMES = ("image_ids", "img_ids", "image_names", "file_names")


# Whose order is the maps' only as far as anybody knows.
LISTED = "the images that the RoIs' source lists"


@dataclass(eq=False, repr=False)
class MapKeys:
    """The keys of a run's maps, looked for when somebody asks.

    ``given`` is ``--images``; ``files`` are those that were read for it.
    """

    pyramid: FeaturePyramid | None
    given: Any = None
    files: dict[str, FileState] = field(default_factory=dict)

    def said(self, listed: Sequence[ListedImage]) -> ImageKeys | None:
        """Keys that RoIs must have: from ``--images`` or the maps' addresses.

        ``listed`` are the images of the RoIs' source, whose other names count. Raises InputError.
        """
        own = None if self.pyramid is None else self.pyramid.keys
        found = None if self.given is None else self._read(self.given)
        if own is None:
            if found is None:
                return None
            return _add_names(self._in_order(found), [_names_of(image) for image in listed])[0]
        keys = ImageKeys([(key,) for key in own], "the maps' images", OF_ADDRESSES)
        if found is not None:
            keys, matched = _add_names(keys, found.keys)
            if not matched:
                raise InputError(
                    f"{found.name}: names none of {keys.source} ({len(keys):,}: {keys.listed()})",
                    "maps of an address with {image} have names of their own",
                )
        return _add_names(keys, [_names_of(image) for image in listed])[0]

    def found(self, listed: Sequence[ListedImage]) -> ImageKeys | None:
        """Keys that stand beside the maps, else those that the RoIs' source lists, as many as there
        are maps.
        """
        if self.pyramid is None:
            return None
        beside = self._beside()
        if beside is None and len(listed) == self.pyramid.images:
            names = [_names_of(image) for image in listed]
            return ImageKeys(names, LISTED)
        if beside is not None and listed:
            beside, _ = _add_names(beside, [_names_of(image) for image in listed])
        return beside

    def _read(self, given: Any) -> KeyList:
        found = read_key_list(given)
        self.files |= found.files
        return found

    def _in_order(self, found: KeyList) -> ImageKeys:
        maps = len(found.keys) if self.pyramid is None else self.pyramid.images
        if len(found.keys) != maps:
            raise InputError(
                f"{found.name}: {len(found.keys):,} keys, and there are {maps:,} maps",
                "name every map's image, in their order",
            )
        return ImageKeys(found.keys, found.name)

    def _beside(self) -> ImageKeys | None:
        """A dataset or attribute beside the maps, the nearest first."""
        assert self.pyramid is not None
        stored, images = self.pyramid.levels[0].stored, self.pyramid.images
        for name, where, values in _attributes_of(stored):
            texts: list[Keys] = [(as_key(value),) for value in values]
            _check_count(f"{stored.name}: attribute {name}{where}", len(texts), images)
            return ImageKeys(texts, f"attribute {name}{where} of {stored.name}")
        for address in _datasets_beside(stored):
            found = self._read(str(address))
            _check_count(str(address), len(found.keys), images)
            return ImageKeys(found.keys, str(address))
        return None


def _check_count(name: str, keys: int, images: int) -> None:
    if keys != images:
        raise InputError(
            f"{name} has {keys:,} keys, and there are {images:,} maps",
            "say what the maps' images are called: --images LIST",
        )


def _attributes_of(stored: StoredArray) -> Iterator[tuple[str, str, Sequence[Any]]]:
    places: tuple[tuple[Mapping[str, Any], str], ...] = (
        (stored.attributes, ""),
        (stored.group_attributes, " of the group"),
        (stored.file_attributes, " of the file"),
    )
    for attributes, where in places:
        for name in NAMES:
            if name in attributes and np.ndim(attributes[name]) == 1:
                yield name, where, np.asarray(attributes[name]).tolist()


def _datasets_beside(stored: StoredArray) -> Iterator[Address]:
    """The addresses of lists in the maps' group and at the file's root."""
    path, dataset = (part.raw for part in split_name(stored.name))
    if not dataset or not (is_url(path) or os.path.exists(path)):
        return
    found = recognize(Address(path))
    if found.holds != "several":
        return
    lister = cast("Lister", found.reader)
    group = dataset.strip("/").rpartition("/")[0]
    for place in dict.fromkeys((group, "")):
        before = f"{place}/" if place else ""
        ways = {name: f"{before}{name}" for name in NAMES}
        there = set(lister.find_names(path, place, ways.get))
        yield from (Address(path, ways[name]) for name in NAMES if name in there)


def _names_of(image: ListedImage) -> Keys:
    return (image.id,) if image.file_name is None else (image.id, image.file_name)


def _add_names(keys: ImageKeys, listed: Sequence[Keys]) -> tuple[ImageKeys, int]:
    """The keys with the other names of the same images, and how many images have some.

    Where ids and file names are those of different maps, those count that name a map for every
    image, or every map. Raises InputError where both do, or neither.
    """
    exact = {name: place for place, names in enumerate(keys.keys) for name in names}
    loose: dict[str, int | None] = {}
    for name, place in exact.items():
        plain = plain_key(name)
        loose[plain] = place if loose.get(plain, place) == place else None
    places = [[exact.get(name, loose.get(plain_key(name))) for name in names] for names in listed]
    contested = [at for at, own in enumerate(places) if len({*own} - {None}) > 1]
    if contested:
        whole = [
            at
            for at, own in enumerate(zip_longest(*places))
            if None not in own or len({*own} - {None}) == len(keys)
        ]
        if len(whole) != 1:
            raise _contest(keys, listed[contested[0]], places[contested[0]])
        places = [[own[whole[0]]] for own in places]
    found, matched = list(keys.keys), 0
    for names, own in zip(listed, places, strict=True):
        at = next((one for one in own if one is not None), None)
        if at is not None:
            # A map's own name may be another image's.
            before = () if contested else found[at]
            found[at] = tuple(dict.fromkeys((*before, *names)))
            matched += 1
    return replace(keys, keys=found), matched


def _contest(keys: ImageKeys, names: Keys, places: Sequence[int | None]) -> InputError:
    called = " and ".join(str(foreign(name)) for name in names)
    maps = ", ".join(str(foreign(keys.keys[at][0])) for at in places if at is not None)
    return InputError(
        f"one image is called {called}, and these are different ones of {keys.source}: {maps}",
        "rename the maps, so that either ids or file names name them, not both",
    )
