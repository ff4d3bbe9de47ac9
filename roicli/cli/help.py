"""What ``--help`` prints: a screen of what matters; ``--help-all`` has every option, by panels.

Plain lines, folded at the terminal's width: rich takes longer to import than the help to print.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from roicli.cli.console import styled
from roicli.render.screen import terminal_width

# So many options --help shows, those that are given most often.
SHOWN_OPTIONS = 10
HELP_FLAGS = ("-h", "--help", "--help-all")
WIDEST, LEFT_WIDTH = 120, 30
MORE = "roicli help COMMAND shows what a command takes, roicli COMMAND --help-all everything."
DOCUMENTATION = "With the source come docs/guide.md, and docs/messages.md with what errors mean."
# The options, by their flags, that a command is mostly called with, the most frequent first.
FREQUENT = (
    "--roi", "--bin", "--channel", "--select", "--fail-on", "--output", "--force",
    "--spatial-scale", "--output-size", "--sampling-ratio", "--quantization", "--preset",
    "--result", "--compare", "--image", "--sample", "--tolerance", "--levels", "--format",
    "--fail-over", "--ignore", "--rows", "--sort", "--columns", "--image-size", "--provider",
    "--quiet",
)  # fmt: skip

Row = tuple[str, str]


def frequency(flags: Iterable[str]) -> int:
    """The place of an option among the frequent ones; behind them where it is none."""
    return next((FREQUENT.index(flag) for flag in flags if flag in FREQUENT), len(FREQUENT))


def describe_command(command: Any, context: Any, shows_all: bool) -> str:
    """The help of one command."""
    params = [one for one in command.get_params(context) if not getattr(one, "hidden", False)]
    arguments = [one for one in params if one.param_type_name == "argument"]
    options = [one for one in params if one not in arguments and "--help" not in one.opts]
    names = " ".join(one.display_name_raw for one in arguments)
    lines = [_title(f"Usage: {context.command_path} [OPTIONS] {names}".rstrip()), ""]
    lines += _describe(command.help)
    if arguments:
        lines += _section("Arguments", [(one.display_name_raw, one.help) for one in arguments])
    if shows_all or len(options) <= SHOWN_OPTIONS:
        panels = dict.fromkeys(one.rich_help_panel or "Options" for one in options)
        for panel in panels:
            of_panel = [one for one in options if (one.rich_help_panel or "Options") == panel]
            lines += _section(panel, [_describe_option(one, context) for one in of_panel])
    else:
        shown = sorted(options, key=lambda one: frequency(one.opts))[:SHOWN_OPTIONS]
        rows = [_describe_option(one, context, is_short=True) for one in shown]
        lines += _section("Options", rows)
        more = f"{len(options) - len(shown)} more options: {context.command_path} --help-all"
        lines += ["", more]
    return "\n".join(lines) + "\n"


def describe_group(group: Any, context: Any) -> str:
    """The help of the whole program: its commands in their panels, each with an example."""
    lines = [_title("Usage: roicli COMMAND [ARGUMENTS] [OPTIONS]"), "", *_describe(group.help)]
    commands = list(group.commands.values())
    for panel in dict.fromkeys(one.rich_help_panel for one in commands):
        of_panel = [one for one in commands if one.rich_help_panel == panel]
        lines += _section(panel, [(one.name, one.help.partition("\n\n")[0]) for one in of_panel])
        lines += _fold(find_example(of_panel[0].help), "  e.g. ", "       ")
    params = group.get_params(context)
    lines += _section("Options", [_describe_option(one, context) for one in params])
    return "\n".join([*lines, "", *_fold(MORE), *_fold(DOCUMENTATION)]) + "\n"


def find_example(description: str | None) -> str:
    """The example at the end of a command's description; empty where it has none."""
    return " ".join((description or "").partition("Example: ")[2].split())


def _describe(description: str | None) -> list[str]:
    paragraphs = (description or "").split("\n\n")
    return [line for one in paragraphs for line in (*_fold(" ".join(one.split())), "")][:-1]


def _describe_option(option: Any, context: Any, is_short: bool = False) -> Row:
    """The flags with what they take, and the help, or its first sentence, with the default."""
    flags = sorted((*option.opts, *option.secondary_opts), key=len)
    if "--help" in flags:
        return ", ".join(flags), "Show this; --help-all has every option."
    # Short flags stand in a column of their own.
    names = ("" if len(flags[0]) == 2 else "    ") + ", ".join(flags)
    if not option.is_flag:
        names += f" {option.display_type_rich(ctx=context).strip('<>')}"
    said = option.help or ""
    if is_short and ". " in said:
        said = f"{said.partition('. ')[0]}."
    return names, " ".join(filter(None, [said, _default(option)]))


def _default(option: Any) -> str:
    if option.required:
        return "[required]"
    said = option.show_default
    if isinstance(said, str):
        return f"[default: {said}]"
    if not said or option.default is None or option.is_flag:
        return ""
    return f"[default: {option.default}]"


def _section(title: str, rows: Sequence[Row]) -> Iterator[str]:
    """A title, and rows of two columns, the right one folded."""
    yield from ("", _title(title))
    width = min(max(len(left) for left, _ in rows), LEFT_WIDTH)
    indent = " " * (width + 4)
    for left, right in rows:
        text = (right or "").replace("\\[", "[")
        if len(left) > width:
            yield f"  {left}"
            yield from _fold(text, indent, indent)
        else:
            yield from _fold(text, f"  {left:<{width}}  ", indent)


def _fold(text: str, first: str = "", rest: str = "") -> list[str]:
    width = min(terminal_width(), WIDEST)
    # A narrow terminal folds the lines itself.
    return textwrap.wrap(
        text, max(width, len(rest) + 20), initial_indent=first, subsequent_indent=rest,
        break_on_hyphens=False, break_long_words=False,
    ) or [first.rstrip()]  # fmt: skip


def _title(text: str) -> str:
    return styled(text, "1", sys.stdout)
