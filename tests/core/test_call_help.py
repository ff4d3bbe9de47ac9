"""What ``help`` and completion say of the package's calls, and how it warns in a program."""

import inspect
import logging
import subprocess
import sys
import warnings
from typing import get_args, get_type_hints

import numpy as np
import pytest

import roicli
from roicli.cli.app import COMMANDS
from roicli.core.declaration import Opt, declarations
from tests.log import logged

CALLS = [name for name in roicli.__all__ if callable(getattr(roicli, name)) and name.islower()]
WITH_OPTIONS = [name for name in CALLS if "options" in get_type_hints(getattr(roicli, name))]
MAPS = np.ones((1, 2, 8, 8), np.float32)
OUTSIDE = np.array([[0, 1, 1, 5, 5], [0, 900, 900, 990, 990]], np.float32)


def test_dir_is_what_is_offered():
    """In a fresh interpreter, after runs that import most of the package."""
    code = (
        "import roicli, numpy as np\n"
        "before = dir(roicli)\n"
        "roicli.errors(np.array([[0, 1, 1, 5, 5.]]), spatial_scale=1)\n"
        "assert before == dir(roicli) == sorted(roicli.__all__), dir(roicli)\n"
        "from roicli import *\n"
        "assert align and ops.roi_align\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"align", "errors", "report", "presets", "providers", "ops"} < set(dir(roicli))
    assert not {"api", "core", "cli", "import_module", "annotations"} & set(dir(roicli))


def test_every_command_has_its_name_in_python():
    lacking = {name for name in COMMANDS if name.replace("-", "_") not in CALLS}
    # What is about the tool itself.
    assert lacking <= {"config", "help", "sample", "native"}


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_help_lists_every_option_with_its_meaning(name):
    call = getattr(roicli, name)
    (options,) = get_args(get_type_hints(call)["options"])
    text = " ".join(inspect.getdoc(call).split())
    signature = inspect.signature(call)
    for option, declaration in declarations(options).items():
        parameter = signature.parameters[option]
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert declaration.opt.help
        words = declaration.opt.help.split("--")[0].split()
        assert " ".join(words) in text, option
        if isinstance(declaration.opt, Opt) and not declaration.is_required:
            assert parameter.default == declaration.opt.default
    assert "--" not in text


def test_a_call_is_documented_once():
    before = inspect.getdoc(roicli.align)
    roicli.__getattr__("align")
    assert inspect.getdoc(roicli.align) == before


def test_errors_of_rois_alone():
    given = {"spatial_scale": 1 / 4}
    alone = roicli.errors(OUTSIDE, **given)
    for found in (roicli.errors(None, OUTSIDE, **given), roicli.errors(rois=OUTSIDE, **given)):
        np.testing.assert_array_equal(alone["iou"], found["iou"])
    with pytest.raises(roicli.ParameterError, match="there are no RoIs"):
        roicli.errors()


# --- warnings ---------------------------------------------------------------------------------


def test_warnings_are_pythons_and_name_the_line_of_the_program():
    with pytest.warns(roicli.RoicliWarning, match="1 of 2 RoIs lie wholly outside") as caught:
        roicli.pool(MAPS, OUTSIDE, spatial_scale=1)
    assert [one.filename for one in caught] == [__file__]


def test_who_listens_to_the_log_gets_lines_and_no_warnings():
    with warnings.catch_warnings(), logged(logging.INFO) as lines:
        warnings.simplefilter("error")
        roicli.pool(MAPS, OUTSIDE)
    assert any("wholly outside" in line for line in lines)
    assert any("taking --spatial-scale 1.0" in line for line in lines)


def test_notes_are_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        roicli.pool(MAPS, OUTSIDE[:1])
