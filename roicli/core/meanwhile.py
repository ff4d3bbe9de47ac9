"""What is done while a child process works, which has a core of its own and is waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

_work: ContextVar[Callable[[], object] | None] = ContextVar("meanwhile", default=None)


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Have ``work`` done inside the block if a child is waited for there.

    It is something that is done later all the same, as an import is: what it raises is not heard.
    """
    token = _work.set(work)
    try:
        yield
    finally:
        _work.reset(token)


def use_the_wait() -> None:
    """Do the work that ``meanwhile`` has for this time, once."""
    work = _work.get()
    if work is not None:
        _work.set(None)
        with suppress(Exception):
            work()
