"""What tells one state of an input file from another: its size and times, or its contents."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from roicli.core.exceptions import InputError
from roicli.storage.address import is_url


class FileState(NamedTuple):
    """Size in bytes and modification time in nanoseconds; of a folder, all sizes and the latest."""

    size: int
    mtime_ns: int


def read_state(path: str) -> FileState:
    """The state of a file or a Zarr store's folder now; a URL is not watched. Raises InputError.

    Of a link in a folder the state is its own: a file that it leads to has one beside it.
    """
    return FileState(0, 0) if is_url(path) else read_state_and_links(path)[0]


def read_state_and_links(path: str) -> tuple[FileState, list[str]]:
    """As ``read_state``, of no URL, with every symbolic link below a folder; none is followed."""
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return FileState(status.st_size, status.st_mtime_ns), []
        entries = _list_entries(path)
        files = [entry.stat(follow_symlinks=False) for entry in entries]
        newest = max((file.st_mtime_ns for file in files), default=status.st_mtime_ns)
        links = [entry.path for entry in entries if entry.is_symlink()]
        return FileState(sum(file.st_size for file in files), newest), links
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {reason}") from error


def list_files(folder: str) -> list[str]:
    """Every file below a folder, sorted."""
    return sorted(entry.path for entry in _list_entries(folder) if not entry.is_dir())


def _list_entries(folder: str) -> list[os.DirEntry[str]]:
    """Everything below a folder but its own folders; no link is followed."""
    found: list[os.DirEntry[str]] = []
    waiting = [folder]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:  # which tells what each is without asking for its state
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    found.append(entry)
    return found


def check_unchanged(files: Mapping[str, FileState]) -> None:
    """Raise InputError where a file is no longer what it was when it was opened."""
    for path, before in files.items():
        _check_one(path, before)


def _check_one(path: str, before: FileState) -> None:
    now = read_state(path)
    if now == before:
        return
    what = "its time is another"
    if now.size != before.size:
        what = f"it had {before.size:,} bytes and has {now.size:,}"
    raise InputError(
        f"{path}: was changed while it was read: {what}", "run again when nothing writes to it"
    )


def hash_file(path: str) -> str:
    """SHA-256 of the contents, as hexadecimal digits; of a folder, over names and contents.

    Raises InputError.
    """
    import hashlib  # OpenSSL takes longer to load than a small run's maps to read

    if is_url(path):
        raise InputError(f"{path}: --verify-inputs reads files, not URLs", "drop --verify-inputs")
    if os.path.isdir(path):
        listed = (f"{os.path.relpath(name, path)} {hash_file(name)}" for name in list_files(path))
        return hashlib.sha256("\n".join(listed).encode()).hexdigest()
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
