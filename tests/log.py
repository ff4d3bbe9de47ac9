"""What the library tells a person, heard in a test."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logged(level: int = logging.INFO) -> Iterator[list[str]]:
    """The lines that the library logs meanwhile, from ``level`` on."""
    logger, lines = logging.getLogger("roicli"), list[str]()
    before, handler = logger.level, logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
