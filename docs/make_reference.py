"""Makes docs/commands.md from what commands and options declare: the same texts as the help."""

import re
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_type_hints

from roicli.cli.command import in_panels
from roicli.cli.commands import PANELS, find_function, options_of
from roicli.cli.help import find_example
from roicli.core.declaration import Arg, Declaration, Opt

PAGE = Path(__file__).resolve().parent / "commands.md"
HEAD = """# Commands and options

Made by `make docs` from what the commands declare; `roicli help COMMAND` and
`roicli COMMAND --help-all` show the same. Every option can also stand in a file or in the
environment: [settings](settings.md). `--json-schema` prints the schema of `--format json`.
"""


def describe_option(declaration: Declaration) -> str:
    """A row: flags, what is given, the default, and the help."""
    opt = declaration.opt
    assert isinstance(opt, Opt)
    flags = ", ".join(f"`{flag}`" for flag in sorted(opt.flags.split(), key=len))
    words = " ".join(f"`{word}`" for word in declaration.words)
    given = words or (f"`{opt.metavar}`" if opt.metavar else "")
    default = opt.shown or ("" if opt.default in (None, False) else f"`{opt.default}`")
    needed = "required" if declaration.is_required else default
    return f"| {flags} | {' | '.join(map(_cell, (given, needed, opt.help)))} |"


def _cell(text: str) -> str:
    """Text as it may stand in a table: no bar, and no markup but code."""
    parts = re.split(r"(`[^`]*`)", text.replace("|", "\\|"))
    return "".join(one if one[:1] == "`" else re.sub(r"([<*_])", r"\\\1", one) for one in parts)


def describe_arguments(function: Any) -> list[tuple[str, str]]:
    """The arguments of a command, and what each is."""
    hints = get_type_hints(function, include_extras=True)
    found = [get_args(hints[name])[1:] for name in signature(function).parameters if name in hints]
    return [(one.metavar, one.help) for said in found for one in said if isinstance(one, Arg)]


def describe_command(name: str) -> Iterator[str]:
    """The section of a command."""
    function = find_function(name)
    text, example = function.__doc__ or "", find_example(function.__doc__)
    arguments = describe_arguments(function)
    usage = " ".join(["roicli", name, *(metavar for metavar, _ in arguments), "[OPTIONS]"])
    yield from (f"## {name}", "", " ".join(text.partition("Example: ")[0].split()), "")
    yield from (f"    {usage}", *([f"    {example}"] if example else []), "")
    if arguments:
        yield from ("| argument | what it is |", "|---|---|")
        yield from (f"| `{metavar}` | {_cell(said)} |" for metavar, said in arguments)
        yield ""
    panels: dict[str, list[Declaration]] = {}
    for declaration in in_panels(options_of(name)):
        assert isinstance(declaration.opt, Opt)
        panels.setdefault(declaration.opt.panel or "Options", []).append(declaration)
    for panel, declarations in panels.items():
        yield from (f"| {panel} | takes | default | |", "|---|---|---|---|")
        yield from map(describe_option, declarations)
        yield ""


def render() -> str:
    """The page."""
    lines = [HEAD]
    for panel, commands in PANELS.items():
        lines += [f"**{panel}**: " + ", ".join(f"[{name}](#{name})" for name in commands), ""]
    for commands in PANELS.values():
        for name in commands:
            lines += describe_command(name)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page; with ``--check`` say whether it is current."""
    if "--check" not in sys.argv:
        PAGE.write_text(render(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != render():
        sys.exit("docs/commands.md is not current, run make docs")


if __name__ == "__main__":
    main()
