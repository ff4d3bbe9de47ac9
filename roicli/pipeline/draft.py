"""What a rule found, before it carries the rule's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from roicli.core.record import frozen
from roicli.core.types import IntArray
from roicli.core.vocabulary import Severity

# What ``rows`` of a finding count.
Unit = Literal["RoIs", "images", "channels", "maps"]


@frozen
class Draft:
    """``count`` things of ``where`` (FILE or FILE::DATASET); ``rows`` are all of them, in order.

    ``message`` is what was found, ``advice`` what to do; ``severity`` None is the rule's own.
    """

    count: int
    rows: Sequence[int] | IntArray
    message: str
    advice: str
    unit: Unit = "RoIs"
    where: str = ""
    severity: Severity | None = None


def and_more(rows: IntArray) -> str:
    """How many rows there are where the first one was named, and is not the only one."""
    return f" ({len(rows)} such rows)" if len(rows) > 1 else ""
