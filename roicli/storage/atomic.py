"""Where a file may go, and the one way it gets there: never half, never over another run's.

A file in the making stands beside its final name and is held by one run at a time. The lock (flock)
ends with the process that holds it, however it ends. So what a killed run left is told from what
another run is writing, and is cleared by the next run to the same name.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from roicli.core.exceptions import OutputError
from roicli.core.system import (
    flush_data,
    flush_path,
    limit_of,
    make_file,
    open_to_write,
    rename_to_new,
    set_mode,
    signals_deferred,
    take_mode,
    try_lock,
)
from roicli.storage.address import is_url, parts_folder
from roicli.storage.formats import FORMATS

OUTPUT_FORMATS: Final = {ending: one.name for one in FORMATS for ending in one.written}

ENDING = ".roicli-part"
# Files that stand beside a part: the rows of a compressed result, and what a resumable run keeps.
COMPANIONS: Final = ("rows", "values", "journal", "new-journal")
# A file that will replace another can be read by its owner alone, until it takes the other's mode.
PRIVATE_MODE, USUAL_MODE = 0o600, 0o666


def is_same_file(one: str, other: str) -> bool:
    """Whether two names, of files that may not exist yet, are one place: by spelling or by link."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def check_inputs_stay(path: str, taken: Iterable[str]) -> None:
    """Raise OutputError where writing ``path`` would replace one of the files ``taken``.

    A run writes ``path``, files beside it whose hidden names begin with its name, and its parts.
    """
    is_touched = _what_is_touched(path)
    for source in taken:
        if is_touched(source):
            raise OutputError(
                f"{path}: would overwrite {source}, which this run uses", "name another output"
            )


def _what_is_touched(path: str) -> Callable[[str], bool]:
    """Whether writing ``path`` would change a file: the same place, one in it, or around it."""
    folder, name = os.path.split(path.rstrip("/"))
    there, is_there = os.path.join(os.path.realpath(folder), name), os.path.exists(path)
    own = (
        f"{there}{os.sep}",
        f"{parts_folder(there)}{os.sep}",
        os.path.join(os.path.dirname(there), f".{name}."),
    )
    real_folder = cache(os.path.realpath)

    def is_touched(source: str) -> bool:
        if is_url(source) or is_url(path):
            one, other = (f"{name.rstrip('/')}/" for name in (source, path))
            return one.startswith(other) or other.startswith(one)
        if is_there and is_same_file(source, path):
            return True
        # There may be very many files, and few folders.
        folder, name = os.path.split(source)
        is_own = name not in ("", ".", "..") and not os.path.islink(source)
        here = os.path.join(real_folder(folder), name) if is_own else os.path.realpath(source)
        return here == there or here.startswith(own) or there.startswith(f"{here}{os.sep}")

    return is_touched


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


CLOSED = -1  # in place of a file descriptor


