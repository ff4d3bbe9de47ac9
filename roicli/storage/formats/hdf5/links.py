"""Paths inside an HDF5 file, followed link by link: none leads out of the file unnoticed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py

from roicli.core.exceptions import InputError, first_line
from roicli.core.foreign import foreign
from roicli.storage.file_state import FileState, read_state
from roicli.storage.permission import ALLOW_HINT, external_is_allowed

# HDF5's own limit of soft links on one way; the same for files that lead to files.
MOST_LINKS = 16
# Where HDF5 looks first for the target of an external link.
LINK_FOLDERS = "HDF5_EXT_PREFIX"
ORIGIN = "${ORIGIN}"

# Every file that reading opens besides the one that was given, as it was when it was found.
OtherFiles = dict[str, FileState]


def find_object(
    file: h5py.File, path: str, name: str, others: OtherFiles, depth: int = 0
) -> tuple[Any, str]:
    """The group, dataset or named type at ``path``, and the path of the file that it lies in.

    ``name`` is the path of ``file``. Soft links are followed within their file. An external link
    raises InputError unless external files are allowed; then the files on the way go to ``others``.
    Raises KeyError where there is nothing.
    """
    node: Any = file["/"]
    way = _split(path)
    soft_links = 0
    while way:
        part = way.pop(0)
        if not isinstance(node, h5py.Group) or not node.id.links.exists(part):
            raise KeyError(path)
        kind = node.id.links.get_info(part).type
        if kind == h5py.h5l.TYPE_HARD:
            node = node[part]
            continue
        target = node.id.links.get_val(part)
        if kind != h5py.h5l.TYPE_SOFT:
            said = f"{name}: {path!r} is a link to {_describe(target)}"
            if kind != h5py.h5l.TYPE_EXTERNAL or not external_is_allowed():
                raise InputError(f"{said}, outside the file", ALLOW_HINT)
            name = _follow(target, name, said, others, depth)
            node = node[part]
            continue
        soft_links += 1
        if soft_links > MOST_LINKS:
            raise KeyError(path)
        node = node.file["/"] if target.startswith(b"/") else node
        way[:0] = _split(target)
    return node, name


def _follow(target: Any, base: str, said: str, others: OtherFiles, depth: int) -> str:
    """Note the file of an external link in the file ``base``, and those that it leads to.

    Gives the path of the file where it ends.
    """
    file_name, inside = (os.fsdecode(part) for part in target)
    if depth >= MOST_LINKS:
        raise InputError(f"{said}, one of more than {MOST_LINKS} links from file to file")
    place = locate(file_name, base, LINK_FOLDERS)
    if place is None:
        raise InputError(f"{said}, which is missing", "keep it where it was, relative to this file")
    with open_other(place, said, others) as other:
        return find_object(other, inside, place, others, depth + 1)[1]


def locate(target: str, base: str, variable: str) -> str | None:
    """The file that HDF5 takes for a name that stands in the file ``base``; None where it is gone.

    HDF5 looks where the environment says, then beside the file as it was named, from the current
    folder, and beside the file itself where a symbolic link led to it. Of an absolute path that is
    not there the last part is looked for.
    """
    return next(filter(os.path.lexists, candidates(target, base, variable)), None)


def candidates(target: str, base: str, variable: str) -> Iterator[str]:
    """The places where HDF5 looks for a file, in its order."""
    if os.path.isabs(target):
        yield target
        target = os.path.basename(target)
    beside = os.path.dirname(base)
    for folder in filter(None, os.environ.get(variable, "").split(os.pathsep)):
        yield os.path.join(folder.replace(ORIGIN, beside or "."), target)
    yield os.path.join(beside, target)
    yield target
    yield os.path.join(os.path.dirname(os.path.realpath(base)), target)


def note_file(place: str, said: str, others: OtherFiles) -> None:
    """Note another file that is read. Raises InputError for what cannot be read like a file."""
    if place in others:
        return
    if not os.path.isfile(place):
        # HDF5 would wait for what comes out of a pipe.
        raise InputError(f"{said}: {place} is not a regular file")
    others[place] = read_state(place)


@contextmanager
def open_other(place: str, said: str, others: OtherFiles) -> Iterator[h5py.File]:
    """Another file that a file leads to, noted and open."""
    note_file(place, said, others)
    try:
        file = h5py.File(place, "r")
    except Exception as error:
        raise InputError(f"{said}: {place} cannot be opened: {first_line(error)}") from error
    try:
        yield file
    finally:
        file.close()


def _split(path: str | bytes) -> list[bytes]:
    """The names on a way. HDF5 knows "." and has no ".."."""
    data = encode_name(path) if isinstance(path, str) else path
    return [part for part in data.split(b"/") if part not in (b"", b".")]


def _describe(target: Any) -> str:
    """An external link's file and path; a user-defined link has neither."""
    if isinstance(target, tuple) and len(target) == 2:
        return "::".join(map(foreign, target))
    return "something that HDF5 does not know"


def encode_name(name: str) -> bytes:
    """A name as HDF5 stores it."""
    return name.encode("utf-8", "surrogateescape")


def name_of(node: h5py.Group | h5py.Dataset) -> str:
    """Where a node lies in its file; h5py gives bytes for what is no UTF-8."""
    name = node.name
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)
