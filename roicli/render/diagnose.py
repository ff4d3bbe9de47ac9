"""A diagnosis for a terminal and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from roicli.analysis.diagnose.candidates import Candidate
from roicli.analysis.diagnose.run import FAR, Diagnosis, PartialMatch, RoiGroup
from roicli.analysis.diagnose.search import Finding
from roicli.analysis.result.rows import RowMatch
from roicli.core.strict_json import write_object
from roicli.operators.convention import BOXES
from roicli.operators.libraries import LibraryFunction
from roicli.operators.phrases import PARTITIONS, coordinates_word
from roicli.render.screen import terminal_width
from roicli.render.tables import format_count, format_short

if TYPE_CHECKING:
    from roicli.render.documents import (
        ConventionFinding,
        ConventionFound,
        DiagnoseDocument,
        LibraryRow,
        MatchedRows,
        PartialFinding,
    )

SYNONYMS_SHOWN = 8
RUNS_SHOWN = 12
LIBRARIES_SHOWN = 12
MODE_WORDS = {"mean": "avg"}


def write_diagnosis_json(found: Diagnosis, stream: TextIO) -> None:
    """One strict object; ``match`` is null where nothing explains every RoI."""
    document: DiagnoseDocument = {
        "match": _finding_object(found.match),
        "distance": found.distance,
        "libraries": [_library_object(row) for row in found.libraries],
        "needs": [
            {"rule": need.words, "rows": list(need.rows), "reason": need.reason}
            for need in found.needs
        ],
        "synonyms": [candidate_object(c) for c in found.synonyms] if found.match else [],
        "partial": None if found.partial is None else _partial_object(found.partial),
        "nearest": _finding_object(found.nearest),
        "runner_up": _finding_object(found.runner_up),
        "told_apart": found.told_apart,
        "tolerance": found.tolerance,
        "candidates": found.candidates,
        "left_out": found.left_out,
        "rois": found.rois,
        "rois_compared": found.rois_compared,
        "channels_compared": found.channels_compared,
        "axes": found.alignment.axes,
        "rows": _rows_object(found.alignment.rows),
        "seconds": found.seconds,
    }
    write_object(document, stream)


def _rows_object(rows: RowMatch | None) -> MatchedRows | None:
    """The result's rows, and the RoIs that they are of."""
    if rows is None:
        return None
    return {
        "result": rows.a.tolist(),
        "rois": rows.b.tolist(),
        "only_result": rows.only_a.tolist(),
        "only_rois": rows.only_b.tolist(),
    }


def candidate_object(candidate: Candidate) -> ConventionFound:
    """Its name, its parameters (null where the operator has none such), and roicli's command.

    ``parameters`` are those in which it differs from the plain point of its operator.
    """
    convention = candidate.convention
    points = not convention.reads_cells and convention.reduction != "integral"
    cells = convention.reads_cells
    quantization = next((word for word, box in BOXES.items() if box == convention.box), None)
    return {
        "name": candidate.name,
        "operator": candidate.operator,
        "parameters": candidate.parameters,
        "mode": MODE_WORDS.get(convention.reduction, convention.reduction) if points else None,
        "coordinates": coordinates_word(convention.box) if points else None,
        "sampling_ratio": convention.sampling_ratio if points else None,
        "sampling_grid": convention.grid if points else None,
        "quantization": quantization if cells else None,
        "partition": PARTITIONS.get(convention.cut, "overlap") if cells else None,
        "oddity": candidate.oddity_name,
        "roi_scale": list(candidate.oddity.stretch),
        "roi_offset_px": list(candidate.oddity.offset_px),
        "command": candidate.command,
    }


def _library_object(row: LibraryFunction) -> LibraryRow:
    return {"name": row.name, "version": row.version, "source": row.source}


def _finding_object(finding: Finding | None) -> ConventionFinding | None:
    if finding is None:
        return None
    return {
        **candidate_object(finding.candidate),
        "distance": finding.distance,
        "max_difference": finding.max_difference,
    }


def _partial_object(part: PartialMatch) -> PartialFinding:
    return {
        **candidate_object(part.finding.candidate),
        "distance": part.finding.distance,
        "max_difference": part.finding.max_difference,
        "rows": list(part.rows),
        "others": part.others,
        "libraries": [_library_object(row) for row in part.libraries],
    }


