"""Processes that die at every step that others can see, as by SIGKILL: nothing cleans up."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

from roicli.core import system

STEPS = ("rename", "replace", "link", "unlink", "mkdir", "rmdir")


def die_at_every_step(action: Callable[[], object], each: int = 1) -> Iterator[int]:
    """Run ``action`` in children, each of which dies just before its next step; gives the number of
    the step after each death. The last child lives and must succeed.

    With ``each`` 3 they die at every third step.
    """
    step = 0
    while True:
        child = os.fork()
        if child == 0:
            _live(action, step)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield step
        step += each


def _live(action: Callable[[], object], last: int) -> None:
    """In the child."""
    taken = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal taken
            if taken == last:
                os.kill(os.getpid(), signal.SIGKILL)
            taken += 1
            return real(*arguments, **options)

        return call

    code = 1
    try:
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        call = system._load_renameat2()
        system._load_renameat2 = lambda: call and counted(call)
        action()
        code = 0
    finally:
        os._exit(code)
