"""The commands, a short file each, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import get_args, get_type_hints

from roicli.core.declaration import Declaration, Opt, declarations
from roicli.core.operator_table import OPERATORS

# The panels of the help: the commands in them and the module that has each. The help's example of
# a panel is its first command's.
PANELS: dict[str, dict[str, str]] = {
    "Run": {
        **dict.fromkeys(OPERATORS, "operators"),
        **{name: name for name in ("merge", "export", "sample", "capture")},
    },
    "Look": {
        "errors": "errors",
        "explain": "explain",
        "draw": "draw",
        "report": "report",
        "inspect": "inspect",
        "config": "config",
        "columns": "listings",
        "presets": "listings",
        "providers": "listings",
        "native": "native",
    },
    "Check": {"check": "check", "rules": "listings"},
    "Compare": {
        "compare": "compare",
        "diagnose": "diagnose",
        "verify-model": "verify_model",
        "sweep": "sweep",
        "bench": "bench",
    },
}
COMMANDS = {name: module for panel in PANELS.values() for name, module in panel.items()}
PANEL_OF = {name: title for title, panel in PANELS.items() for name in panel}


def find_function(name: str) -> Callable[..., None]:
    """The function of a command."""
    module = import_module(f"roicli.cli.commands.{COMMANDS[name]}")
    found: Callable[..., None]
    found = (
        module.build_command(name) if name in OPERATORS else getattr(module, name.replace("-", "_"))
    )
    return found


def options_of(name: str) -> Mapping[str, Declaration]:
    """The options of a command, by their keywords, as they are declared."""
    return options_in(get_type_hints(find_function(name), include_extras=True).get("options", ()))


def options_in(hint: object) -> Mapping[str, Declaration]:
    """The options that ``**options`` of this type stands for: an unpacked TypedDict, or several."""
    dicts = hint if isinstance(hint, tuple) else get_args(hint)[:1]
    found = {name: one for options in dicts for name, one in declarations(options).items()}
    return {name: one for name, one in found.items() if isinstance(one.opt, Opt)}
