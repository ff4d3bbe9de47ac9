"""A rich console for a stream that may be a pipe."""

from __future__ import annotations

from rich.console import Console


class PipeConsole(Console):
    """A console that leaves a closed pipe to whoever opened it; rich's own would exit with 1."""

    def on_broken_pipe(self) -> None:
        """Called while a BrokenPipeError is handled: let it go on."""
        raise  # noqa: PLE0704 - it is active
