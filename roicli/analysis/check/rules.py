"""The rules, as data, in the order of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from roicli.analysis.check import facts, guesses, maps
from roicli.analysis.check.inputs import CheckedInputs
from roicli.analysis.check.records import Draft, Limits
from roicli.core.exceptions import ParameterError
from roicli.core.vocabulary import Severity

# What a rule cannot do without: where the shape of that is wrong, the rule is skipped.
Needs = Literal["nothing", "rois", "maps", "both"]


@dataclass(frozen=True)
class Rule:
    """One rule. ``is_guess``: it infers a mistake from what the numbers look like."""

    id: str
    name: str
    severity: Severity
    needs: Needs
    find: Callable[[CheckedInputs, Limits], Iterator[Draft]]
    is_guess: bool = False

    def lacks(self, inputs: CheckedInputs) -> str | None:
        """Why the rule cannot run on these inputs, or None."""
        if self.needs in ("rois", "both") and inputs.rois is None:
            return "the RoIs have the wrong shape"
        if self.needs in ("maps", "both") and inputs.pyramid is None:
            return "the features have the wrong shape"
        return None


RULES: tuple[Rule, ...] = (
    Rule("R01", "shape", "error", "nothing", facts.find_wrong_shape),
    Rule("R02", "not finite", "error", "rois", facts.find_not_finite),
    Rule("R03", "batch index", "error", "rois", facts.find_bad_batch_index),
    Rule("R04", "crossed corners", "error", "rois", facts.find_crossed_corners),
    Rule("R05", "wholly outside", "warning", "both", facts.find_wholly_outside),
    Rule("R06", "partly outside", "warning", "both", facts.find_partly_outside),
    Rule("R07", "x and y exchanged", "warning", "both", guesses.find_swapped_axes, True),
    Rule("R08", "normalized", "warning", "both", guesses.find_normalized, True),
    Rule("R09", "other format", "warning", "both", guesses.find_other_format, True),
    Rule("R10", "scale applied twice", "warning", "both", guesses.find_already_in_cells, True),
    Rule("R11", "batch index last", "warning", "both", guesses.find_batch_index_last, True),
    Rule("R12", "below a cell", "warning", "both", facts.find_small),
    Rule("R13", "dtype loses coordinates", "warning", "rois", facts.find_lost_coordinates),
    Rule("R14", "channels last", "warning", "maps", maps.find_nhwc, True),
    Rule("R15", "bad map", "warning", "maps", maps.find_bad_maps),
    Rule("R16", "adaptive grid", "error", "both", facts.find_huge_grid),
    Rule("R17", "uneven images", "note", "both", facts.find_uneven_images),
    Rule("R18", "duplicate RoIs", "warning", "rois", facts.find_duplicates),
)


def choose_rules(select: Sequence[str] | None, ignore: Sequence[str] | None) -> tuple[Rule, ...]:
    """The rules that ``select`` names (all where it is None) without those that ``ignore`` names.

    Raises ParameterError for a rule that there is not.
    """
    known = {rule.id for rule in RULES}
    chosen = known if select is None else set(select)
    ignored = set(ignore or ())
    unknown = sorted((chosen | ignored) - known)
    if unknown:
        raise ParameterError(
            f"there is no rule {unknown[0]!r}, expected some of {RULES[0].id} to {RULES[-1].id}"
        )
    return tuple(rule for rule in RULES if rule.id in chosen - ignored)
