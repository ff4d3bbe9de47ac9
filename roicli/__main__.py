"""The program: signals are taken care of before anything that takes time is imported."""

from __future__ import annotations

import atexit
import gc
import os
import sys

from roicli.cli.console import prepare_streams, print_line
from roicli.cli.signals import INTERRUPTED, end_at_signals, install_signal_handlers
from roicli.core.exceptions import RoicliError


def run() -> None:
    """The console script, and ``python -m roicli``: ``main`` as all that the process does."""
    codes: list[int] = []
    atexit.register(_leave, codes)
    try:
        main()
    except SystemExit as left:
        codes += [left.code] if isinstance(left.code, int) else []
        raise


def _leave(codes: list[int]) -> None:
    """End the process with nothing taken apart, which is 3 % of a small run.

    What is registered first is called last: threads have ended, and libraries have done what they
    do at the end.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return  # Python says what is wrong with them
    for code in codes:
        os._exit(code)


def main() -> None:
    """One command, with the arguments of the process."""
    if sys.platform == "win32":
        # Results are locked, and renamed while they are open, which Windows does in other ways.
        print_line("error", "Windows: roicli has not been run there yet; use it in WSL")
        sys.exit(RoicliError.exit_code)
    # Modules and functions are full of cycles that stay: looking through them for garbage while
    # they are imported, and taking them apart at the end, is a quarter of a small run.
    gc.set_threshold(100_000)
    install_signal_handlers()
    prepare_streams()
    code = 1
    try:
        from roicli.cli.app import main as run_app

        run_app()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0
        raise
    except KeyboardInterrupt:
        print_line("error", "interrupted")
        code = INTERRUPTED
        sys.exit(code)
    finally:
        end_at_signals(code)
        gc.freeze()


if __name__ == "__main__":
    run()
