"""Bytes by name in a place that all machines of a run see: a folder on shared storage, or a URL."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from typing import Protocol

from roicli.core.system import flush_data


class SharedPlace(Protocol):
    """Where the parts of a run grow. ``path`` names it; keys are names, or names below a name.

    ``is_locked`` is whether nobody else can be writing there: what is there was left behind.
    """

    path: str
    is_locked: bool

    def read(self, key: str) -> bytes | None:
        """What the key holds; None where there is none."""

    def put(self, key: str, data: bytes) -> None:
        """Write a key, whole or not at all; it lasts when this returns."""

    def list_keys(self, prefix: str) -> set[str]:
        """The keys directly below ``prefix``, which is empty or ends in a slash, without it."""

    def remove(self, key: str) -> None:
        """Remove a key, where it is there."""

    def make(self) -> None:
        """Make the place, empty."""

    def remove_all(self, prefix: str = "") -> None:
        """Remove the place and everything in it, or what stands below a prefix."""


class Folder:
    """A folder of this machine or of storage that it shares, made with ``mode``."""

    is_locked = True

    def __init__(self, path: str, mode: int = 0o777) -> None:
        self.path, self._mode = path, mode

    def _at(self, key: str) -> str:
        return os.path.join(self.path, key)

    def read(self, key: str) -> bytes | None:
        """What the key holds; None where there is none."""
        with contextlib.suppress(FileNotFoundError), open(self._at(key), "rb") as stream:
            return stream.read()
        return None

    def put(self, key: str, data: bytes) -> None:
        """Write a key, whole or not at all; it is on the disk when this returns."""
        self._write(key, data, lasting=True)

    def _write(self, key: str, data: bytes | memoryview, lasting: bool) -> None:
        folder, name = os.path.split(self._at(key))
        if folder != self.path:
            # The place itself is not made again: who removed it does not wait for this.
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
        mine = os.path.join(folder, f".{os.urandom(6).hex()}.{name}")
        try:
            with open(mine, "wb") as stream:
                stream.write(data)
                if lasting:
                    stream.flush()
                    flush_data(stream.fileno())
            os.replace(mine, self._at(key))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(mine)
            raise

    def list_keys(self, prefix: str) -> set[str]:
        """The keys directly below ``prefix``, without it; what is hidden too."""
        with contextlib.suppress(FileNotFoundError):
            return set(os.listdir(self._at(prefix)))
        return set()

    def remove(self, key: str) -> None:
        """Remove a key, where it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._at(key))

    def make(self) -> None:
        """Make the folder, empty."""
        self.remove_all()
        os.mkdir(self.path, self._mode)

    def remove_all(self, prefix: str = "") -> None:
        """Remove the folder, or one in it. It is renamed first: nobody writes into half of it.

        What runs that were killed in between have left goes too.
        """
        path = self._at(prefix).rstrip("/")
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, f"{path}.{os.urandom(4).hex()}.gone")
        for away in glob.glob(f"{glob.escape(path)}.*.gone"):
            shutil.rmtree(away, ignore_errors=True)
