"""The files that a virtual dataset reads from, and whether all of them can be read.

HDF5 gives fill values, without a word, for a file that is missing or that the process may not open
any more. What roicli reads is checked first.
"""

from __future__ import annotations

import os

import h5py

from roicli.core.exceptions import InputError
from roicli.core.system import allow_open_files
from roicli.storage.address import parts_folder

# Descriptors that a process has open besides.
OTHER_FILES = 64


def name_sources(dataset: h5py.Dataset) -> list[str]:
    """The files of a virtual dataset, as they are named in it, each once."""
    properties = dataset.id.get_create_plist()
    names = (properties.get_virtual_filename(n) for n in range(properties.get_virtual_count()))
    return list(dict.fromkeys(names))


def find_parts(dataset: h5py.Dataset, path: str) -> list[str]:
    """The parts of a virtual dataset in the file ``path``, as paths.

    Raises InputError where it reads from a file outside its own folder of parts.
    """
    folder = parts_folder(path)
    found = []
    for name in name_sources(dataset):
        inside, _, plain = name.rpartition("/")
        if inside != os.path.basename(folder) or plain in ("", ".", ".."):
            raise InputError(
                f"{path}: stands on {name}, expected files in {os.path.basename(folder)}",
                "a virtual result keeps its name: move it with its folder, or join it first",
            )
        found.append(os.path.join(folder, plain))
    return found


def check_parts_open(dataset: h5py.Dataset, path: str) -> None:
    """Raise InputError unless every part of a virtual result is there and can be opened."""
    folder = parts_folder(path)
    inside = f"{os.path.basename(folder)}/"
    names = [name for name in name_sources(dataset) if name.startswith(inside)]
    parts = [os.path.join(folder, name.removeprefix(inside)) for name in names]
    for part in parts:
        if not os.path.exists(part):
            raise InputError(
                f"{path}: its part {part} is missing", "without it these RoIs would read as NaN"
            )
    _allow_open_files(len(parts) + OTHER_FILES, path)


def _allow_open_files(needed: int, path: str) -> None:
    """Raise the limit as far as the system lets a process; HDF5 keeps every part open."""
    most = allow_open_files(needed)
    if most is not None:
        raise InputError(
            f"{path}: stands on {needed - OTHER_FILES:,} parts, and a process may open "
            f"{most:,} files here",
            "join them first with roicli merge, which opens one at a time",
        )
