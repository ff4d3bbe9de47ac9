"""What an HDF5 file holds, dataset by dataset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import h5py

from roicli.storage.address import Address, check_regular_file
from roicli.storage.attributes import plain_attributes
from roicli.storage.contents import FileContents, StoredDataset, is_numeric
from roicli.storage.hdf5 import list_datasets, look_up, open_file, stored_precision

FILTER_NAMES = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
    h5py.h5z.FILTER_SZIP: "szip",
    h5py.h5z.FILTER_NBIT: "nbit",
    h5py.h5z.FILTER_SCALEOFFSET: "scaleoffset",
    h5py.h5z.FILTER_LZF: "lzf",
}


@contextmanager
def open_group(address: Address) -> Iterator[h5py.Group | h5py.Dataset]:
    """The file's root, or the group or dataset that the address names. Raises InputError."""
    check_regular_file(address.path)
    with closing(open_file(address.path, address.path)) as file:
        yield file if address.dataset is None else look_up(file, address)


def describe_hdf5(node: h5py.Group | h5py.Dataset, path: str) -> FileContents:
    """The datasets below a group, or the one dataset."""
    if isinstance(node, h5py.Dataset):
        return FileContents(path, "hdf5", {}, (_describe_dataset(node, path),))
    datasets = tuple(_describe_dataset(dataset, path) for _, dataset in list_datasets(node))
    return FileContents(path, "hdf5", plain_attributes(node.attrs), datasets)


def _describe_dataset(dataset: h5py.Dataset, path: str) -> StoredDataset:
    numeric = is_numeric(dataset.dtype)
    return StoredDataset(
        f"{Address(path)}::{dataset.name}",
        dataset.shape,
        stored_precision(dataset).name if numeric else str(dataset.dtype),
        numeric,
        _layout(dataset),
        dataset.chunks,
        _filters(dataset),
        None if dataset.is_virtual else dataset.id.get_storage_size(),
        plain_attributes(dataset.attrs),
        dataset,
    )


def _layout(dataset: h5py.Dataset) -> str:
    if dataset.is_virtual:
        return "virtual"
    if dataset.chunks is not None:
        return "chunked"
    compact = dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
    return "compact" if compact else "contiguous"


def _filters(dataset: h5py.Dataset) -> str | None:
    """The filters in the order in which they are applied, like ``shuffle, gzip 4``."""
    plist = dataset.id.get_create_plist()
    names = []
    for index in range(plist.get_nfilters()):
        code, _, values, name = plist.get_filter(index)
        text = FILTER_NAMES.get(code) or name.decode(errors="replace") or f"filter {code}"
        names.append(f"{text} {values[0]}" if code == h5py.h5z.FILTER_DEFLATE else text)
    return ", ".join(names) or None
