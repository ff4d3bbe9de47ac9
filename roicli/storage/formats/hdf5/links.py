"""Paths inside an HDF5 file, followed link by link: none leads out of the file unnoticed."""

from __future__ import annotations

from typing import Any

import h5py

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.storage.permission import ALLOW_HINT, external_is_allowed

# HDF5's own limit of soft links on one way.
MOST_SOFT_LINKS = 16


def find_object(file: h5py.File, path: str, name: str) -> Any:
    """The group, dataset or named type at ``path``. Raises KeyError where there is none.

    Soft links are followed within the file. An external link raises InputError, with ``name`` as
    the file's, unless external files are allowed.
    """
    if external_is_allowed():
        return file[encode_name(path)]
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
            raise InputError(
                f"{name}: {path!r} is a link to {_describe(target)}, outside the file", ALLOW_HINT
            )
        soft_links += 1
        if soft_links > MOST_SOFT_LINKS:
            raise KeyError(path)
        node = file["/"] if target.startswith(b"/") else node
        way[:0] = _split(target)
    return node


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
