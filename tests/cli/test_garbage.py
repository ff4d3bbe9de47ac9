"""The search for garbage is off while modules are imported, on while a run goes on."""

import gc
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from roicli.cli.garbage import importing
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, ROIS, SCALE, run

NEW = "a_module_that_nobody_has_imported"


@pytest.fixture(autouse=True)
def as_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module to import, and everything as it was afterwards."""
    (folder / f"{NEW}.py").write_text("class Cycle:\n    pass\n")
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop(NEW, None)
    gc.unfreeze()
    gc.enable()


def test_no_search_while_importing_and_none_through_what_was_imported() -> None:
    frozen = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        import_module(NEW)
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen


def test_what_is_no_import_is_not_kept() -> None:
    """Many commands in one process must not pile up what each of them left."""
    frozen = gc.get_freeze_count()
    with importing():
        [].append([])
    assert gc.get_freeze_count() == frozen


def test_the_search_is_on_again_after_an_error() -> None:
    with pytest.raises(ModuleNotFoundError), importing():
        import_module("there_is_no_such_module")
    assert gc.isenabled()


def test_who_turned_the_search_off_keeps_it_off() -> None:
    gc.disable()
    with importing():
        import_module(NEW)
    assert not gc.isenabled()


def test_the_search_is_on_while_a_run_goes_on(
    inputs: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(*_: Any, **__: Any) -> None:
        seen.append(gc.isenabled())
        raise MemoryError("enough seen")

    monkeypatch.setattr("roicli.api.open_run", look)
    assert run("align", FEATURES, ROIS, *SCALE).code == 3
    assert seen == [True]


def test_the_end_leaves_out_no_handler_no_thread_and_no_stream() -> None:
    code = """
import atexit, sys, threading, time, weakref
class Held:
    pass
held = Held()
weakref.finalize(held, print, "finalized")
atexit.register(print, "handled")
threading.Thread(target=lambda: print("waited for", time.sleep(0.3))).start()
sys.argv = ["roicli", "--version"]
print("begun")
from roicli.__main__ import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, _, *last = ended.stdout.splitlines()
    assert (first, last) == ("begun", ["waited for None", "handled", "finalized"])
    assert ended.stderr == ""
