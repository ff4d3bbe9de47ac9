"""What the library warns of, as Python's warnings: notes stay lines of the log.

A command listens to the log and prints all of it; in a program nobody may, and what is wrong with a
number must not be lost there.
"""

from __future__ import annotations

import logging
import sys
import warnings

from roicli.core.exceptions import RoicliWarning


class WarningsOfTheLog(logging.Filter):
    """Has ``warnings`` tell what a logger warns of, unless somebody listens to that logger."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the log goes on with the record."""
        if record.levelno < logging.WARNING or self._logger.handlers:
            return True
        warnings.warn(record.getMessage(), RoicliWarning, stacklevel=_count_own_frames())
        return False


def warn_in_programs() -> None:
    """Have the package's warnings be Python's from now on."""
    logger = logging.getLogger("roicli")
    logger.addFilter(WarningsOfTheLog(logger))


def _count_own_frames() -> int:
    """How far up the stack the program's own line is: past the package and the log."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (
        "roicli", "logging", "contextlib",
    ):  # fmt: skip
        frame, level = frame.f_back, level + 1
    return level
