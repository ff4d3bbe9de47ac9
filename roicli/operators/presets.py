"""The functions of other libraries by their names (``libraries``): what ``--preset`` takes.

Needs no NumPy.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any, get_args

from roicli.core.exceptions import InputError, ParameterError
from roicli.core.parse import did_you_mean
from roicli.core.vocabulary import ComparedOperator, Mode
from roicli.operators.convention import Convention
from roicli.operators.libraries import ROWS, LibraryFunction, Limit
from roicli.operators.phrases import EMPTY_WORDS, as_options, command, describe, differences

logger = logging.getLogger("roicli")

# Packages bring rows of their own under it.
ENTRY_POINTS = "roicli.presets"

TORCHVISION = {
    row.operator: row.convention for row in reversed(ROWS) if row.library == "torchvision"
}


@cache
def all_rows() -> tuple[LibraryFunction, ...]:
    """Roicli's own rows, then those of installed packages (entry points ``roicli.presets``).

    Raises InputError for an entry point that brings none, or one that has the name of another.
    """
    from roicli.core.entry_points import load_entry_points

    rows = (*ROWS, *load_entry_points(ENTRY_POINTS, LibraryFunction))
    names = [row.name.lower() for row in rows]
    for row in rows[len(ROWS) :]:
        if names.count(row.name.lower()) > 1:
            raise InputError(f"{ENTRY_POINTS}: {row.name} is there already", "give it another name")
    return rows


def functions_of(preset: str) -> tuple[LibraryFunction, ...]:
    """The rows of ``LIBRARY`` or of ``LIBRARY.FUNCTION``; none where there is no such name.

    Raises InputError as ``all_rows``, which is asked only for what is not roicli's own: to look for
    entry points takes some milliseconds.
    """
    return _find(preset.lower(), ROWS) or _find(preset.lower(), all_rows())


def _find(wanted: str, rows: Sequence[LibraryFunction]) -> tuple[LibraryFunction, ...]:
    exact = tuple(row for row in rows if row.name.lower() == wanted)
    return exact or tuple(row for row in rows if row.library.lower() == wanted)


def preset_options(preset: str, operator: str) -> dict[str, Any]:
    """What a preset says of the options of every operator; ``operator`` is to be run.

    Raises ParameterError where there is no such preset, or where it is another operator's.
    """
    rows = functions_of(preset)
    if not rows:
        libraries = tuple(dict.fromkeys(row.library for row in all_rows()))
        near = did_you_mean(preset, [*libraries, *(row.name for row in all_rows())])
        raise ParameterError(
            f"preset is {preset!r}, expected LIBRARY or LIBRARY.FUNCTION, of "
            f"{', '.join(libraries)}",
            f"{near} roicli presets lists all" if near else "list them with roicli presets",
        )
    running = [row for row in rows if row.runs]
    if operator != "errors" and operator not in {row.operator for row in running}:
        raise _other_operator(preset, rows, running)
    options: dict[str, Any] = {}
    # The error table's two operators, and over them the one that is run.
    compared = [row for row in running if row.operator in get_args(ComparedOperator)]
    run = [row for row in running if row.operator == operator]
    for row in (*reversed(compared), *reversed(run)):
        options |= row.options()
    if operator == "errors" and not any(row.options() for row in compared):
        logger.info(f"preset {preset} says nothing of the RoI Align and RoI Pool of an error table")
    boxes = [row.convention.box for row in functions_of(rows[0].library) if row.operator == "align"]
    if boxes:
        options["pixel_model"] = "half-pixel" if boxes[0].shift_cells else "legacy"
    return options


LIMIT_WORDS: dict[Limit, str] = {
    "on-map": "on the map",
    "between-centres": "between the centres of the map's first and last cells",
    "with-size": "with positive sides",
    "two-bins": "of two bins an axis and more",
}
# What may be said over a rule that no operator's own options reach, besides the size.
OVER_A_RULE = ("sampling_ratio", "aligned", "mode", "group_size")


def rule_of_preset(
    preset: str, operator: str, said: Mapping[str, Any]
) -> tuple[str, Convention] | None:
    """The function and the rule that a preset is, with what is ``said`` of the operator's own
    options; None where these options reach it.

    Raises ParameterError where the function cannot be set to what is said.
    """
    rows = [row for row in functions_of(preset) if row.operator == operator]
    if not rows:
        return None
    row = rows[0]
    if row.only:
        limits = ", ".join(LIMIT_WORDS[limit] for limit in row.only)
        beyond = f"; {row.undefined}" if row.undefined else ""
        logger.info(f"{row.name} is what follows for RoIs {limits} alone{beyond}")
    given = {name: value for name, value in said.items() if value is not None}
    reached = _set_to(row, given)
    rule = reached or row.convention
    if as_options(rule) is not None:
        if rule.empty != "0":
            logger.info(f"{row.name} has {EMPTY_WORDS[rule.empty]}; roicli has 0 for it")
        return None
    fixed = [name for name in given if name not in OVER_A_RULE]
    if reached is None:
        chosen = ("aligned", "mode") if row.ratios else ("sampling_ratio", "aligned", "mode")
        fixed += [name for name in chosen if name in given]
    if fixed and as_options(row.convention) is not None:
        return None  # an option over the plain operator's
    if fixed:
        name = fixed[0]
        raise ParameterError(
            f"preset {row.name} cannot have {name.replace('_', ' ')} {given[name]}: it is "
            f"{describe(row.convention)}",
            "leave the option out, or --preset",
        )
    changes = {name: given[name] for name in ("sampling_ratio", "group_size") if name in given}
    if changes.get("group_size") is not None and rule.channels == "all":
        raise ParameterError(f"preset {row.name} has no groups", "drop --group-size")
    if "sampling_ratio" not in changes and row.ratios:
        changes["sampling_ratio"] = row.convention.sampling_ratio
    rule = replace(rule, **changes)
    logger.info(f"{row.name}: {describe(rule)}")
    return row.name, rule


def command_of(convention: Convention) -> str | None:
    """What of ``roicli`` gives the same numbers: an operator's options, or a library's preset."""
    if as_options(convention) is not None:
        return command(convention)
    found = (_preset_command(row, convention) for row in all_rows() if row.runs)
    told = next((words for words in found if words is not None), None)
    if told is None and convention.channels == "all":
        # One group is all channels.
        one_group = replace(convention, channels="class-major", group_size=1)
        return command(one_group) if as_options(one_group) is not None else None
    return told


def _preset_command(row: LibraryFunction, convention: Convention) -> str | None:
    """What sets a library's preset to a convention, None where its options do not reach it."""
    free = ["sampling_ratio"] if row.ratios else []
    free += ["group_size"] if convention.channels != "all" else []
    set_so = {name: getattr(convention, name) for name in free}
    ways = {"": row.convention} | {
        f" --{'aligned' if aligned else 'no-aligned'} --mode {mode}": own
        for aligned, mode in product((True, False), get_args(Mode))
        for own in [_set_to(row, {"aligned": aligned, "mode": mode})]
        if row.also and own is not None and as_options(own) is None
    }
    for said, own in ways.items():
        if replace(own, **set_so) == convention:
            words = [
                f" --{name.replace('_', '-')} {value}"
                for name, value in set_so.items()
                if value != getattr(row.convention, name)
            ]
            return f"roicli {row.operator} --preset {row.name}{said}{''.join(words)}"
    return None


