"""Whether files may lead to other files: said once per call, asked where a file is opened.

HDF5 opens other files by itself when a file tells it to, any that the user may read. The permission
is a context variable: it holds for one call and what that call opens, in its own thread or task, so
that it is not a parameter of everything between a command and the opening of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ALLOW_HINT = "add --allow-external (in Python allow_external=True) if that file may be read"

_allowed = ContextVar("allow_external", default=False)


@contextmanager
def external_files(allowed: object) -> Iterator[None]:
    """Inside the block external links, external storage and virtual sources are followed or not."""
    token = _allowed.set(bool(allowed))
    try:
        yield
    finally:
        _allowed.reset(token)


def external_is_allowed() -> bool:
    """What the innermost ``external_files`` block said; False without one."""
    return _allowed.get()
