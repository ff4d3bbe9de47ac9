"""Addresses of stored arrays: ``file.npy``, ``file.h5::/path/to/dataset``, ``-``, URLs of Zarr.

``scheme://`` is a URL, which is a Zarr store; ``file://`` is another spelling of a local path.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from roicli.core.exceptions import InputError
from roicli.core.foreign import ForeignText, foreign, raw_text
from roicli.core.record import frozen
from roicli.core.system import is_pipe

STDIN = "-"
SEPARATOR = "::"
# Stands in an address for the key of an image (storage.pattern).
IMAGE = "{image}"
_CHAINED = r"(?i)zip://((?:(?!::).)*)::(file://.*|.*\.zip)"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"


def is_url(path: str) -> bool:
    """Whether ``path`` starts with ``scheme://``."""
    return "://" in path and re.match(_SCHEME, path) is not None


def names_a_store(path: str) -> bool:
    """Whether ``path`` names a Zarr store: a URL, or a name that ends in .zarr."""
    return is_url(path) or Path(path).suffix.lower() == ".zarr"


def as_local_path(path: str) -> str:
    """``file:///folder/x.zarr`` as ``/folder/x.zarr``; every other text as it is.

    So is a ZIP archive that ``zip://`` names, before or, as fsspec has it, behind ``::``.
    """
    if "://" not in path:
        return path
    chained = re.fullmatch(_CHAINED, path)
    if chained is not None:
        inside, archive = chained[1], as_local_path(chained[2])
        return f"{archive}{SEPARATOR}{inside}" if inside else archive
    return path.removeprefix("zip://").removeprefix("file://")


def path_from_root(path: str) -> str:
    """The path as every process sees it, wherever it stands; a URL is that already."""
    return path if is_url(path) else os.path.abspath(path)


def parts_folder(path: str) -> str:
    """Where the parts of a virtual result stand."""
    return f"{path}.parts"


@frozen
class Address:
    """A file, folder or URL and, in HDF5 and Zarr, a dataset or group inside it.

    ``path`` is ``-`` for stdin.
    """

    path: str
    dataset: str | None = None

    def __str__(self) -> str:
        shown = "stdin" if self.is_stdin else self.path
        return foreign(shown if self.dataset is None else f"{shown}{SEPARATOR}{self.dataset}")

    @property
    def is_stdin(self) -> bool:
        """Whether the bytes come from standard input."""
        return self.path == STDIN

    @property
    def is_stream(self) -> bool:
        """Whether the bytes come once: from standard input or a pipe."""
        return self.is_stdin or is_pipe(self.path)

    @property
    def stem(self) -> str:
        """The file's name without its ending; ``stdin`` for standard input.

        Of files that are many by ``{image}`` it is what stands before that in their path.
        """
        if self.is_stdin:
            return "stdin"
        before, image, _ = self.path.partition(IMAGE)
        return Path(before).name.rstrip("_-. ") or "images" if image else Path(self.path).stem

    def within(self, name: str) -> Address:
        """The dataset ``name`` inside this file or group."""
        base = (self.dataset or "").rstrip("/")
        return Address(self.path, f"{base}/{name}" if base else name)


def parse_address(text: str | os.PathLike[str]) -> Address:
    """``FILE[::DATASET]`` to an Address."""
    path, separator, dataset = as_local_path(raw_text(os.fspath(text))).partition(SEPARATOR)
    if not path:
        raise InputError(
            f"address {os.fspath(text)!r} names no file", "write FILE or FILE::DATASET"
        )
    if separator and not dataset.strip("/"):
        return Address(path)
    return Address(path, dataset or None)


def split_name(name: str) -> tuple[ForeignText, ForeignText]:
    """The file and the dataset, if any, of what ``str(address)`` gave."""
    path, _, dataset = raw_text(name).partition(SEPARATOR)
    return foreign(path), foreign(dataset)


def check_regular_file(path: str) -> None:
    """Raise InputError unless ``path`` is an existing, readable, non-empty file."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: is a folder, expected a file")
        if not stat.S_ISREG(status.st_mode):
            # Opening a named pipe would wait for a writer, and it could be read only once.
            raise InputError(f"{path}: is not a regular file", "give its bytes on stdin, as -")
        with open(path, "rb"):
            pass
    except (FileNotFoundError, NotADirectoryError):
        placeholder = re.search(r"[*?%{}]", path)
        hint = "one file an image is written {image} in its name" if placeholder else None
        raise InputError(f"{path}: no such file", hint) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {reason}") from error
    if status.st_size == 0:
        raise InputError(f"{path}: the file is empty")
