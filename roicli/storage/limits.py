"""How much memory there is, and refusing what would not fit before anything is taken."""

from __future__ import annotations

import os

from roicli.exceptions import InputError


def available_bytes() -> int:
    """Memory that can be taken without swapping (Linux: MemAvailable; elsewhere all of it)."""
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            for line in stream:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(name: str, what: str, needed: int) -> None:
    """Raise InputError where ``needed`` bytes are more than the memory that is free."""
    available = available_bytes()
    if needed > available:
        raise InputError(f"{name}: {needed:,} bytes for {what}, {available:,} are free")
