"""One line declares an option: keyword, flag, help and record follow from it."""

import ast
import inspect
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Unpack, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

import roicli
from roicli.cli import options as shared_options
from roicli.cli.app import COMMANDS, build_app
from roicli.cli.command import with_parameters
from roicli.cli.options import Rois
from roicli.cli.words import terminal_type
from roicli.core import (
    call_options,
    input_options,
    look_options,
    model_options,
    operator_options,
    operator_table,
    options,
    vocabulary,
)
from roicli.core.declaration import (
    Opt,
    PythonOnly,
    arms,
    check_known,
    declarations,
    keywords,
    record,
    settle,
)
from roicli.core.exceptions import ParameterError
from roicli.core.input_options import ReadingOptions
from roicli.core.options import ForceOption
from roicli.core.panels import PANELS, READING
from roicli.core.parse import as_size

# Commands that only list, or prepare this machine.
NO_CALLS = ("presets", "rules", "columns", "providers", "config", "sample", "native")
CALLS = {name: name.replace("-", "_") for name in COMMANDS if name not in NO_CALLS}
# Where a command takes as an option what is an argument of the call.
ARGUMENTS = {"output"}


class MadeUp(ReadingOptions, total=False):
    """Options with one more."""

    made_up: Annotated[
        int | str | tuple[int, int],
        Opt("--made-up", READING, "Never heard of.", "3x4", metavar="HxW", read=as_size),
    ]


@record(MadeUp)
class MadeUpRecord:
    """Their record; ``made_up`` is not spelled, and there all the same."""

    levels: tuple[str, ...] | None


def use(rois: Rois, **given: Unpack[MadeUp]) -> None:
    """Show what the record holds."""
    settled: Any = settle(MadeUpRecord, keywords(MadeUp, given))
    typer.echo(f"{rois} {settled.made_up} {settled.levels} {settled.roi_format}")


def run_made_up(*args):
    app = typer.Typer()
    app.command()(with_parameters(use))
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "100"})


def test_a_made_up_option_reaches_help_command_and_record():
    shown = run_made_up("--help").stdout
    assert READING in shown
    line = next(line for line in shown.splitlines() if "--made-up" in line)
    assert "HxW" in line
    assert "Never heard of. [default: 3x4]" in line
    assert run_made_up("r.npy").stdout == "r.npy (3, 4) None None\n"
    told = run_made_up("r.npy", "--made-up", "7", "--levels", "p2,p3", "--roi-format", "xywh")
    assert told.stdout == "r.npy (7, 7) ('p2', 'p3') xywh\n"


def test_a_made_up_option_is_a_keyword():
    check_known("use", {"made_up": 3}, MadeUp)
    with pytest.raises(TypeError, match=r"use\(\) got an unexpected keyword argument 'madeup'"):
        check_known("use", {"madeup": 3}, MadeUp)
    assert settle(MadeUpRecord, {"made_up": (1, 2)}).made_up == (1, 2)
    with pytest.raises(ParameterError, match="made up is '3x', expected"):
        settle(MadeUpRecord, {"made_up": "3x"})


def test_a_record_is_frozen_checked_and_has_no_other_fields():
    settled = settle(MadeUpRecord, {})
    with pytest.raises(AttributeError):
        settled.levels = ("p2",)
    with pytest.raises(ParameterError, match="RoI format is 'yx', expected one of: xyxy"):
        settle(MadeUpRecord, {"roi_format": "yx"})
    assert settle(MadeUpRecord, {"roi_format": None}).roi_format is None
    with pytest.raises(AssertionError, match="no option"):

        @record(ForceOption)
        class Other:
            unheard: int


def test_a_record_has_its_bases_fields_too():
    @record(ForceOption)
    class Longer(MadeUpRecord):
        force: bool

    settled = settle(Longer, {"force": True, "levels": ["p2"], "another_records": 1})
    assert (settled.force, settled.levels, settled.made_up) == (True, ("p2",), (3, 4))


def command_parameters(name):
    command = next(c for c in build_app([name]).registered_commands if c.name == name)
    return inspect.signature(command.callback).parameters