def print_diagnosis(found: Diagnosis, stream: TextIO) -> None:
    """The match and what gives the same numbers, then the runner-up, with their distances."""
    for line in found.alignment.describe():
        _print_line(f"{line[0].upper()}{line[1:]}", stream)
    if found.match is not None:
        _print_finding("Match", found.match, stream)
        _print_command(found.match.candidate, found.synonyms, stream)
        _print_needs(found, stream)
        _print_libraries(found.libraries, stream)
        _print_synonyms(found.synonyms, stream)
    else:
        _print_line(f"No match: {_describe_failure(found)}.", stream)
        if found.partial is not None:
            _print_partial(found.partial, stream)
            _print_synonyms(found.synonyms, stream)
        elif found.nearest is not None:
            _print_finding("Nearest", found.nearest, stream)
            _print_synonyms(found.synonyms, stream)
    if found.runner_up is not None:
        _print_finding("Runner-up", found.runner_up, stream)
    elif found.match is not None:
        _print_line(f"Runner-up: none within a distance of {FAR:g}", stream)
    for group in found.left_out:
        _print_line(f"Left out: {_describe_group(group)}", stream)
    _print_line(
        f"{found.candidates} candidates, the nearest on {found.rois_compared} of {found.rois} RoIs "
        f"and {found.channels_compared} channels; a match is within {found.tolerance:.2g} "
        "of how the result varies, on every RoI",
        stream,
    )


def _print_command(candidate: Candidate, synonyms: Sequence[Candidate], stream: TextIO) -> None:
    """What runs the match, by whichever of its names can be run."""
    told = next((one.command for one in (candidate, *synonyms) if one.command), None)
    if told is not None:
        _print_line(f"Same as: {told}", stream, indent=2)
        return
    filled = replace(candidate, convention=replace(candidate.convention, empty="0"))
    if filled.command is not None:
        _print_line(f"Same as, but for 0 in an empty bin: {filled.command}", stream, indent=2)


def _describe_failure(found: Diagnosis) -> str:
    if found.alignment.rows is not None and found.nearest is not None:
        return "rows are not the RoIs', one by one; --match-rows takes each as its RoI's"
    if found.zeros:
        return "the result is 0 wherever it was looked at, and zeros come from anywhere"
    if not found.told_apart:
        same = "" if found.distance <= found.tolerance else ", and the result has others"
        return f"this data cannot tell conventions apart: they give the same numbers on it{same}"
    if found.partial is not None:
        return "nothing explains every RoI"
    if found.nearest is None:
        return f"nothing is within {FAR:g} of the result, too far for any name"
    return f"nothing is within {found.tolerance:.2g} of the result"


def _print_needs(found: Diagnosis, stream: TextIO) -> None:
    for need in found.needs:
        count = len(need.rows)
        others = f"the {count} others" if count > 1 else "the other one"
        reason = f", all {need.reason}" if need.reason else ""
        _print_line(
            f"without {need.words!r} on {found.rois_compared - count} of {found.rois_compared} "
            f"RoIs; {others}{reason}: {format_rows(need.rows)}",
            stream,
            indent=2,
        )


def _print_libraries(libraries: Sequence[LibraryFunction], stream: TextIO) -> None:
    if libraries:
        names = [f"{row.name} ({row.version})" for row in libraries[:LIBRARIES_SHOWN]]
        if len(libraries) > LIBRARIES_SHOWN:
            names.append(f"and {len(libraries) - LIBRARIES_SHOWN} more (--format json)")
        _print_line(f"As: {', '.join(names)}", stream, indent=2)


def _print_partial(part: PartialMatch, stream: TextIO) -> None:
    others = sum(len(group.rows) for group in part.others)
    _print_finding("Partial match", part.finding, stream)
    _print_line(
        f"on {len(part.rows)} of {len(part.rows) + others} RoIs: {format_rows(part.rows)}",
        stream,
        indent=2,
    )
    _print_libraries(part.libraries, stream)
    for group in part.others:
        _print_line(f"not on {_describe_group(group)}", stream, indent=2)


def _describe_group(group: RoiGroup) -> str:
    count = len(group.rows)
    rows = format_rows(group.rows)
    return f"{format_count(count, 'RoI')} {group.reason}: {rows}"


def format_rows(rows: Sequence[int]) -> str:
    """Row numbers (rising) with runs of them joined, the first few: ``0-5, 7, 9-21, ...``."""
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:RUNS_SHOWN]]
    return ", ".join([*shown, "..."] if len(runs) > RUNS_SHOWN else shown)


def _print_synonyms(synonyms: Sequence[Candidate], stream: TextIO) -> None:
    if not synonyms:
        return
    _print_line("The same numbers on this data:", stream, indent=2)
    for candidate in synonyms[:SYNONYMS_SHOWN]:
        _print_line(candidate.name, stream, indent=4)
    if len(synonyms) > SYNONYMS_SHOWN:
        more = len(synonyms) - SYNONYMS_SHOWN
        _print_line(f"and {more} more, all of them with --format json", stream, indent=4)


def _print_finding(title: str, finding: Finding, stream: TextIO) -> None:
    _print_line(f"{title}: {finding.candidate.name}", stream)
    _print_line(
        f"distance {format_short(finding.distance)} of how the result varies, "
        f"largest difference {format_short(finding.max_difference)}",
        stream,
        indent=2,
    )


def _print_line(text: str, stream: TextIO, indent: int = 0) -> None:
    """A line, folded between words where the terminal is narrower."""
    width = terminal_width()
    first = " " * indent
    lines = textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=f"{first}  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    stream.write("\n".join(lines) + "\n")
