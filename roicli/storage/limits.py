"""How much memory there is, and refusing what would not fit before anything is taken."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from roicli.core.exceptions import InputError


def available_bytes() -> int:
    """Memory that can be taken without swapping: the machine's, or the container's if that is less.

    Linux: MemAvailable and the control groups' limits; elsewhere all memory.
    """
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError), open("/proc/meminfo", encoding="ascii") as stream:
        for line in stream:
            if line.startswith("MemAvailable:"):
                found = int(line.split()[1]) * 1024
    return min([found, *(_group_room(folder, names) for folder, names in _memory_groups())])


# Limit and use of a control group, version 2 and 1.
GROUP_FILES = {"": ("memory.max", "memory.current"),
               "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}  # fmt: skip
GROUPS = "/sys/fs/cgroup"


def _memory_groups() -> Iterator[tuple[str, tuple[str, str]]]:
    """The folders of this process's memory groups, from its own up to the root."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as stream:
            lines = [line.rstrip("\n").split(":", 2) for line in stream]
    except OSError:
        return
    for _, controllers, path in lines:
        controller = "memory" if "memory" in controllers.split(",") else controllers
        if controller not in GROUP_FILES:
            continue
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):
            yield os.path.join(GROUPS, controller, *parts[:depth]), GROUP_FILES[controller]


def _group_room(folder: str, names: tuple[str, str]) -> int:
    """What a group may still take; what cannot be read sets no limit."""
    try:
        limit, used = (_read_first_line(os.path.join(folder, name)) for name in names)
        cached = 0
        with open(os.path.join(folder, "memory.stat"), encoding="ascii") as stream:
            for line in stream:
                # Pages of files count as used, and go when memory is wanted.
                if line.startswith("inactive_file "):
                    cached = int(line.split()[1])
        return max(int(limit) - int(used) + cached, 0)
    except (OSError, ValueError):
        return sys.maxsize


def _read_first_line(path: str) -> str:
    with open(path, encoding="ascii") as stream:
        return stream.readline().strip()


def check_memory(name: str, what: str, needed: int) -> None:
    """Raise InputError where ``needed`` bytes are more than the memory that is free."""
    available = available_bytes()
    if needed > available:
        raise InputError(f"{name}: {needed:,} bytes for {what}, {available:,} are free")
