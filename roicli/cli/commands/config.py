"""``roicli config``: which settings there are, and where each was said."""

import os
import sys
from typing import Annotated, Any, Unpack

from roicli.cli.commands import COMMANDS, options_of
from roicli.cli.commands.listings import print_json
from roicli.cli.options import ListOptions
from roicli.cli.settings import FILE_NAMES, find_file, find_settings, key_of, note_settings
from roicli.core.declaration import Arg, Opt
from roicli.core.exceptions import ParameterError
from roicli.core.parse import did_you_mean

CommandName = Annotated[str | None, Arg("[COMMAND]", "Every option of this command.")]


def config(name: CommandName = None, **options: Unpack[ListOptions]) -> None:
    """Show what is set in roicli.toml, pyproject.toml or the environment; of a COMMAND, every
    option, its value and where that comes from.

    Example: roicli config align
    """
    if name is not None and name not in COMMANDS:
        hint = did_you_mean(name, list(COMMANDS)) or "see roicli --help"
        raise ParameterError(f"there is no command {name!r}", hint)
    path = find_file()
    rows = _describe(name) if name else _describe_set()
    note_settings()
    if options["list_format"] == "json":
        print_json("config", rows, file=path)
        return
    from roicli.render.tables import print_folded

    nowhere = (
        f"none in {os.getcwd()} or above: no {FILE_NAMES[0]}, no [tool.roicli] in {FILE_NAMES[1]}"
    )
    sys.stdout.write(f"settings file: {path or nowhere}\n")
    if rows:
        sys.stdout.write("\n")
        print_folded(
            list(rows[0]), [[str(cell) for cell in row.values()] for row in rows], sys.stdout
        )


def _describe(command: str) -> list[dict[str, Any]]:
    """Every option of a command, with its value and where that comes from."""
    options = options_of(command)
    found = find_settings(command, options)
    rows = []
    for name, declaration in options.items():
        assert isinstance(declaration.opt, Opt)
        value, origin = declaration.opt.shown or declaration.opt.default, "default"
        if name in found:
            value, origin = found[name].value, found[name].origin
        rows.append({"option": key_of(declaration), "value": _say(value), "from": origin})
    return rows


def _describe_set() -> list[dict[str, Any]]:
    """What is set for any command; a file that is wrong for one of them is refused."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for command in COMMANDS:
        for setting in find_settings(command, options_of(command)).values():
            rows.setdefault((setting.key, _say(setting.value), setting.origin), []).append(command)
    everyone = len(COMMANDS)
    return [
        {
            "option": key,
            "value": value,
            "from": origin,
            "commands": "all" if len(commands) == everyone else ", ".join(commands),
        }
        for (key, value, origin), commands in rows.items()
    ]


def _say(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(value) if isinstance(value, list) else str(value)
