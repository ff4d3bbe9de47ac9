"""What verify-model found, for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from roicli.core.strict_json import write_object
from roicli.render.capture import describe_options
from roicli.render.diagnose import format_rows
from roicli.render.tables import format_short, print_folded

if TYPE_CHECKING:
    from roicli.analysis.verify_model import Agreement, ModelCheck, NodeCheck
    from roicli.render.documents import ModelCheckDocument

LIBRARIES_SHOWN = 4


def write_model_check_json(found: ModelCheck, stream: TextIO) -> None:
    """One strict object."""
    document: ModelCheckDocument = {
        "source": found.source,
        "findings": found.findings,
        "nodes": found.nodes,
        "against": found.deployments,
    }
    write_object(document, stream)


def print_model_check(found: ModelCheck, stream: TextIO) -> None:
    """A row a node, then what other rules would cost, then the other results."""
    rows = [
        [one.node, one.operator, f"{one.rois:,}", describe_agreement(one.own)]
        for one in found.nodes
    ]
    print_folded(["node", "operator", "RoIs", "with its attributes, computed again"], rows, stream)
    costs = [[one.node, _describe_costs(one)] for one in found.nodes if one.costs]
    if costs:
        stream.write("\n")
        print_folded(["node", "what another rule would change, relative L2"], costs, stream)
    if found.deployments:
        stream.write("\n")
        others = [[one.node, one.source, describe_agreement(one.agreement)]
                  for one in found.deployments]  # fmt: skip
        print_folded(["node", "against", "with the node's own result"], others, stream)
    options = {one.head: one.options for one in found.nodes}
    stream.write("\n")
    stream.writelines(
        f"{head}: {describe_options(_without_scale(own))}\n" for head, own in options.items()
    )


def _without_scale(options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "spatial_scale"}


def _describe_costs(one: NodeCheck) -> str:
    return "; ".join(
        f"{cost.rule}: median {100 * cost.relative_l2_median:.1f} %, "
        f"p95 {100 * cost.relative_l2_p95:.1f} %"
        for cost in one.costs
    )


def describe_agreement(found: Agreement) -> str:
    """The outcome in words."""
    match found.outcome:
        case "equal bits" | "no RoIs":
            return found.outcome
        case "within rounding":
            return f"within rounding, largest difference {format_short(found.max_difference)}"
        case "the same rule":
            return f"the same rule, rounded otherwise{_describe_distance(found)}"
        case "another convention":
            whose = _list(found.libraries)
            return f"follows {found.convention}{whose}{_describe_distance(found)}"
        case "unexplained":
            return f"no convention gives these numbers{_describe_distance(found)}"


def _list(libraries: Sequence[str]) -> str:
    if not libraries:
        return ""
    left = len(libraries) - LIBRARIES_SHOWN
    more = f" and {left} more" if left > 0 else ""
    return f" (as {', '.join(libraries[:LIBRARIES_SHOWN])}{more})"


def _describe_distance(found: Agreement) -> str:
    if found.max_difference == float("inf"):
        return ""
    rows = format_rows(found.rows)
    return f"; differs by up to {format_short(found.max_difference)}, on RoIs {rows}"
