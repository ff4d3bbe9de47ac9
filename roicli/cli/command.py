"""What makes a command of a function: its parameters, from what its options declare."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer

from roicli.core.declaration import Opt, arms, declarations
from roicli.core.options import PANELS

Options = TypeVar("Options")
# The first of these that an option's type has is what a terminal gives.
TYPED_AS = (bool, str, int, float)


def with_parameters(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer understands it: with ``**options`` spelled out in its signature.

    Its arguments are annotated with ``Arg``, its options are an unpacked TypedDict of ``Opt``.
    """
    hints = get_type_hints(command, include_extras=True)
    arguments: list[inspect.Parameter] = []
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            options += _make_options(get_args(hint)[0])
        else:
            typed, argument = get_args(hint)
            info = typer.Argument(metavar=argument.metavar, help=argument.help)
            arguments.append(parameter.replace(annotation=Annotated[typed, info]))

    def run(**given: Any) -> None:
        command(**given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature([*arguments, *options])  # type: ignore[attr-defined]
    return run


def _make_options(options: type) -> Iterator[inspect.Parameter]:
    """A parameter for each option, panel by panel."""
    declared = [(d, d.opt) for d in declarations(options).values() if isinstance(d.opt, Opt)]
    for declaration, opt in sorted(declared, key=lambda pair: PANELS.index(pair[1].panel)):
        typed, default = terminal_type(declaration.type), declaration.starting_value
        if default is None and not declaration.is_required:
            typed = typed | None
        elif typed is str and default is not None:
            default = str(default)
        shown = opt.shown or (str(opt.default) if opt.yields else True)
        info = typer.Option(
            *opt.flags.split(),
            metavar=opt.metavar,
            rich_help_panel=opt.panel,
            help=opt.help,
            show_default=shown,
        )
        yield inspect.Parameter(
            declaration.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if declaration.is_required else default,
            annotation=Annotated[typed, info],
        )


def terminal_type(declared: Any) -> Any:
    """What a terminal gives for an option that takes this type: text where there is a choice."""
    members = [arm for arm in arms(declared) if arm is not NoneType]
    words = [arm for arm in members if get_origin(arm) is Literal]
    plain = [kind for kind in TYPED_AS if kind in members]
    return (words or plain or members)[0]
