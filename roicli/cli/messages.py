"""The library's log as lines on stderr: what a command says beside its result."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from roicli.cli.console import print_line


class Messages(logging.Handler):
    """Prints ``roicli: note: ...`` and ``roicli: warning: ...``, or holds them back for a while.

    ``hold`` says what a command wants to tell; what it was then told waits for ``tell``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logger = logging.getLogger("roicli")
        self._held: list[logging.LogRecord] = []
        self._told: set[str] = set()
        self._holds = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record, or keep it; what was told already, as by runs that repeat, is not."""
        said = record.getMessage()
        if self._holds:
            self._held.append(record)
        elif said not in self._told:
            self._told.add(said)
            print_line("warning" if record.levelno >= logging.WARNING else "note", said)

    def hold(self, quiet: bool, verbose: bool = False) -> None:
        """From now on lines wait; ``quiet`` keeps warnings alone, ``verbose`` adds details."""
        level = logging.DEBUG if verbose else logging.INFO
        self._logger.setLevel(logging.WARNING if quiet else level)
        self._holds = True

    def tell(self) -> None:
        """Print what waits, and from now on at once."""
        self._holds = False
        held, self._held = self._held, []
        for record in held:
            self.emit(record)

    def drop(self) -> None:
        """Forget what waits: what is refused gets its one line and no other."""
        self._holds = False
        self._held.clear()
        self._told.clear()


MESSAGES = Messages()


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """While a command runs, the library's log goes to stderr; afterwards it is as it was."""
    logger = logging.getLogger("roicli")
    level = logger.level
    logger.addHandler(MESSAGES)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        MESSAGES.drop()
        logger.removeHandler(MESSAGES)
        logger.setLevel(level)
