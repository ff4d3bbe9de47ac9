"""How long the stages of a run were busy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass


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