@pytest.mark.parametrize("name", CALLS)
def test_every_keyword_of_a_call_is_a_flag_of_its_command_or_python_only(name):
    call = getattr(roicli, CALLS[name])
    hints = get_type_hints(call, include_extras=True)
    declared = declarations(get_args(hints["options"])[0])
    python_only = {n for n, d in declared.items() if isinstance(d.opt, PythonOnly)}
    assert python_only <= {"progress", "stage_times", "table_columns"}
    named = set(command_parameters(name))
    assert set(declared) - python_only <= named
    parameters = inspect.signature(call).parameters.values()
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    others = {p.name for p in parameters} - keywords
    only_commands = {
        "quiet", "verbose", "list_format", "table_format", "finding_format", "explain_format",
        "rows", "sort", "columns", "summary", "fail_over", "fail_under", "no_table", "fail_on",
        "strict", "json_schema", "list_only",
    }  # fmt: skip
    ours = named - set(declared) - others - ARGUMENTS - only_commands
    assert ours <= {"inputs", "file", "path", "photos"}  # arguments with a name of their own
    assert keywords == set(declared), "a keyword that is not declared"


DECLARING = (
    options, operator_options, input_options, operator_table, call_options, look_options,
    model_options, shared_options,
    *(import_module(f"roicli.cli.commands.{name}") for name in {*COMMANDS.values()}),
)  # fmt: skip


def typed_dicts():
    for module in DECLARING:
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, dict)
                and value.__module__ == module.__name__
            ):
                yield value


def test_no_option_has_two_declarations():
    """An option stands in one TypedDict; what others inherit is that same one."""
    seen = {}
    for typed_dict in typed_dicts():
        for name, declaration in declarations(typed_dict).items():
            if isinstance(declaration.opt, Opt):
                seen.setdefault((name, declaration.opt.help), set()).add(id(declaration.opt))
    assert len(seen) > 80
    assert [key for key, found in seen.items() if len(found) > 1] == []


def test_flags_are_unique_in_a_command():
    for name in COMMANDS:
        flags = [
            flag
            for parameter in command_parameters(name).values()
            for flag in getattr(get_args(parameter.annotation)[1], "param_decls", None) or ()
        ]
        assert len(flags) == len(set(flags)), name


def test_every_default_can_be_read_and_every_panel_has_its_place():
    for typed_dict in typed_dicts():
        for declaration in declarations(typed_dict).values():
            if isinstance(declaration.opt, Opt):
                assert declaration.opt.panel in PANELS
                assert declaration.opt.help.endswith(".")
                if not declaration.is_required:
                    declaration.read(declaration.starting_value)
                    declaration.read(declaration.opt.default)


def test_panels_come_in_one_order_in_every_command():
    for name in COMMANDS:
        panels = [
            get_args(parameter.annotation)[1].rich_help_panel
            for parameter in command_parameters(name).values()
            if get_origin(parameter.annotation) is Annotated
            and isinstance(get_args(parameter.annotation)[1], typer.models.OptionInfo)
        ]
        assert panels == sorted(panels, key=PANELS.index)


@pytest.mark.parametrize(
    ("declared", "typed"),
    [
        (int | str | tuple[int, int] | None, str),
        (bool | int | None, bool),
        (float, float),
        (list[str] | None, list[str]),
        (vocabulary.Provider, vocabulary.Provider),
        (vocabulary.Mode | None, vocabulary.Mode),
    ],
)
def test_what_a_terminal_gives(declared, typed):
    assert terminal_type(declared) == typed
    assert type(None) not in arms(terminal_type(declared))


def test_commands_and_calls_declare_nothing_themselves():
    """Outside the declarations nobody makes options for Typer."""
    root = Path(roicli.__file__).parent
    for path in root.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text if ".Option" in text or ".Argument" in text else "")
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
        made = [
            node
            for node in calls
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("Option", "Argument")
        ]
        # --version and --json-schema are no options of a command, but of the tool.
        assert len(made) == {"command.py": 3, "app.py": 1}.get(path.name, 0), path


def test_a_record_makes_its_own_checks():
    @record(MadeUp)
    class Checked:
        made_up: tuple[int, int] | None

        def __post_init__(self) -> None:
            raise ParameterError(f"{self.made_up} is refused")

    with pytest.raises(ParameterError, match=r"\(1, 2\) is refused"):
        settle(Checked, {"made_up": (1, 2)})
