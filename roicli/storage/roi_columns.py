"""What the columns of RoIs are called: one table of names for every format that names them.

Names are compared without regard to case, blanks and punctuation: ``Image ID`` is ``image_id``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign

# A column that says which image a RoI is of. One that is there is used, or refused.
IMAGE_NAME = re.compile(
    r"(batch|image|img|im|frame|sample)(index|idx|ind|id|no|nr|num|number|name|file|filename|path)?"
    r"|(file|filename|filepath|path|fname)"
)
# The names of a format's coordinates, and what others call them.
COORDINATE_SYNONYMS: dict[str, tuple[str, ...]] = {
    "x1": ("xmin", "left"),
    "y1": ("ymin", "top"),
    "x2": ("xmax", "right"),
    "y2": ("ymax", "bottom"),
    "x": ("left",),
    "y": ("top",),
    "w": ("width",),
    "h": ("height",),
    "cx": ("xcenter", "xcentre", "centerx", "centrex", "xc"),
    "cy": ("ycenter", "ycentre", "centery", "centrey", "yc"),
}
KNOWN_NAMES = {
    *COORDINATE_SYNONYMS,
    *(name for names in COORDINATE_SYNONYMS.values() for name in names),
}
# So many cells of a comment are no coincidence.
FEWEST_NAMES = 3


class RoiColumns(NamedTuple):
    """Where a row holds what: ``image`` is None where no column names the RoI's image."""

    image: int | None
    coordinates: tuple[int, ...]
    image_name: str | None = None

    @property
    def places(self) -> list[int]:
        """The columns in the order that RoIs have: image, if any, and four coordinates."""
        return ([] if self.image is None else [self.image]) + list(self.coordinates)


def find_columns(header: Sequence[str], coordinate_names: Sequence[str], where: str) -> RoiColumns:
    """The columns of ``header`` that RoIs with these four coordinates are made of.

    Raises InputError where a coordinate is missing, and where two columns mean the same: which of
    them is right cannot be known.
    """
    plain = [_plain(name) for name in header]
    images = [place for place, name in enumerate(plain) if is_image_name(name)]
    _check_single(header, images, "the image", where)
    coordinates = []
    for wanted in coordinate_names:
        names = (wanted, *COORDINATE_SYNONYMS[wanted])
        found = [place for place, name in enumerate(plain) if name in names]
        if not found:
            raise InputError(
                f"{where}: the header has no column {wanted!r}, found: {_show(header)}",
                _advise(plain),
            )
        _check_single(header, found, wanted, where)
        coordinates.append(found[0])
    image = images[0] if images else None
    name = None if image is None else foreign(header[image].strip())
    return RoiColumns(image, tuple(coordinates), name)


def is_header(cells: Sequence[str]) -> bool:
    """Whether the cells of a comment are names of columns rather than words."""
    plain = [_plain(cell) for cell in cells]
    return sum(name in KNOWN_NAMES or is_image_name(name) for name in plain) >= FEWEST_NAMES


def is_image_name(plain: str) -> bool:
    """Whether a column of this name, without case and punctuation, names images."""
    return IMAGE_NAME.fullmatch(plain) is not None


def _has_columns(plain: Sequence[str], coordinate_names: Sequence[str]) -> bool:
    return all(set(plain) & {wanted, *COORDINATE_SYNONYMS[wanted]} for wanted in coordinate_names)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _show(header: Sequence[str]) -> str:
    return ", ".join(foreign(name.strip()) for name in header)


def _check_single(header: Sequence[str], found: list[int], meaning: str, where: str) -> None:
    if len(found) > 1:
        names = " and ".join(foreign(header[place].strip()) for place in found)
        raise InputError(
            f"{where}: the header has {len(found)} columns for {meaning}: {names}", "keep one"
        )


def _advise(plain: Sequence[str]) -> str:
    """What to do about a header that lacks a coordinate."""
    if len(plain) == 1:
        return "columns are separated by commas in .csv and by tabs in .tsv"
    for word, names in (("xywh", "xywh"), ("cxcywh", ("cx", "cy", "w", "h"))):
        if _has_columns(plain, tuple(names)):
            return f"add --roi-format {word}"
    return "choose the --roi-format that the file has, or name the columns so"