def _set_to(row: LibraryFunction, said: Mapping[str, Any]) -> Convention | None:
    """What a function is set to by what is ``said``; None where it cannot be."""
    return next((own for own in row.reaches() if _is_set_so(own, said, row.ratios)), None)


def _is_set_so(rule: Convention, said: Mapping[str, Any], is_ratio_free: bool) -> bool:
    """Whether a rule has the ``aligned``, the ``mode`` and the ratio that were said."""
    own: dict[str, Any] = {
        "aligned": bool(rule.box.shift_cells),
        "mode": "avg" if rule.reduction == "mean" else "max",
    }
    if not is_ratio_free:
        own["sampling_ratio"] = rule.sampling_ratio
    return all(said.get(name, value) == value for name, value in own.items())


def operator_of(preset: str, operator: str) -> str:
    """The operator that runs a preset: the one asked for where it can, else its only one."""
    running = {row.operator for row in functions_of(preset) if row.runs}
    return running.pop() if operator not in running and len(running) == 1 else operator


def _other_operator(
    preset: str, rows: Sequence[LibraryFunction], running: Sequence[LibraryFunction]
) -> ParameterError:
    if running:
        found = ", ".join(f"{row.name} ({row.operator})" for row in running)
        return ParameterError(
            f"preset {preset} has no such operator, only {found}",
            f"run roicli {running[0].operator} --preset {running[0].name}",
        )
    needed = ", ".join(dict.fromkeys(describe(row.convention) for row in rows))
    return ParameterError(
        f"preset {preset} needs an operator that roicli cannot run yet: {needed}",
        "roicli diagnose computes it",
    )


def differs_from_torchvision(row: LibraryFunction) -> str:
    """In words, what is not as in torchvision's function of the same operator, by default."""
    plain = TORCHVISION.get(row.operator, TORCHVISION["align"])
    changed = differences(row.convention, plain)
    if not changed:
        return "nothing"
    own, usual = (describe(c).split(", ") for c in (row.convention, plain))
    words = [word for word in own if word not in usual]
    return ", ".join(words) or ", ".join(f"{name} {value}" for name, value in changed.items())


def describe_row(row: LibraryFunction) -> dict[str, Any]:
    """A row as plain values; ``command`` is null where roicli has no such operator."""
    return {
        "name": row.name,
        "library": row.library,
        "function": row.function,
        "version": row.version,
        "operator": row.operator,
        "convention": describe(row.convention),
        "differs_from_torchvision": differs_from_torchvision(row),
        "runs": row.runs,
        "command": f"roicli {row.operator} --preset {row.name}" if row.runs else None,
        "source": row.source,
        "undefined": row.undefined,
    }
