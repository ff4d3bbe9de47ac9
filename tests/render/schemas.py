"""Holds what ``--format json`` printed against its schema: no key may be missing or new."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from roicli.render.schemas import read_schema

# Of long lists, whose items are all alike, so many are looked at.
LOOKED_AT = 20
HEAD = ("schema_version", "version")


def check_document(args: Sequence[str], text: bytes) -> None:
    """Fail unless the JSON that a command printed, if it is a document, is as its schema says."""
    words = list(args)
    is_json = "json" in words and words[words.index("json") - 1] == "--format"
    if is_json and "--json-schema" not in words:
        document = _shorten(json.loads(text))
        head = {name: document.pop(name) for name in HEAD}
        whole, strict = _validators(words[0])
        for validator, given in ((strict, document), (whole, {**head, **document})):
            error = next(iter(validator.iter_errors(given)), None)
            assert error is None, f"{words[0]}: {error.json_path}: {error.message}"


def _shorten(value: Any) -> Any:
    if isinstance(value, list):
        return [_shorten(item) for item in value[:LOOKED_AT]]
    if isinstance(value, dict):
        return {name: _shorten(item) for name, item in value.items()}
    return value


@cache
def _validators(command: str) -> tuple[Draft202012Validator, Draft202012Validator]:
    schema = json.loads(read_schema(command))
    Draft202012Validator.check_schema(schema)
    own = {**schema["allOf"][0], "$defs": schema["$defs"]}
    return Draft202012Validator(schema), Draft202012Validator(_close(own))


def _close(schema: Any) -> Any:
    """The schema without leave to add keys."""
    if isinstance(schema, list):
        return [_close(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _close(part) for name, part in schema.items()}
    if "properties" in closed and closed.get("additionalProperties") is True:
        closed["additionalProperties"] = False
    return closed
