"""The JSON Schemas: current, printed by their commands, and held against what commands print."""

import importlib.util
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from roicli.cli.app import COMMANDS
from roicli.core.operator_table import OPERATORS
from roicli.render.schemas import read_schema
from tests.cli.running import FPN, TEXT_ROIS, run, succeed
from tests.render.schemas import check_document

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_schemas.py"
_spec = importlib.util.spec_from_file_location("make_schemas", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
make_schemas = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_schemas)


@pytest.mark.parametrize("command", make_schemas.DOCUMENTS)
def test_schemas_are_current(command: str) -> None:
    assert json.loads(read_schema(command)) == make_schemas.make_schema(command), "make docs"


def test_every_command_with_json_prints_its_schema() -> None:
    with_json = []
    for command in COMMANDS:
        printed = run(command, "--json-schema")
        if printed.code == 0:
            with_json.append(command)
            assert printed.text == read_schema(command)
    assert set(with_json) == {*make_schemas.DOCUMENTS, *OPERATORS}


def test_a_document_is_held_against_it() -> None:
    args = ("check", f"{FPN}::p3", TEXT_ROIS, "--format", "json")
    found = json.loads(succeed(*args).text)
    Draft202012Validator(json.loads(read_schema("check"))).validate(found)
    for spoiled in ({**found, "rules": [1]}, {**found, "more": 1}):
        with pytest.raises(AssertionError):
            check_document(args, json.dumps(spoiled).encode())
    found.pop("findings")
    with pytest.raises(AssertionError):
        check_document(args, json.dumps(found).encode())