class PartFile:
    """The file in the making, ``.NAME.roicli-part`` beside the result ``target``; it is locked
    until it is closed.

    Raises OutputError where another run holds it. On a file system without locks every run has a
    part with a name of its own.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        folder, name = os.path.split(target)
        self.path = os.path.join(folder, f".{name}{ENDING}")
        self._mode = PRIVATE_MODE if os.path.exists(target) else USUAL_MODE
        self._is_locked = True
        self._descriptor = CLOSED
        # A signal may come before the block that the part is for has begun.
        _held.add(self)
        try:
            with signals_deferred():
                self._claim()
        except BaseException:
            self.__exit__()
            raise

    def _claim(self) -> None:
        """Open and lock the part: a new file, or one of an earlier run that is continued."""
        while True:
            self._descriptor, is_new = _open(self.path, self._mode)
            try:
                is_mine = try_lock(self._descriptor)
            except OSError:
                self._close()
                self._claim_unlocked()
                return
            if not is_mine:
                self._close()
                raise OutputError(
                    f"{self.target}: another run is writing it",
                    "wait for that run, or name another file",
                )
            # Whoever held it may have renamed or removed it between the two calls.
            if _is_named(self._descriptor, self.path):
                if is_new:
                    self.forget()  # companions of an earlier part, which is gone
                    return
                if self._may_go_on_with(self._descriptor):
                    return
                os.unlink(self.path)
            self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, CLOSED
        if descriptor != CLOSED:
            os.close(descriptor)

    def _may_go_on_with(self, descriptor: int) -> bool:
        """Whether the part of an earlier run can be continued, and is safe to write into."""
        return os.path.exists(self.companion("journal")) and _is_alone(descriptor, self._mode)

    def _claim_unlocked(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(self.path) == 0:
                os.unlink(self.path)
        folder, name = os.path.split(self.target)
        self.path = os.path.join(folder, f".{name}.{os.urandom(4).hex()}{ENDING}")
        self._is_locked = False
        self._descriptor, _ = _open(self.path, self._mode)

    def companion(self, kind: str) -> str:
        """The name of a file that stands beside the part."""
        assert kind in COMPANIONS
        return f"{self.path}.{kind}"

    def open_companion(self, kind: str) -> int:
        """A descriptor to read and write the companion; it is made where there is none."""
        path = self.companion(kind)
        while True:
            descriptor, is_new = _open(path, self._mode)
            if is_new or _is_alone(descriptor, self._mode):
                return descriptor
            os.close(descriptor)
            os.unlink(path)

    def clear(self) -> None:
        """Empty the part and remove its companions, whatever an earlier run left in them."""
        os.truncate(self._descriptor, 0)
        self.forget()

    def flush(self) -> None:
        """Write what the system still holds of the part to the disk."""
        flush_data(self._descriptor)

    def check_name(self, force: bool) -> None:
        """Raise OutputError where the final name is taken, which it was not when the run began."""
        if not force and os.path.lexists(self.target):
            raise self._name_taken()

    def publish(self, force: bool) -> None:
        """Flush the part and rename it to its final name; both are on the disk when this returns.

        A file that is replaced passes its mode on. Raises OutputError where, without ``force``, a
        file of that name appeared meanwhile.
        """
        self.flush()
        if force:
            take_mode(self._descriptor, self.target)
            os.replace(self.path, self.target)
        else:
            try:
                rename_to_new(self.path, self.target)
            except FileExistsError:
                raise self._name_taken() from None
        flush_path(os.path.dirname(self.target) or ".")
        if any(os.path.lexists(self.companion(kind)) for kind in COMPANIONS):
            self._clear_what_stayed()

    def _name_taken(self) -> OutputError:
        return OutputError(
            f"{self.target}: another run wrote it meanwhile", "add --force to replace it"
        )

    def _clear_what_stayed(self) -> None:
        """Remove the companions, which nobody needs once the part has its final name.

        Another run may have begun meanwhile and own them now; claiming the part shows that.
        """
        if not self._is_locked:
            self.forget()
            return
        self._close()
        with contextlib.suppress(OutputError):
            self._claim()

    def forget(self) -> None:
        """Remove the companions, so that no later run continues this one."""
        for kind in COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.companion(kind))

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the part, and remove it unless it has a journal, with which a run can continue."""
        if self._descriptor != CLOSED:
            is_mine = _is_named(self._descriptor, self.path)
            if is_mine and not os.path.exists(self.companion("journal")):
                self.forget()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path)
            self._close()
        _held.discard(self)


_held: set[PartFile] = set()


@atexit.register
def _let_go() -> None:
    """Clean up the parts whose block did not end because a signal ended the program."""
    for part in list(_held):
        part.__exit__()


def _open(path: str, mode: int) -> tuple[int, bool]:
    """A descriptor to read and write, and whether the file was made now."""
    try:
        return make_file(path, mode), True
    except FileExistsError:
        return open_to_write(path), False


def _is_alone(descriptor: int, mode: int) -> bool:
    """Whether the file is a regular one with no other name; sets its mode where that is private.

    Under another name somebody would see what is written: the file may be a published result whose
    run was killed before it removed the part's name, or a copy made of hard links.
    """
    status = os.stat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        return False
    if mode == PRIVATE_MODE:
        set_mode(descriptor, mode)
    return True


def _is_named(descriptor: int, path: str) -> bool:
    """Whether the name still leads to the open file."""
    try:
        return os.path.samestat(os.stat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


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
    """As ``open_draft``, but gives the temporary name, and raises OutputError for any OSError."""
    with open_draft(path, force) as draft, as_output_errors(path):
        yield draft.path


@contextlib.contextmanager
def as_output_errors(path: str) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
