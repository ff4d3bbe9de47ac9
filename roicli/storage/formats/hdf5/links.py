"""Where an HDF5 file leads: links, external storage, virtual sources. None is followed unnoticed.

A result that roicli wrote in parts is a virtual dataset over ``<name>.h5.parts/*`` beside
``<name>.h5``. Such sources count as the file's own: a relative path of just that folder and one
name in it, no symbolic link on the way, and the part keeps its values itself. Everything else needs
the user's permission.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import h5py

from roicli.core.exceptions import InputError, first_line
from roicli.core.foreign import foreign
from roicli.core.system import allow_open_files, renew_time
from roicli.storage.address import parts_folder
from roicli.storage.file_state import FileState, read_state
from roicli.storage.limits import ALLOW_HINT, external_is_allowed

# HDF5's own limit of soft links on one way; the same for files that lead to files.
MOST_LINKS = 16
# Where HDF5 looks first for the target of an external link.
LINK_FOLDERS = "HDF5_EXT_PREFIX"
ORIGIN = "${ORIGIN}"

# Every file that reading opens besides the one that was given, as it was when it was found.
OtherFiles = dict[str, FileState]
PARTS_ENDING = ".parts"
SAME_FILE = "."
# A virtual dataset without an end names its sources with the number of a block in the name.
NUMBER = r"%\d*b"
# Where HDF5 looks first for virtual sources, and for the raw values of external storage.
SOURCE_FOLDERS, RAW_FOLDER = "HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX"
# Descriptors that a process has open besides.
OTHER_FILES = 64

# --- links ----------------------------------------------------------------------------------------


def find_object(
    file: h5py.File, path: str, name: str, others: OtherFiles | None, depth: int = 0
) -> tuple[Any, str]:
    """The group, dataset or named type at ``path``, and the path of the file that it lies in.

    ``name`` is the path of ``file``. Soft links are followed within their file. An external link
    raises InputError unless external files are allowed; then the files on the way go to ``others``
    (None: none is followed). Raises KeyError where there is nothing.
    """
    node: Any = file["/"]
    way = split_way(path)
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
            if kind != h5py.h5l.TYPE_EXTERNAL or others is None or not external_is_allowed():
                raise InputError(f"{said}, outside the file", ALLOW_HINT)
            name = _follow(target, name, said, others, depth)
            node = node[part]
            continue
        soft_links += 1
        if soft_links > MOST_LINKS:
            raise KeyError(path)
        node = node.file["/"] if target.startswith(b"/") else node
        way[:0] = split_way(target)
    return node, name


def find_within(file: h5py.File, path: str) -> h5py.Group | h5py.Dataset | None:
    """The group or dataset at ``path`` where the way stays in the file; else None.

    ``file.get(path)`` follows a link to another file, and waits for ever where that is a pipe.
    """
    try:
        node, _ = find_object(file, path, file.filename, None)
    except (KeyError, InputError):
        return None
    return node if isinstance(node, h5py.Group | h5py.Dataset) else None


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


def split_way(path: str | bytes) -> list[bytes]:
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


# --- values in other files ----------------------------------------------------------------------


def trace_sources(
    dataset: h5py.Dataset,
    path: str,
    others: OtherFiles,
    seen: frozenset[tuple[str, str]] = frozenset(),
) -> int:
    """Note in ``others`` every file that reading the dataset opens, through all that lead on.

    ``path`` is the file that the dataset lies in (``-`` for stdin), ``seen`` are the datasets on
    the way to this one. Raises InputError where values lie in other files without permission, or
    nowhere: HDF5 would read fill values for a source that is missing. Gives the bytes that pass
    through filters to read one row, at most.
    """
    renew_time()
    name = f"{path}::{name_of(dataset)}"
    _trace_external_storage(dataset, name, path, others)
    if not dataset.is_virtual:
        return decoded_row_bytes(dataset)
    if (path, name_of(dataset)) in seen or len(seen) > MOST_LINKS:
        raise InputError(f"{name}: is a virtual dataset over itself")
    seen |= {(path, name_of(dataset))}
    rows: dict[int, dict[tuple[str, str], int]] = defaultdict(dict)
    found: dict[tuple[str, str], int] = {}
    for source in sorted(set(_name_sources(dataset)), key=lambda source: source[1:]):
        first, *wanted = source
        key = (wanted[0], wanted[1])
        if key not in found:
            found[key] = _trace_source(dataset, *key, path, others, seen)
        rows[first][key] = found[key]
    # Sources that begin at one row are read together.
    return max((sum(costs.values()) for costs in rows.values()), default=0)


def _name_sources(dataset: h5py.Dataset) -> Iterator[tuple[int, str, str]]:
    """The first row that a source gives, its file and its dataset, mapping by mapping."""
    properties = dataset.id.get_create_plist()
    for number in range(properties.get_virtual_count()):
        try:
            first = properties.get_virtual_vspace(number).get_select_bounds()[0][0]
        except (RuntimeError, ValueError, IndexError):  # a selection that has no end, or nothing
            first = 0
        file_name = os.fsdecode(properties.get_virtual_filename(number))
        yield int(first), file_name, properties.get_virtual_dsetname(number)


def _trace_source(
    dataset: h5py.Dataset,
    file_name: str,
    dataset_name: str,
    path: str,
    others: OtherFiles,
    seen: frozenset[tuple[str, str]],
) -> int:
    """The files of one source, as ``trace_sources``."""
    name = f"{path}::{name_of(dataset)}"
    if file_name == SAME_FILE:
        return _trace_named(dataset.file, dataset_name, name, path, others, seen)
    if not external_is_allowed():
        return _trace_own_part(file_name, dataset_name, name, path, others)
    cost = 0
    for place in _locate_sources(file_name, name, path):
        with open_other(place, f"{name}: is a virtual dataset over {file_name}", others) as file:
            cost = max(cost, _trace_named(file, dataset_name, name, place, others, seen))
    return cost


def _trace_named(
    file: h5py.File,
    dataset_name: str,
    name: str,
    path: str,
    others: OtherFiles,
    seen: frozenset[tuple[str, str]],
) -> int:
    """The files behind the dataset that is named in an open file, or those with block numbers."""
    cost = 0
    for one in _expand(file, dataset_name):
        source, place = _find_source(file, one, name, path, others)
        cost = max(cost, trace_sources(source, place, others, seen))
    return cost


def _expand(file: h5py.File, dataset_name: str) -> Sequence[str]:
    """The datasets that a name with the number of a block stands for; else the name alone."""
    group, _, leaf = dataset_name.rpartition("/")
    if not re.search(NUMBER, leaf):
        return [dataset_name]
    parent = file.get(group or "/")
    names = parent if isinstance(parent, h5py.Group) else ()
    return [f"{group}/{found}" for found in _match(leaf, names)]


def _match(pattern: str, names: Iterator[str] | Sequence[str] | h5py.Group) -> list[str]:
    """The names that differ from the pattern by the number alone."""
    parts = [re.escape(part.replace("%%", "%")) for part in re.split(NUMBER, pattern)]
    fits = re.compile(r"\d+".join(parts))
    return sorted(name for name in names if fits.fullmatch(name))


def _locate_sources(file_name: str, name: str, path: str) -> list[str]:
    """The files that a source's name stands for: one, or all with a block's number in the name."""
    if not re.search(NUMBER, file_name):
        place = locate(file_name.replace("%%", "%"), path, SOURCE_FOLDERS)
        if place is None:
            raise _missing(file_name, name)
        return [place]
    for place in candidates(file_name, path, SOURCE_FOLDERS):
        folder, leaf = os.path.split(place)
        found = _match(leaf, os.listdir(folder or ".")) if os.path.isdir(folder or ".") else []
        if found:
            return [os.path.join(folder, one) for one in found]
    return []  # no block is there yet


def decoded_row_bytes(dataset: h5py.Dataset) -> int:
    """Bytes that pass through filters where one row is read: the chunks that lie across it."""
    if not dataset.chunks or not dataset.shape:
        return 0
    across = (
        -(-side // chunk) for side, chunk in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)
    )
    return int(math.prod(across) * math.prod(dataset.chunks) * dataset.dtype.itemsize)


def leads_outside(dataset: h5py.Dataset, path: str) -> bool:
    """Whether it is a virtual dataset that ``trace_sources`` refuses."""
    if not dataset.is_virtual:
        return False
    try:
        trace_sources(dataset, path, {})
    except InputError:
        return True
    return False


def _trace_external_storage(
    dataset: h5py.Dataset, name: str, path: str, others: OtherFiles
) -> None:
    plist = dataset.id.get_create_plist()
    names = [plist.get_external(number)[0] for number in range(plist.get_external_count())]
    for stored in names:
        said = f"{name}: its values are stored in {foreign(stored)}"
        if not external_is_allowed():
            raise InputError(f"{said}, outside the file", ALLOW_HINT)
        # Not beside the file: HDF5 takes these names from the current folder.
        prefix = os.environ.get(RAW_FOLDER, "").replace(ORIGIN, os.path.dirname(path) or ".")
        place = os.path.join(prefix, os.fsdecode(stored))
        if not os.path.lexists(place):
            raise InputError(f"{said}, which is missing", "it is looked for from this folder")
        note_file(place, said, others)


def _find_source(
    file: h5py.File, dataset_name: str, name: str, path: str, others: OtherFiles
) -> tuple[h5py.Dataset, str]:
    try:
        source, place = find_object(file, dataset_name, path, others)
    except KeyError:
        source = None
    if not isinstance(source, h5py.Dataset):
        raise InputError(f"{name}: its virtual source {dataset_name!r} is missing in {path}")
    return source, place


def _trace_own_part(
    file_name: str, dataset_name: str, name: str, path: str, others: OtherFiles
) -> int:
    """A part of a result that roicli wrote. Raises InputError for every other file."""
    folder, given = os.path.split(os.path.abspath(path))
    where, leaf = os.path.split(file_name)
    part = os.path.join(os.path.realpath(folder), where, leaf)
    is_own = where == given + PARTS_ENDING and leaf not in ("", ".", "..") and path != "-"
    if not is_own or os.path.realpath(os.path.join(folder, file_name)) != part:
        raise InputError(
            f"{name}: is a virtual dataset over {file_name}, outside the file", ALLOW_HINT
        )
    beside = os.path.join(os.path.dirname(path), file_name)
    if not os.path.isfile(beside):
        raise _missing(file_name, name)
    with open_other(beside, f"{name}: is a virtual dataset over {file_name}", others) as file:
        source, _ = _find_source(file, dataset_name, name, part, others)
        if source.is_virtual:
            raise InputError(
                f"{name}: its part {file_name} is a virtual dataset itself", ALLOW_HINT
            )
        _trace_external_storage(source, f"{part}::{name_of(source)}", part, others)
        return decoded_row_bytes(source)


def _missing(file_name: str, name: str) -> InputError:
    return InputError(
        f"{name}: its virtual source {file_name} is missing",
        "keep it where it was when the dataset was made, relative to this file",
    )


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
