"""Makes the JSON Schemas of every ``--format json`` from the types that the package writes.

``make docs`` runs it; what it writes stands in the package and is what ``--json-schema`` prints.
"""

import json
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, with_config
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict

from roicli.core.strict_json import SCHEMA_VERSION, property_names
from roicli.render.documents import DOCUMENTS

FOLDER = Path(__file__).resolve().parents[1] / "roicli" / "render" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class NullWhereNotFinite(GenerateJsonSchema):
    """JSON has no NaN and no infinity: such a number is null."""

    def float_schema(self, schema: Any) -> Any:
        """A number or null."""
        return {"type": ["number", "null"]}


def as_object(kind: Any, seen: dict[type, Any]) -> Any:
    """A type with every record in it, dataclass or named tuple, as the object that is written."""
    if isinstance(kind, type) and kind in seen:
        return seen[kind]
    keys = find_keys(kind) if isinstance(kind, type) else {}
    if keys:
        made = TypedDict(kind.__name__, {name: as_object(one, seen) for name, one in keys.items()})  # type: ignore[misc]
        made.__doc__ = kind.__doc__
        return seen.setdefault(kind, with_config(ConfigDict(extra="allow"))(made))
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Literal, None):
        return kind
    parts = tuple(part if part is ... else as_object(part, seen) for part in parts)
    if origin in (Union, UnionType):
        return Union[parts]  # noqa: UP007
    return origin[parts if len(parts) > 1 else parts[0]]


def find_keys(kind: type) -> dict[str, Any]:
    """The keys of the object that values of a type are written as; empty for no object."""
    hints = get_type_hints(kind, include_extras=True)
    if is_dataclass(kind):
        properties = {name: getattr(kind, name).fget for name in property_names(kind)}
        results = {name: get_type_hints(get)["return"] for name, get in properties.items()}
        return {**{field.name: hints[field.name] for field in fields(kind)}, **results}
    is_tuple, is_typed_dict = hasattr(kind, "_fields"), hasattr(kind, "__total__")
    return hints if is_tuple or is_typed_dict else {}


def make_schema(command: str) -> dict[str, Any]:
    """The schema of a command's document."""
    kind = as_object(DOCUMENTS[command], {})
    schema = TypeAdapter(kind).json_schema(
        mode="serialization", schema_generator=NullWhereNotFinite
    )
    head = {
        "schema_version": {"const": SCHEMA_VERSION},
        "version": {"type": "string", "description": "Of roicli."},
    }
    return {
        "$schema": DIALECT,
        "title": f"roicli {command} --format json",
        "type": "object",
        "properties": head,
        "required": list(head),
        "allOf": [{key: part for key, part in schema.items() if key != "$defs"}],
        "$defs": schema.get("$defs", {}),
    }


def main() -> None:
    """Write every schema; with ``--check`` say which of them are not current."""
    stale = []
    FOLDER.mkdir(exist_ok=True)
    for command in DOCUMENTS:
        path = FOLDER / f"{command}.json"
        text = json.dumps(make_schema(command), indent=1) + "\n"
        if "--check" in sys.argv:
            stale += [path.name] if not path.exists() or path.read_text() != text else []
        else:
            path.write_text(text)
    if stale:
        sys.exit(f"not current, run make docs: {', '.join(stale)}")


if __name__ == "__main__":
    main()
