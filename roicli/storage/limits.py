"""What a call may take and where it may go: memory, and files that other files lead to.

HDF5 opens other files by itself when a file tells it to, any that the user may read. The permission
is a context variable: it holds for one call and what that call opens, in its own thread or task, so
that it is not a parameter of everything between a command and the opening of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from roicli.core.exceptions import InputError
from roicli.core.system import available_bytes

ALLOW_HINT = "add --allow-external (in Python allow_external=True) if that file may be read"

_allowed = ContextVar("allow_external", default=False)

# So little need not be looked for, which takes longer than to open a small array.
ALWAYS_FREE = 1 << 16


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


def check_memory(name: str, what: str, needed: int) -> None:
    """Raise InputError where ``needed`` bytes are more than the memory that is free."""
    if needed <= ALWAYS_FREE:
        return
    available = available_bytes()
    if needed > available:
        raise InputError(f"{name}: {needed:,} bytes for {what}, {available:,} are free")
