"""What a caller may watch of a run: how far it is, and how long its stages were busy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Told (RoIs done, RoIs in all, bytes).
Progress = Callable[[int, int, int], None]


def no_progress(done: int, total: int, size: int) -> None:
    """Nobody watches."""


@dataclass
class StageTimes:
    """Seconds that each stage was busy; stages overlap, so their sum may pass the run's time."""

    read: float = 0.0
    run: float = 0.0
    write: float = 0.0

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time inside the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - start)
