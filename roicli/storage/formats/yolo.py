"""A folder of YOLO's label files: a text an image, a line a box, in fractions of the image.

A line is ``class cx cy width height``, then a score where it was detected and the number of a track
where it was tracked. The image is the file's name without its ending.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from roicli.core.exceptions import InputError, not_utf8
from roicli.core.foreign import foreign, plain_numbers
from roicli.storage.address import Address
from roicli.storage.array import precision_of
from roicli.storage.file_state import read_state
from roicli.storage.limits import check_memory
from roicli.storage.table import Column, ListedImage, Table, text_column

ENDING = ".txt"
# Lists of the classes' names, which stand beside the labels.
OTHERS = ("classes.txt", "labels.txt", "names.txt", "notes.txt", "readme.txt")
NAMES = ("class", "cx", "cy", "w", "h", "score", "track")
FEWEST, MOST = 5, 7
# A box may reach past its image; what is larger are pixels.
LARGEST_FRACTION = 2
BYTES_PER_CHARACTER = 48
FLOAT64 = precision_of(np.dtype(np.float64))


def open_table(address: Address) -> Table:
    """The labels of a folder. Raises InputError."""
    folder = address.path
    names = list_labels(folder)
    if not names:
        raise InputError(f"{folder}: holds no label files, which end in {ENDING}")
    state = read_state(folder)
    images: list[str] = []
    rows: list[list[float]] = []
    for name in names:
        path = os.path.join(folder, name)
        for row in _read_labels(path):
            images.append(name.removesuffix(ENDING))
            rows.append(row)
    widths = {len(row) for row in rows} or {FEWEST}
    width = max(widths)
    values = np.full((len(rows), width), np.nan)
    for place, row in enumerate(rows):
        values[place, : len(row)] = row
    columns = [Column(name, values[:, i], FLOAT64) for i, name in enumerate(NAMES[:width])]
    columns[0] = columns[0]._replace(values=values[:, 0].astype(np.int64))
    listed = tuple(ListedImage(name.removesuffix(ENDING)) for name in names)
    return Table(
        foreign(folder), len(rows), (text_column("image", images), *columns), FLOAT64.name,
        {folder: state}, roi_format="cxcywh", normalized=True, images=listed,
    )  # fmt: skip


def list_labels(folder: str) -> list[str]:
    """The label files of a folder, sorted."""
    return sorted(
        name
        for name in os.listdir(folder)
        if name.endswith(ENDING) and name.lower() not in OTHERS and not name.startswith(".")
    )


def _read_labels(path: str) -> Iterator[list[float]]:
    check_memory(path, "its labels", os.path.getsize(path) * BYTES_PER_CHARACTER)
    try:
        with open(path, encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield _read_line(line, f"{path}: line {number}")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _read_line(line: str, where: str) -> list[float]:
    cells = plain_numbers(line).split()
    if not FEWEST <= len(cells) <= MOST:
        kind = "" if len(cells) < FEWEST else "; a polygon or keypoints are no box"
        raise InputError(
            f"{where}: {len(cells)} numbers, expected class cx cy width height and at most a "
            f"score and a track{kind}"
        )
    try:
        found = [float(cell) for cell in cells]
    except ValueError:
        shown = str(foreign(line.strip()))
        raise InputError(f"{where}: found {shown!r:.80}, expected numbers") from None
    if found[0] != int(found[0] if np.isfinite(found[0]) else -1) or found[0] < 0:
        raise InputError(f"{where}: found class {cells[0]:.20}, expected a whole number from 0")
    if max(map(abs, found[1:FEWEST])) > LARGEST_FRACTION:
        raise InputError(
            f"{where}: found {max(found[1:FEWEST], key=abs):g}, expected fractions of the image",
            "labels in pixels are read as 'FOLDER/{image}.txt', with --roi-columns "
            "class,x1,y1,x2,y2 or what they are",
        )
    return found
