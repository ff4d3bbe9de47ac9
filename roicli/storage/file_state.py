"""What tells one state of an input file from another: its size and times, or its contents."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from roicli.exceptions import InputError


@dataclass(frozen=True)
class FileState:
    """Size in bytes and modification time in nanoseconds."""

    size: int
    mtime_ns: int


def read_state(path: str) -> FileState:
    """The state of a file now. Raises InputError."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {reason}") from error
    return FileState(status.st_size, status.st_mtime_ns)


def check_unchanged(path: str, before: FileState) -> None:
    """Raise InputError where the file is no longer what it was."""
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
    """SHA-256 of the contents, as hexadecimal digits. Raises InputError."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
