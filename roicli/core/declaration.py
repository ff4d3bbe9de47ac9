"""How an option is declared: one annotation holds all that there is to say of it.

A field ``threads: Annotated[int | None, Opt("--threads", RUNNING, "How many.")]`` of a TypedDict is
a keyword of the library and a parameter of the command at once. Nothing else repeats its type, its
default or its help.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NamedTuple,
    Required,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
)

from roicli.core.exceptions import ParameterError
from roicli.core.record import Record, make_record

Options = TypeVar("Options")


class Opt(NamedTuple):
    """One option: its flags, the panel of the help that it stands in, and what it does.

    ``default`` holds where it is not given; with ``yields`` a preset or a model's node is asked
    first. ``shown`` says a default that is no constant. ``read`` turns what was given, text or a
    Python value, and the option's name, into what the package works with; it raises ParameterError.
    ``outward`` options say what is read, written, replaced or contacted: a file of settings, which
    may be a stranger's, cannot give them.
    """

    flags: str
    panel: str | None
    help: str
    default: Any = None
    metavar: str | None = None
    shown: str | None = None
    yields: bool = False
    read: Callable[[Any, str], Any] | None = None
    outward: bool = False


class Arg(NamedTuple):
    """One argument of a command: its name in the help, and what it is."""

    metavar: str
    help: str


class PythonOnly(NamedTuple):
    """A keyword that only a Python program can give: what it is, and its default."""

    help: str
    default: Any = None


class Declaration(NamedTuple):
    """A keyword: its name, the type of what may be given, and what else is said of it."""

    name: str
    type: Any
    opt: Opt | PythonOnly
    is_required: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The words that may be given, where they are few; empty for anything else."""
        literal = [arm for arm in arms(self.type) if get_origin(arm) is Literal]
        return get_args(literal[0]) if literal else ()

    @property
    def title(self) -> str:
        """The name as messages have it."""
        name = self.flag.lstrip("-")
        return name.replace("-", " ").replace("roi ", "RoI ")

    @property
    def flag(self) -> str:
        """The option as a command line has it, ``--sampling-ratio``; a Python keyword's name."""
        if not isinstance(self.opt, Opt):
            return self.name
        return self.opt.flags.split()[-1].partition("/")[0]

    @property
    def starting_value(self) -> Any:
        """What holds where it is not given; None where a preset is asked first."""
        return None if isinstance(self.opt, Opt) and self.opt.yields else self.opt.default

    def read(self, value: Any) -> Any:
        """What was given, checked. Raises ParameterError."""
        if value is None and NoneType in arms(self.type):
            return None
        if self.words and value not in self.words:
            choices = ", ".join(self.words)
            raise ParameterError(f"{self.title} is {value!r}, expected one of: {choices}")
        reader = self.opt.read if isinstance(self.opt, Opt) else None
        return value if reader is None else reader(value, self.title)


def check_known(function: str, given: Mapping[str, Any], call: type) -> None:
    """Raise TypeError for a keyword that the function does not take, as Python itself would."""
    known = declarations(call)
    for name in given:
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    for name, declaration in known.items():
        if declaration.is_required and name not in given:
            raise TypeError(f"{function}() missing 1 required keyword-only argument: {name!r}")


def keywords(call: type[Options], given: Mapping[str, Any], **more: Any) -> Options:
    """Those of a command's options that are the keywords of a call, and ``more`` that are."""
    known = declarations(call)  # type: ignore[arg-type]
    picked: Any = {name: value for name, value in {**given, **more}.items() if name in known}
    return picked  # type: ignore[no-any-return]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(*options: type) -> Callable[[type[Record]], type[Record]]:
    """Make a class the frozen record of some TypedDicts' options, besides those of its bases.

    Every option is a field. The class spells the types that ``read`` gives for those that the code
    reads; the checker knows no others.
    """

    def make(cls: type[Record]) -> type[Record]:
        declared = {name: d for one in options for name, d in declarations(one).items()}
        spelled = inspect.get_annotations(cls)
        assert spelled.keys() <= declared.keys(), f"{cls.__name__} has fields that are no option"
        inherited = _declared_of(cls)
        cls.__annotations__ = {
            name: spelled.get(name, Any)
            for name in declared
            if name in spelled or name not in inherited
        }
        made: Any = cls
        made._declared = {**inherited, **declared}
        return make_record(cls, kw_only=True)

    return make


def _declared_of(cls: type) -> dict[str, Declaration]:
    found: dict[str, Declaration] = {}
    for base in cls.__mro__:
        found = {**base.__dict__.get("_declared", {}), **found}
    return found


def settle(cls: type[Record], given: Mapping[str, Any]) -> Record:
    """The record of what was given, every value checked once, over the declared defaults.

    Keywords that the record has no field for are another record's. Raises ParameterError.
    """
    return cls(
        **{
            name: declaration.read(given.get(name, declaration.starting_value))
            for name, declaration in _declared_of(cls).items()
        }
    )


def arms(annotation: Any) -> tuple[Any, ...]:
    """The types that a union is made of; one that is no union is its own."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


@cache
def declarations(options: type) -> Mapping[str, Declaration]:
    """Every keyword of a TypedDict, by name, in the order in which the help shows them."""
    found = {}
    hint: Any
    # Their annotations are no text, and typing's own reader would look for text in all of them.
    for name, hint in inspect.get_annotations(options).items():
        is_required = get_origin(hint) is Required
        annotated = get_args(hint)[0] if is_required else hint
        said = getattr(annotated, "__metadata__", ())
        opt = next((part for part in said if isinstance(part, (Opt, PythonOnly))), None)
        assert opt is not None, f"{options.__name__}.{name} is declared without Opt"
        found[name] = Declaration(name, annotated.__origin__, opt, is_required)
    return found
