"""The library's log: lines on stderr under a command, Python's own last resort elsewhere."""

import logging
import subprocess
import sys
from collections.abc import Callable

import pytest

import roicli
from roicli.cli.command import ProgressBar
from roicli.cli.messages import messages_on_stderr
from roicli.core.exceptions import InputError
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, ROIS, SCALE, succeed

LOGGER = logging.getLogger("roicli")


def tell_all() -> None:
    """One line of each kind."""
    LOGGER.debug("a detail")
    LOGGER.info("a 50% note")
    LOGGER.warning("a trap")


@pytest.mark.parametrize(
    ("quiet", "verbose", "lines"),
    [
        (False, False, ["note: a 50% note", "warning: a trap"]),
        (False, True, ["note: a detail", "note: a 50% note", "warning: a trap"]),
        (True, False, ["warning: a trap"]),
        (True, True, ["warning: a trap"]),
    ],
)
def test_each_kind_has_its_word_and_quiet_keeps_warnings(
    quiet: bool, verbose: bool, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Held back until the block ends, and in the order in which they were told."""
    with messages_on_stderr(), ProgressBar(quiet, verbose):
        tell_all()
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err.splitlines() == [f"roicli: {line}" for line in lines]


def test_what_runs_repeat_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with messages_on_stderr(), ProgressBar(quiet=False) as progress:
            tell_all()
            tell_all()
            progress(0, 1, 0)
            tell_all()
        lines = ["roicli: note: a 50% note", "roicli: warning: a trap"]
        assert capsys.readouterr().err.splitlines() == lines


def test_what_is_refused_has_no_other_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning, too, is about a run that does not happen."""

    def refuse() -> None:
        tell_all()
        raise InputError("bad")

    with messages_on_stderr(), pytest.raises(InputError), ProgressBar(quiet=False):
        refuse()
    assert capsys.readouterr().err == ""


def test_a_running_command_tells_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """From the first progress on nothing can be refused any more."""
    with messages_on_stderr(), ProgressBar(quiet=False) as progress:
        LOGGER.info("before")
        progress(0, 1, 0)
        assert capsys.readouterr().err == "roicli: note: before\n"
        LOGGER.info("meanwhile")
        assert capsys.readouterr().err == "roicli: note: meanwhile\n"


def test_the_log_is_as_it_was_after_a_command() -> None:
    """No handler and no level stays behind for the program around it."""
    before = list(LOGGER.handlers), LOGGER.level
    with messages_on_stderr(), ProgressBar(quiet=True):
        assert (list(LOGGER.handlers), LOGGER.level) != before
    assert (list(LOGGER.handlers), LOGGER.level) == before


def test_in_python_warnings_reach_the_user_and_notes_do_not() -> None:
    """Without a handler of the program's own: they are Python's warnings, of the program's line."""
    code = "import logging, roicli.api; log = logging.getLogger('roicli'); "
    code += "log.info('a note'); log.warning('a trap')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told, *source = run.stderr.splitlines()
    assert told == "<string>:1: RoicliWarning: a trap"
    assert all(code in line for line in source)  # which Python 3.13 shows


@pytest.mark.parametrize("option", ["note", "detail"])
@pytest.mark.parametrize(
    "call",
    [
        roicli.align,
        roicli.errors,
        roicli.check,
        roicli.sweep,
        lambda maps, rois, **given: roicli.diagnose(maps, rois, maps, **given),
        lambda maps, rois, **given: roicli.explain(maps, rois, roi=0, **given),
        lambda maps, rois, **given: roicli.draw(maps, rois, roi=0, **given),
        lambda maps, rois, **given: roicli.report(maps, rois, "x.html", **given),
        lambda maps, rois, **given: roicli.export("align", "x.onnx", **given),
    ],
)
def test_the_callbacks_that_there_were_are_unknown(
    inputs: Arrays, call: Callable[..., object], option: str
) -> None:
    """Nobody's notes are lost silently."""
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
        call(*inputs, **{option: print})


def test_after_a_long_run_one_line_says_what_is_faster(
    inputs: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    arguments = ("align", FEATURES, ROIS, *SCALE, "-o", "x.npy", "--force")
    assert "native" not in succeed(*arguments).err
    monkeypatch.setattr("roicli.cli.commands.operators.LONG_SECONDS", 0)
    (line,) = succeed(*arguments).errors
    assert line.startswith("roicli: note: wrote x.npy ")
    assert "--provider native, which is installed, gives the same bits" in line
    for told in (("--provider", "cpu"), ("--provider", "native"), ("-q",)):
        assert "native," not in succeed(*arguments, *told).err
