"""Values that an HDF5 dataset keeps in other files: external storage and virtual sources.

A result that roicli wrote in parts is a virtual dataset over ``<name>.h5.parts/*`` beside
``<name>.h5``. Such sources count as the file's own: a relative path of just that folder and one
name in it, no symbolic link on the way, and the part keeps its values itself. Everything else needs
the user's permission.
"""

from __future__ import annotations

import os

import h5py

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.storage.formats.hdf5.links import find_object, name_of
from roicli.storage.permission import ALLOW_HINT, external_is_allowed

PARTS_ENDING = ".parts"
SAME_FILE = "."
# The files of a virtual dataset may be named by a pattern with the number of a block.
PATTERN = "%"


def check_sources(dataset: h5py.Dataset, path: str, seen: frozenset[str] = frozenset()) -> None:
    """Raise InputError where values of the dataset lie in other files, or nowhere.

    ``path`` is the file that was given (``-`` for stdin), ``seen`` are the datasets on the way to
    this one. HDF5 would read fill values for a source that is missing, so that is refused too.
    """
    name = f"{path}::{name_of(dataset)}"
    if not external_is_allowed():
        _refuse_external_storage(dataset, name)
    if not dataset.is_virtual:
        return
    if dataset.name in seen or len(seen) > 16:
        raise InputError(f"{name}: is a virtual dataset over itself")
    sources = {(source.file_name, source.dset_name) for source in dataset.virtual_sources()}
    for file_name, dataset_name in sorted(sources):
        if file_name == SAME_FILE:
            source = _find_source(dataset.file, dataset_name, name, path)
            check_sources(source, path, seen | {dataset.name})
        elif not external_is_allowed():
            _check_own_part(file_name, dataset_name, name, path)
        elif PATTERN not in file_name:
            _check_present(file_name, name, path)


def leads_outside(dataset: h5py.Dataset, path: str) -> bool:
    """Whether it is a virtual dataset that ``check_sources`` refuses."""
    if not dataset.is_virtual:
        return False
    try:
        check_sources(dataset, path)
    except InputError:
        return True
    return False


def _refuse_external_storage(dataset: h5py.Dataset, name: str) -> None:
    plist = dataset.id.get_create_plist()
    if plist.get_external_count():
        outside = foreign(plist.get_external(0)[0])
        raise InputError(
            f"{name}: its values are stored in {outside}, outside the file", ALLOW_HINT
        )


def _find_source(file: h5py.File, dataset_name: str, name: str, path: str) -> h5py.Dataset:
    try:
        source = find_object(file, dataset_name, path)
    except KeyError:
        source = None
    if not isinstance(source, h5py.Dataset):
        raise InputError(f"{name}: its virtual source {dataset_name!r} is missing in {path}")
    return source


def _check_own_part(file_name: str, dataset_name: str, name: str, path: str) -> None:
    folder, given = os.path.split(os.path.abspath(path))
    where, leaf = os.path.split(file_name)
    part = os.path.join(os.path.realpath(folder), where, leaf)
    is_own = where == given + PARTS_ENDING and leaf not in ("", ".", "..") and path != "-"
    if not is_own or os.path.realpath(os.path.join(folder, file_name)) != part:
        raise InputError(
            f"{name}: is a virtual dataset over {file_name}, outside the file", ALLOW_HINT
        )
    _check_present(file_name, name, path)
    with h5py.File(part, "r") as file:
        source = _find_source(file, dataset_name, name, part)
        if source.is_virtual:
            raise InputError(
                f"{name}: its part {file_name} is a virtual dataset itself", ALLOW_HINT
            )
        _refuse_external_storage(source, f"{part}::{name_of(source)}")


def _check_present(file_name: str, name: str, path: str) -> None:
    """A source is looked for as HDF5 does: beside the file, then from the current folder."""
    beside = os.path.join(os.path.dirname(os.path.abspath(path)), file_name)
    if not any(os.path.isfile(place) for place in (beside, file_name)):
        raise InputError(
            f"{name}: its virtual source {file_name} is missing",
            "keep it where it was when the dataset was made, relative to this file",
        )
