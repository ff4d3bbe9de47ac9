"""A result in the making: one file beside its final name, held by one run at a time.

The lock (flock) ends with the process that holds it, however it ends. So what a killed run left is
told from what another run is writing, and is cleared by the next run to the same name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import Final

from roicli.core.exceptions import OutputError
from roicli.storage.renaming import rename_to_new

ENDING = ".roicli-part"
# Files that stand beside a part: the rows of a compressed result, and what a resumable run keeps.
COMPANIONS: Final = ("rows", "values", "journal", "new-journal")
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
# What replaces a file is nobody else's to read before it has that file's mode.
PRIVATE_MODE, USUAL_MODE = 0o600, 0o666


class PartFile:
    """``.NAME.roicli-part`` for the result ``target``, locked until it is closed.

    Raises OutputError where another run holds it. A file system without locks gets a name of its
    own for every run.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        folder, name = os.path.split(target)
        self.path = os.path.join(folder, f".{name}{ENDING}")
        self._mode = PRIVATE_MODE if os.path.exists(target) else USUAL_MODE
        self._is_locked = True
        self._descriptor = self._claim()

    def _claim(self) -> int:
        """A descriptor of the part, locked: a new file, or one that is to be gone on with."""
        while True:
            descriptor, is_new = _open(self.path, self._mode)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if error.errno in HELD:
                    raise OutputError(
                        f"{self.target}: another run is writing it",
                        "wait for that run, or name another file",
                    ) from None
                return self._claim_unlocked()
            # Whoever held it may have renamed or removed it between the two calls.
            if _is_named(descriptor, self.path):
                if is_new:
                    self.forget()  # what stands there belonged to a part that is gone
                    return descriptor
                if self._may_go_on_with(descriptor):
                    return descriptor
                os.unlink(self.path)
            os.close(descriptor)

    def _may_go_on_with(self, descriptor: int) -> bool:
        """Whether a part that an earlier run left is of use, and may be written into."""
        return os.path.exists(self.companion("journal")) and _is_alone(descriptor, self._mode)

    def _claim_unlocked(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(self.path) == 0:
                os.unlink(self.path)
        folder, name = os.path.split(self.target)
        self.path = os.path.join(folder, f".{name}.{os.urandom(4).hex()}{ENDING}")
        self._is_locked = False
        return _open(self.path, self._mode)[0]

    def companion(self, kind: str) -> str:
        """The name of a file that stands beside the part."""
        assert kind in COMPANIONS
        return f"{self.path}.{kind}"

    def open_companion(self, kind: str) -> int:
        """A descriptor to read and write such a file, made where it is not there."""
        path = self.companion(kind)
        while True:
            descriptor, is_new = _open(path, self._mode)
            if is_new or _is_alone(descriptor, self._mode):
                return descriptor
            os.close(descriptor)
            os.unlink(path)

    def clear(self) -> None:
        """Begin with an empty part, whatever an earlier run left."""
        os.ftruncate(self._descriptor, 0)
        self.forget()

    def flush(self) -> None:
        """Bring the part to the disk."""
        os.fsync(self._descriptor)

    def check_name(self, force: bool) -> None:
        """Raise OutputError where the final name is taken, which it was not when the run began."""
        if not force and os.path.lexists(self.target):
            raise self._name_taken()

    def publish(self, force: bool) -> None:
        """Bring the part to the disk and give it its final name, which lasts when this returns.

        What it replaces passes its mode on. Without ``force`` a file that appeared meanwhile is not
        replaced: OutputError.
        """
        self.flush()
        if force:
            self._take_mode()
            os.replace(self.path, self.target)
        else:
            try:
                rename_to_new(self.path, self.target)
            except FileExistsError:
                raise self._name_taken() from None
        flush_folder(os.path.dirname(self.target))
        if any(os.path.lexists(self.companion(kind)) for kind in COMPANIONS):
            self._clear_what_stayed()

    def _name_taken(self) -> OutputError:
        return OutputError(
            f"{self.target}: another run wrote it meanwhile", "add --force to replace it"
        )

    def _take_mode(self) -> None:
        """The mode, and the group where that may be given, of the file that is to be replaced."""
        # Some file systems know neither.
        with contextlib.suppress(OSError):
            replaced = os.stat(self.target)
            if replaced.st_gid != os.fstat(self._descriptor).st_gid:
                with contextlib.suppress(OSError):
                    os.fchown(self._descriptor, -1, replaced.st_gid)
            os.fchmod(self._descriptor, stat.S_IMODE(replaced.st_mode) & 0o777)

    def _clear_what_stayed(self) -> None:
        """The part has its name, and what stands beside it is for nobody any more.

        Another run may have begun, whose companions these are now: claiming the part tells.
        """
        if not self._is_locked:
            self.forget()
            return
        with contextlib.suppress(OutputError):
            published, self._descriptor = self._descriptor, self._claim()
            os.close(published)

    def forget(self) -> None:
        """Remove what stands beside the part, so that nothing is kept."""
        for kind in COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.companion(kind))

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go. What has a journal stays for a run that goes on with it."""
        is_mine = _is_named(self._descriptor, self.path)
        if is_mine and not os.path.exists(self.companion("journal")):
            self.forget()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        os.close(self._descriptor)


def _open(path: str, mode: int) -> tuple[int, bool]:
    """A descriptor to read and write, and whether the file was made now.

    A symbolic link that somebody put there raises OSError; a pipe is not waited for.
    """
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode), True
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK), False


def _is_alone(descriptor: int, mode: int) -> bool:
    """Whether no other name leads to the file; one that is private is made so.

    Others would find what is written into it: a published result whose run was killed between
    giving it its name and taking the part's away, or somebody's copy by hard links.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        return False
    if mode == PRIVATE_MODE:
        with contextlib.suppress(OSError):  # a file system without modes
            os.fchmod(descriptor, mode)
    return True


def _is_named(descriptor: int, path: str) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def flush_folder(folder: str) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
