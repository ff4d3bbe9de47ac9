"""The rules, as data, in the order of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from roicli.analysis.check import facts, maps
from roicli.analysis.check.inputs import CheckedInputs
from roicli.analysis.check.records import Limits
from roicli.core.exceptions import ParameterError
from roicli.core.record import frozen
from roicli.core.vocabulary import Severity
from roicli.pipeline.draft import Draft
from roicli.pipeline.rules import NEEDED, ROI_RULES, RoiRule

# What a rule cannot do without: where the shape of that is wrong, the rule is skipped.
Needs = Literal["nothing", "rois", "maps", "both"]


@frozen
class Rule:
    """One rule. ``severity`` is what it says where a finding has none of its own.

    ``is_guess``: it infers a mistake from what the numbers look like.
    """

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


# What tells the same as a rule on RoIs, of maps alone.
OF_MAPS = {"R14": maps.find_nhwc}


def describe_rule(rule: Rule) -> dict[str, str | bool]:
    """What people ask of a rule. Its meaning is what its function says of itself."""
    meaning = (rule.find.__doc__ or "").partition("\n")[0].partition(": ")[2]
    return {
        "id": rule.id,
        "name": rule.name,
        "severity": rule.severity,
        "guess": rule.is_guess,
        "ignorable": rule.id not in NEEDED,
        "meaning": meaning[:1].upper() + meaning[1:] if meaning[:2].isalpha() else meaning,
    }


def _shared(rule: RoiRule) -> Rule:
    """A rule that the operators obey, told of what ``check`` tolerates; where it finds nothing, the
    maps alone may.
    """
    of_maps = OF_MAPS.get(rule.id)

    def find(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
        tolerated = rule.tolerated if rule.limit is None else getattr(limits, rule.limit)
        found = () if inputs.rois is None else tuple(rule.find(inputs.rois, tolerated))
        yield from found or (of_maps(inputs, limits) if of_maps else ())

    find.__doc__ = rule.find.__doc__
    needs: Needs = "maps" if of_maps else "both" if rule.needs == "maps" else "rois"
    return Rule(rule.id, rule.name, rule.severity, needs, find, rule.is_guess)


RULES: tuple[Rule, ...] = tuple(
    sorted(
        (
            *map(_shared, ROI_RULES),
            Rule("R01", "shape", "error", "nothing", facts.find_wrong_shape),
            Rule("R06", "partly outside", "warning", "both", facts.find_partly_outside),
            Rule("R12", "below a cell", "warning", "both", facts.find_small),
            Rule("R15", "bad map", "warning", "maps", maps.find_bad_maps),
            Rule("R16", "adaptive grid", "error", "both", facts.find_huge_grid),
            Rule("R17", "uneven images", "note", "both", facts.find_uneven_images),
            Rule("R18", "duplicate RoIs", "warning", "rois", facts.find_duplicates),
            Rule("R20", "slow chunks", "note", "maps", maps.find_slow_chunks),
        ),
        key=lambda rule: rule.id,
    )
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
