"""A new HDF5 file of groups and datasets that are written once, array after array."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

import h5py
import numpy as np

from roicli.core.record import frozen
from roicli.core.types import Array
from roicli.storage.formats.hdf5.write import open_growing


@frozen
class Dataset:
    """A dataset of ``shape`` whose ``blocks`` follow each other along the first axis."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterable[Array]]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@frozen
class Texts:
    """A dataset of texts."""

    name: str
    values: Sequence[str]


@frozen
class OtherName:
    """A second name of a dataset that was written before."""

    name: str
    of: str


@frozen
class Group:
    """The attributes of a group; "" is the root."""

    name: str
    attributes: Mapping[str, Any]


Node = Dataset | Texts | OtherName | Group


def write_tree(path: str, nodes: Iterable[Node]) -> None:
    """Write a file. Raises OSError for a full disk."""
    with open_growing(path) as file:
        for node in nodes:
            match node:
                case Dataset():
                    _write_dataset(file, node)
                case Texts():
                    kind = h5py.string_dtype("utf-8")
                    values = np.array(node.values, object)
                    file.create_dataset(node.name, data=values, dtype=kind, track_times=False)
                case OtherName():
                    file[node.name] = file[node.of]
                case Group():
                    group = file.require_group(node.name) if node.name else file
                    for key, value in node.attributes.items():
                        group.attrs[key] = value


def _write_dataset(file: h5py.File, node: Dataset) -> None:
    dataset = file.create_dataset(node.name, node.shape, node.dtype, track_times=False)
    start = 0
    for block in node.blocks():
        if len(block):
            dataset[start : start + len(block)] = block
        start += len(block)
    for key, value in node.attributes.items():
        dataset.attrs[key] = value
