"""An operator is one file and one entry: command, call, keywords and record follow from it."""

import inspect
from typing import get_args, get_type_hints

import numpy as np
import pytest

import roicli
from roicli.api import run
from roicli.cli.app import COMMANDS
from roicli.core.declaration import declarations
from roicli.core.exceptions import ParameterError
from roicli.core.operator_table import OPERATORS, Operator, OwnOptions, RunOptions, call_name
from roicli.operators.table import operator_type
from tests.strategies import normal_map

MAPS = normal_map((1, 4, 9, 12))


def test_every_word_has_its_entry():
    assert tuple(OPERATORS) == get_args(Operator)
    assert tuple(OPERATORS) == tuple(COMMANDS)[: len(OPERATORS)]


@pytest.mark.parametrize("name", OPERATORS)
def test_an_entry_names_class_call_and_options(name):
    entry = OPERATORS[name]
    spec = operator_type(name)
    assert spec.operator == name
    call = getattr(roicli, call_name(name))
    hints = get_type_hints(call, include_extras=True)
    assert get_args(hints["options"])[0] is entry.options
    assert inspect.getdoc(call).count("Source:") == 1
    declared = declarations(entry.options)
    # What the class takes is declared once, with the default that the class has.
    for option, default in spec.defaults().items():
        told = declared[option].opt.default
        assert (told, told) == default if option == "output_size" else told == default, option
    own = declared.keys() - declarations(RunOptions).keys()
    assert own <= declarations(OwnOptions).keys()


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_is_run_by_its_name(name):
    spec = operator_type(name)
    rois = np.float32([[0, 1, 1, 6, 5, 30][: 1 + len(spec.roi_columns)]])
    found = run(name, MAPS, rois, None, {"output_size": 2})
    channels = operator_type(name)((2, 2)).output_channels(4)
    assert found.roi_features.shape == (1, channels, 2, 2)
    assert found.parameters["operator"] == name
    with pytest.raises(TypeError, match=rf"{call_name(name)}\(\) got an unexpected keyword"):
        run(name, MAPS, rois, None, {"unheard": 1})


def test_a_word_that_is_none_is_refused():
    with pytest.raises(ParameterError, match="operator is 'wrap', expected one of: align, pool"):
        operator_type("wrap")


def test_the_shop_window_has_every_call():
    assert {call_name(name) for name in OPERATORS} <= set(roicli.__all__)
