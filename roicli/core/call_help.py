"""The help of a call: its docstring and signature, with every option as it was declared."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

from roicli.core.declaration import Declaration, Opt, declarations
from roicli.core.panels import PANELS

WIDTH = 92
FLAG = r"(?<![\w-])--([a-z][a-z-]*)"
# A metavar that says how something is written, and not only what it is.
FORM = r"[|,\[]|HxW"
# Of options that stand in no panel, and those that only Python has.
OTHERS, PYTHON = "Options", "In Python alone"


def document(call: Callable[..., Any]) -> None:
    """Put what ``**options`` may be, by its TypedDict, into a call's docstring and signature."""
    given = inspect.signature(call)
    if given.parameters.get("options", None) is None or hasattr(call, "__signature__"):
        return
    (options,) = get_args(get_type_hints(call)["options"])
    known = declarations(options)
    sections: dict[str, list[str]] = {panel or OTHERS: [] for panel in (*PANELS, PYTHON)}
    for one in known.values():
        panel = (one.opt.panel or OTHERS) if isinstance(one.opt, Opt) else PYTHON
        sections.setdefault(panel, []).append(_describe(one))
    text = "\n\n".join(f"{name}:\n\n" + "\n".join(of) for name, of in sections.items() if of)
    call.__doc__ = f"{inspect.getdoc(call)}\n\n{text}\n"
    positional = [one for one in given.parameters.values() if one.kind is not one.VAR_KEYWORD]
    keywords = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.is_required else one.opt.default,
        )
        for name, one in known.items()
    ]
    signature = given.replace(parameters=[*positional, *keywords])
    call.__signature__ = signature  # type: ignore[attr-defined]


def _describe(one: Declaration) -> str:
    """A line of the name and what holds where it is not given, then what it is."""
    default = "" if one.is_required or callable(one.opt.default) else f"={one.opt.default!r}"
    words = [one.opt.help]
    if one.words:
        words.append(f"One of: {', '.join(map(str, one.words))}.")
    if isinstance(one.opt, Opt):
        if one.opt.shown is not None and not isinstance(one.opt.default, bool):
            default = ""
            words.append(f"Without it: {one.opt.shown}.")
        if re.search(FORM, one.opt.metavar or "") and not one.words:
            form = (one.opt.metavar or "").replace("|", " or ")
            words.append(f"Written {form}{'' if form.endswith('.') else '.'}")
    # Another option's name is the keyword here, and not its flag.
    text = re.sub(FLAG, lambda flag: flag[1].replace("-", "_"), " ".join(words))
    return f"{one.name}{default}\n" + textwrap.indent(textwrap.fill(text, WIDTH), "    ")
