"""Where a result may go, and the one way it gets there: never half, never over another run's."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from roicli.core.exceptions import OutputError
from roicli.core.system import limit_of
from roicli.core.types import Array
from roicli.storage.address import is_url, parts_folder
from roicli.storage.part_file import PartFile

# Gives (start, stop) the rows of a table that goes beside the features.
RowSource = Callable[[int, int], Array]

OUTPUT_FORMATS = {".npy": "npy", ".h5": "hdf5", ".hdf5": "hdf5", ".zarr": "zarr"}


def is_same_file(one: str, other: str) -> bool:
    """Whether two names, of files that may not exist yet, are one place: by spelling or by link."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def check_inputs_stay(path: str, taken: Iterable[str]) -> None:
    """Raise OutputError where writing ``path`` would replace one of the files ``taken``.

    A run writes ``path``, files beside it whose hidden names begin with its name, and its parts.
    """
    for source in taken:
        if _is_touched(source, path):
            raise OutputError(
                f"{path}: would overwrite {source}, which this run uses", "name another output"
            )


def _is_touched(source: str, path: str) -> bool:
    """Whether an input is the output, lies in its folder, or is made of files among which it is."""
    if is_url(source) or is_url(path):
        here, there = (f"{name.rstrip('/')}/" for name in (source, path))
        return here.startswith(there) or there.startswith(here)
    if is_same_file(source, path):
        return True
    folder, name = os.path.split(path.rstrip("/"))
    here, there = os.path.realpath(source), os.path.join(os.path.realpath(folder), name)
    own = (
        f"{there}{os.sep}",
        f"{parts_folder(there)}{os.sep}",
        os.path.join(os.path.dirname(there), f".{name}."),
    )
    return here.startswith(own) or there.startswith(f"{here}{os.sep}")


def check_output(path: str, taken: Iterable[str], force: bool, endings: tuple[str, ...]) -> None:
    """Raise OutputError unless a result may be written to ``path``.

    ``taken`` are the files that it must not replace: the inputs, and another output.
    """
    target = Path(path)
    if target.suffix.lower() not in endings:
        raise OutputError(
            f"{path}: unknown ending {target.suffix!r}, expected one of: {' '.join(endings)}"
        )
    if target.is_dir():
        raise OutputError(f"{path}: is a folder, expected a file name")
    if not target.parent.is_dir():
        raise OutputError(f"{path}: the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the folder {target.parent} cannot be written to")
    check_inputs_stay(path, taken)
    if target.exists() and not target.is_file():
        raise OutputError(f"{path}: exists and is not a regular file")
    if os.path.lexists(path) and not force:
        raise OutputError(f"{path}: exists already", "add --force to replace it, or name another")


def check_room(name: str, folder: str, needed: int, held: int = 0) -> None:
    """Raise OutputError where the file ``name`` of ``needed`` bytes does not fit in ``folder``.

    ``held`` bytes are an earlier run's already. Some libraries die of a signal at the limit of the
    shell (``ulimit -f``), so it is looked at before anything is written.
    """
    check_disk(name, folder, needed, held)
    limit = limit_of("file size")
    if limit is not None and needed > limit:
        raise OutputError(
            f"{name}: needs {needed:,} bytes, a file may have {limit:,} here",
            "raise the limit with ulimit -f",
        )


def check_disk(name: str, folder: str, needed: int, held: int = 0) -> None:
    """Raise OutputError where ``needed`` bytes, ``held`` of them there already, do not fit."""
    free = shutil.disk_usage(folder or ".").free + held
    if needed > free:
        raise OutputError(f"{name}: needs {needed:,} bytes, the disk has {free:,} free")


class FileDraft:
    """A file that is written to a temporary name ``path`` in the folder of its own."""

    def __init__(self, part: PartFile, force: bool) -> None:
        self._part, self._force, self.path = part, force, part.path

    def check(self) -> None:
        """Bring what was written to the disk. Raises OutputError where it cannot have its name."""
        with as_output_errors(self._part.target):
            self._part.flush()
            self._part.check_name(self._force)


@contextlib.contextmanager
def open_draft(path: str, force: bool) -> Iterator[FileDraft]:
    """A file that gets the name ``path`` when the block ends well.

    On any error or interruption it is removed. File and folder are flushed to disk.
    """
    with as_output_errors(path):
        part = PartFile(path)
    with part:
        with as_output_errors(path):
            part.clear()
        yield FileDraft(part, force)
        with as_output_errors(path):
            part.publish(force)


@contextlib.contextmanager
def replace_atomically(path: str, force: bool) -> Iterator[str]:
    """Give the temporary name of an ``open_draft``; what the system says of it is OutputError."""
    with open_draft(path, force) as draft, as_output_errors(path):
        yield draft.path


@contextlib.contextmanager
def as_output_errors(path: str) -> Iterator[None]:
    """What the system says while ``path`` is written, as an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
