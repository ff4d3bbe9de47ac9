"""A result in the making: one file beside its final name, held by one run at a time.

The lock (flock) ends with the process that holds it, however it ends. So what a killed run left is
told from what another run is writing, and is cleared by the next run to the same name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import Final

from roicli.core.exceptions import OutputError

ENDING = ".roicli-part"
# Files that stand beside a part: the rows of a compressed result, and what a resumable run keeps.
COMPANIONS: Final = ("rows", "values", "journal", "new-journal")
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class PartFile:
    """``.NAME.roicli-part`` for the result ``target``, locked until it is closed.

    Raises OutputError where another run holds it. A file system without locks gets a name of its
    own for every run.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        folder, name = os.path.split(target)
        self.path = os.path.join(folder, f".{name}{ENDING}")
        self._descriptor = self._claim()

    def _claim(self) -> int:
        while True:
            descriptor = _open(self.path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever held it may have renamed or removed it between the two calls.
                if _is_named(descriptor, self.path):
                    return descriptor
                os.close(descriptor)
            except OSError as error:
                os.close(descriptor)
                if error.errno in HELD:
                    raise OutputError(
                        f"{self.target}: another run is writing it",
                        "wait for that run, or name another file",
                    ) from None
                return self._claim_unlocked()

    def _claim_unlocked(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(self.path) == 0:
                os.unlink(self.path)
        folder, name = os.path.split(self.target)
        self.path = os.path.join(folder, f".{name}.{os.urandom(4).hex()}{ENDING}")
        return _open(self.path)

    def companion(self, kind: str) -> str:
        """The name of a file that stands beside the part."""
        assert kind in COMPANIONS
        return f"{self.path}.{kind}"

    def clear(self) -> None:
        """Begin with an empty part, whatever an earlier run left."""
        os.ftruncate(self._descriptor, 0)
        self.forget()

    def publish(self, force: bool) -> None:
        """Bring the part to the disk and give it its final name.

        Without ``force`` a file that appeared meanwhile is not replaced: OutputError.
        """
        _flush_to_disk(self.path)
        _move(self.path, self.target, force)
        _flush_to_disk(os.path.dirname(self.target) or ".")
        self.forget()

    def forget(self) -> None:
        """Remove what stands beside the part, so that nothing is kept."""
        for kind in COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.companion(kind))

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go. What has a journal stays for a run that goes on with it."""
        if not os.path.exists(self.companion("journal")):
            self.forget()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        os.close(self._descriptor)


def _open(path: str) -> int:
    # A link that somebody put there is not followed.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)


def _is_named(descriptor: int, path: str) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _move(part: str, target: str, force: bool) -> None:
    """Rename; without ``force`` a file that appeared meanwhile is not replaced."""
    if force:
        os.replace(part, target)
        return
    try:
        os.link(part, target)
    except FileExistsError:
        raise OutputError(
            f"{target}: another run wrote it meanwhile", "add --force to replace it"
        ) from None
    except OSError:
        # A file system without hard links: the check was made when the run started.
        os.replace(part, target)


def _flush_to_disk(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
