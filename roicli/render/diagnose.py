"""A diagnosis for a terminal and as JSON."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any, TextIO

from roicli.analysis.diagnose.conventions import AlignConvention, Convention
from roicli.analysis.diagnose.run import Diagnosis, Finding
from roicli.render.json import format_short, write_object

SYNONYMS_SHOWN = 8


def write_diagnosis_json(found: Diagnosis, stream: TextIO) -> None:
    """One strict object; ``match`` is null where nothing is within the tolerance."""
    payload = {
        "match": None if found.match is None else _finding_object(found.match),
        "distance": found.nearest.distance,
        "synonyms": [convention_object(c) for c in found.synonyms] if found.match else [],
        "nearest": _finding_object(found.nearest),
        "runner_up": None if found.runner_up is None else _finding_object(found.runner_up),
        "tolerance": found.tolerance,
        "candidates": found.candidates,
        "rois": found.rois,
        "rois_compared": found.rois_compared,
        "channels_compared": found.channels_compared,
    }
    write_object(payload, stream)


def convention_object(convention: Convention) -> dict[str, Any]:
    """Its name, its parameters (null where the operator has none such), and roicli's command."""
    align = convention if isinstance(convention, AlignConvention) else None
    pool = None if isinstance(convention, AlignConvention) else convention
    return {
        "name": convention.name,
        "operator": convention.operator,
        "mode": align.reduction if align else None,
        "coordinates": align.coordinates if align else None,
        "sampling_ratio": align.sampling_ratio if align else None,
        "sampling_grid": align.sampling_grid if align else None,
        "quantization": pool.quantization if pool else None,
        "partition": pool.partition if pool else None,
        "oddity": convention.oddity.name,
        "command": convention.command,
    }


def _finding_object(finding: Finding) -> dict[str, Any]:
    return {
        **convention_object(finding.convention),
        "distance": finding.distance,
        "max_difference": finding.max_difference,
    }


def print_diagnosis(found: Diagnosis, stream: TextIO) -> None:
    """The match and what gives the same numbers, then the runner-up, with their distances."""
    if found.match is None:
        why = f"nothing is within {found.tolerance:g} of the result"
        if found.nearest.distance <= found.tolerance:
            why = "the result is 0 wherever it was looked at, and zeros come from anywhere"
        _print_line(f"No match: {why}.", stream)
    _print_finding("Nearest" if found.match is None else "Match", found.nearest, stream)
    command = found.nearest.convention.command
    if found.match is not None and command is not None:
        _print_line(f"Same as: {command}", stream, indent=2)
    if found.synonyms:
        _print_line("The same numbers on this data:", stream, indent=2)
        for convention in found.synonyms[:SYNONYMS_SHOWN]:
            _print_line(convention.name, stream, indent=4)
        if len(found.synonyms) > SYNONYMS_SHOWN:
            more = len(found.synonyms) - SYNONYMS_SHOWN
            _print_line(f"and {more} more, all of them with --format json", stream, indent=4)
    if found.runner_up is None:
        _print_line("Runner-up: none, all candidates give these numbers", stream)
    else:
        _print_finding("Runner-up", found.runner_up, stream)
    _print_line(
        f"{found.candidates} candidates, the nearest on {found.rois_compared} of {found.rois} RoIs "
        f"and {found.channels_compared} channels; a match is within {found.tolerance:.2g}",
        stream,
    )


def _print_finding(title: str, finding: Finding, stream: TextIO) -> None:
    _print_line(f"{title}: {finding.convention.name}", stream)
    _print_line(
        f"distance {format_short(finding.distance)} (relative L2), "
        f"largest difference {format_short(finding.max_difference)}",
        stream,
        indent=2,
    )


def _print_line(text: str, stream: TextIO, indent: int = 0) -> None:
    """A line, folded between words where the terminal is narrower."""
    width = shutil.get_terminal_size().columns
    first = " " * indent
    lines = textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=f"{first}  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    stream.write("\n".join(lines) + "\n")
