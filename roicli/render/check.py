"""What ``check`` found: a table for people, JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from roicli.analysis.check.records import CheckReport, Finding
from roicli.core.strict_json import write_object
from roicli.core.vocabulary import Severity
from roicli.render.tables import format_count, print_folded

if TYPE_CHECKING:
    from roicli.render.documents import CheckDocument

STYLES: dict[Severity, str] = {"error": "bold red", "warning": "bold magenta", "note": "dim"}


def write_findings_json(report: CheckReport, stream: TextIO) -> None:
    """One strict JSON object."""
    document: CheckDocument = {
        "features": report.features,
        "rois": report.rois,
        "rules": report.rules,
        "skipped": report.skipped,
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "notes": report.count("note"),
        "findings": report.findings,
    }
    write_object(document, stream)


def print_findings(report: CheckReport, stream: TextIO) -> None:
    """What was looked at, then a line a finding, folded at the terminal's width."""
    stream.write(f"{_describe_inputs(report)}\n")
    rows = [
        (found.rule, (found.severity, STYLES[found.severity]), _paragraph(found))
        for found in report.findings
    ]
    if rows:
        stream.write("\n")
        print_folded(("rule", "severity", "finding"), rows, stream)
        stream.write("\n")
    stream.write(f"{_describe_outcome(report)}\n")


def describe_finding(found: Finding) -> str:
    """The message, then how many rows and the first of them."""
    if not found.rows:
        return found.message
    more = ", ..." if found.count > len(found.rows) else ""
    rows = ", ".join(map(str, found.rows))
    unit = found.unit if found.count != 1 else found.unit.removesuffix("s")
    return f"{found.message} ({found.count:,} {unit}: {rows}{more})"


def _paragraph(found: Finding) -> str:
    return f"{found.name}: {describe_finding(found)}\n> {found.advice}"


def _describe_inputs(report: CheckReport) -> str:
    lines = [
        f"{described['name']}: {tuple(described['shape'])} {described['dtype']}"
        + (f", stride {1 / described['spatial_scale']:g}" if described["spatial_scale"] else "")
        for described in report.features
    ]
    rois = report.rois
    return "\n".join([*lines, f"{rois['name']}: {tuple(rois['shape'])} {rois['dtype']}"])


def _describe_outcome(report: CheckReport) -> str:
    counts = [format_count(count, word) for word in STYLES if (count := report.count(word))]
    text = ", ".join(counts) or "nothing found"
    text += f"; {len(report.rules)} rules looked"
    if report.skipped:
        text += f", {len(report.skipped)} could not: {', '.join(report.skipped)}"
    return text
