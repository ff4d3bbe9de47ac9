"""What the rules may tolerate, what they find, and what a check gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TypedDict, get_args

from roicli.core.exceptions import ParameterError
from roicli.core.record import frozen
from roicli.core.shown import Shown
from roicli.core.vocabulary import Severity
from roicli.pipeline.draft import Unit
from roicli.pipeline.rules import LEAST_LOST_PX


@frozen
class Limits:
    """How much of something is tolerated before a rule speaks.

    ``max_outside``, ``max_small`` and ``max_duplicates`` are shares of the RoIs, ``max_dead`` a
    share of the channels; ``max_coordinate_error`` is in
    image pixels, and reached by what is reported; ``max_imbalance`` is how
    many times the RoIs of the image with the fewest another image may have. Raises ParameterError.
    """

    max_outside: float = 0.0
    max_small: float = 0.0
    max_duplicates: float = 0.0
    max_dead: float = 0.0
    max_coordinate_error: float = LEAST_LOST_PX
    max_imbalance: float = 20.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            is_share = field.name not in ("max_coordinate_error", "max_imbalance")
            if not (0 <= value <= 1 if is_share else value >= 0):
                expected = "a share from 0 to 1" if is_share else "a number from 0"
                raise ParameterError(
                    f"{field.name.replace('_', ' ')} is {value:g}, expected {expected}"
                )


@frozen
class Finding:
    """One finding: ``count`` rows of ``where`` (FILE or FILE::DATASET), the first of them ``rows``.

    ``unit`` says what rows are: RoIs, images, channels or maps. ``message`` is what was found and,
    for a guess, why it is suspected; ``advice`` is what to do.
    """

    rule: str
    name: str
    severity: Severity
    count: int
    unit: Unit
    rows: tuple[int, ...]
    where: str
    message: str
    advice: str


class CheckedRois(TypedDict):
    """RoIs as they are stored."""

    name: str
    shape: Sequence[int]
    dtype: str


class CheckedMap(CheckedRois):
    """A level of the maps; ``spatial_scale`` is None where the shape is wrong."""

    spatial_scale: float | None


@frozen
class CheckReport(Shown):
    """What was looked at and what was found, in the order of the rules.

    ``features`` and ``rois`` describe the inputs as plain values; ``rules`` ran; ``skipped`` says
    why others, by rule number, could not.
    """

    features: tuple[CheckedMap, ...]
    rois: CheckedRois
    rules: tuple[str, ...]
    skipped: Mapping[str, str]
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """How many findings have this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def failed(self, fail_on: Severity = "error") -> bool:
        """Whether there is a finding at ``fail_on`` or worse."""
        severities = get_args(Severity)
        return any(self.count(one) for one in severities[: severities.index(fail_on) + 1])
