"""Refusing what would not fit in memory before anything is taken."""

from __future__ import annotations

from roicli.core.exceptions import InputError
from roicli.core.system import available_bytes


def check_memory(name: str, what: str, needed: int) -> None:
    """Raise InputError where ``needed`` bytes are more than the memory that is free."""
    available = available_bytes()
    if needed > available:
        raise InputError(f"{name}: {needed:,} bytes for {what}, {available:,} are free")
