"""The answer before the table: what rounding did to these RoIs, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roicli.core.types import IntArray
from roicli.error_table.table import ErrorTable, Summary

# Operators that place their bins at real numbers, as they are called within a sentence.
EXACT = {
    "align": "RoI Align",
    "precise-pool": "Precise RoI Pooling",
    "ps-align": "position-sensitive RoI Align",
    "rotated-align": "rotated RoI Align",
}
# So many rows a verdict names.
WORST_NAMED = 3


def give_verdict(
    table: ErrorTable,
    summary: Summary,
    parameters: Mapping[str, Any],
    worst: IntArray,
) -> list[str]:
    """How far the boxes move and how many lose most of themselves; then where to look.

    ``summary`` and ``parameters`` are the table's and the run's; ``worst`` (k,) are rows of the
    table, the worst first, of which ``WORST_NAMED`` are named.
    """
    if len(table) == 0:
        return ["There are no RoIs."]
    sentences = [_say_shift(summary, parameters)]
    sentences += filter(None, [_say_overlap(summary), _say_values(summary)])
    return [" ".join(sentences), _say_worst(table.row_numbers(worst[:WORST_NAMED]))]


def _say_shift(summary: Summary, parameters: Mapping[str, Any]) -> str:
    everything = summary.by_class[0]
    edge = everything.statistics["edge_error_max_px"]
    operator = parameters["operator"]
    name = "Average RoI Pool" if operator == "average-pool" else "RoI Pool"
    rule = f"{name} ({parameters['quantization']}, {parameters['partition']})"
    # Only these operators round so: of the others nobody may read the error as theirs.
    moves = "moves" if operator in ("pool", "average-pool") else "would move"
    strides = ", ".join(f"{1 / scale:g}" for scale in parameters["spatial_scale"])
    where = f"stride {strides}, {parameters['pixel_model']}"
    if edge.median is None:
        return f"{rule} {moves} no box: none has edges that are numbers ({where})."
    if everything.n == 1:
        moved = f"{rule} {moves} the worst edge of the box by {edge.median:.3g} px ({where})"
        return f"{moved}{_say_unmoved(parameters)}."
    return (
        f"{rule} {moves} the worst edge of a box by {edge.median:.3g} px at the median "
        f"(95 % below {edge.p95:.3g}; {where}){_say_unmoved(parameters)}."
    )


def find_exact(parameters: Mapping[str, Any]) -> str | None:
    """What people call the operator that ran where it rounds no box: the errors are not its own.

    A preset that runs by a library's own rule may round.
    """
    return None if "function" in parameters else EXACT.get(parameters["operator"])


def _say_unmoved(parameters: Mapping[str, Any]) -> str:
    exact = find_exact(parameters)
    return f", {exact} moves none" if exact else ""


def _say_overlap(summary: Summary) -> str:
    few, some = summary.little_overlap, summary.with_overlap
    if some == 0:
        return ""
    if some == 1:
        share = summary.by_class[0].statistics["iou"].median
        return f"Its region and the box have an IoU of {share:.2f}."
    if few == 0:
        return f"All {some} RoIs share at least half with their box."
    text = f"{few} of {some} RoIs share less than half with their box"
    medians = {
        group.name: group.statistics["iou"].median
        for group in summary.by_class[1:]
        if group.statistics["iou"].median is not None
    }
    if len(set(medians.values())) < 2:
        return f"{text}."
    return f"{text}; {min(medians, key=lambda name: medians[name] or 0)} ones suffer most."


def _say_values(summary: Summary) -> str:
    found = summary.by_class[0].statistics.get("value_error_relative_l2")
    if found is None or found.median is None:
        return ""
    return f"Its values are {100 * found.median:.0f} % off RoI Align's at the median (relative L2)."


def _say_worst(numbers: IntArray) -> str:
    return f"Worst: {', '.join(map(str, numbers.tolist()))}: roicli draw … --roi {numbers[0]}"
