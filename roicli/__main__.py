"""The program: signals are taken care of before anything that takes time is imported."""

from __future__ import annotations

import sys

from roicli.cli.console import print_line
from roicli.cli.garbage import importing, leave_memory_to_system
from roicli.cli.signals import INTERRUPTED, ignore_signals, install_signal_handlers
from roicli.core.exceptions import RoicliError


def main() -> None:
    """The console script, and ``python -m roicli``."""
    if sys.platform == "win32":
        # Results are locked, and renamed while they are open, which Windows does in other ways.
        print_line("error", "Windows: roicli has not been run there yet; use it in WSL")
        sys.exit(RoicliError.exit_code)
    install_signal_handlers()
    try:
        with importing():
            from roicli.cli.app import main as run_app

        run_app()
    except KeyboardInterrupt:
        print_line("error", "interrupted")
        sys.exit(INTERRUPTED)
    finally:
        ignore_signals()
        leave_memory_to_system()


if __name__ == "__main__":
    main()
