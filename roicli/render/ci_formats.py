"""What ``check`` found, as continuous integration reads it: annotations, SARIF, JUnit."""

from __future__ import annotations

from typing import Any, TextIO, get_args

from roicli.analysis.check.records import CheckReport, Finding
from roicli.analysis.check.rules import RULES, describe_rule
from roicli.core.foreign import raw_text
from roicli.core.strict_json import encode
from roicli.core.version import __version__
from roicli.core.vocabulary import Severity
from roicli.render.check import describe_finding

# GitHub calls a note a notice.
GITHUB_COMMANDS: dict[Severity, str] = {"error": "error", "warning": "warning", "note": "notice"}
SARIF_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def write_annotations(report: CheckReport, stream: TextIO) -> None:
    """One workflow command a finding (GitHub Actions, workflow commands), so that it is shown."""
    for found in report.findings:
        file = _escape(found.where.partition("::")[0], ",:")
        title = _escape(f"{found.rule} {found.name}", ",:")
        text = _escape(f"{describe_finding(found)}; {found.advice}")
        stream.write(f"::{GITHUB_COMMANDS[found.severity]} file={file},title={title}::{text}\n")


def _escape(text: str, more: str = "") -> str:
    """Percent signs and line ends; in a property commas and colons too."""
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def write_sarif(report: CheckReport, stream: TextIO) -> None:
    """One log of one run (OASIS, SARIF 2.1.0), which GitHub's code scanning and editors show.

    Rules that could not look are notifications of the run, and the rows stand in ``properties``.
    """
    rules = [rule for rule in map(describe_rule, RULES) if rule["id"] in report.rules]
    driver = {
        "name": "roicli",
        "version": __version__,
        "rules": [
            {
                "id": rule["id"],
                "name": rule["name"],
                "shortDescription": {"text": rule["meaning"]},
                "defaultConfiguration": {"level": rule["severity"]},
            }
            for rule in rules
        ],
    }
    skipped = [
        {"level": "note", "message": {"text": f"{rule} could not look: {reason}"}}
        for rule, reason in report.skipped.items()
    ]
    run = {
        "tool": {"driver": driver},
        "invocations": [
            {"executionSuccessful": True, "toolExecutionNotifications": skipped},
        ],
        "results": [_sarif_result(found) for found in report.findings],
    }
    log = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    stream.write(encode(log, indent=2) + "\n")


def _sarif_result(found: Finding) -> dict[str, Any]:
    """One result; a dataset of a file is a logical location within it."""
    file, _, dataset = found.where.partition("::")
    place: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": _uri(file)}}}
    if dataset:
        place["logicalLocations"] = [{"fullyQualifiedName": dataset}]
    return {
        "ruleId": found.rule,
        "level": found.severity,
        "message": {"text": f"{describe_finding(found)}; {found.advice}"},
        "locations": [place],
        "properties": {"count": found.count, "unit": found.unit, "rows": list(found.rows)},
    }


def _uri(name: str) -> str:
    """A file's name, relative or not, or a URL, as a URI reference."""
    from urllib.parse import quote

    raw = raw_text(name)
    if "://" in raw:
        return raw
    escaped = quote(raw, errors="surrogateescape")
    return f"file://{escaped}" if escaped.startswith("/") else escaped


def write_junit(report: CheckReport, fail_on: Severity, stream: TextIO) -> None:
    """One suite with a case a rule, as JUnit's XML, which Jenkins, GitLab and Azure show.

    A finding from the severity ``fail_on`` on is a failure, one below it is the case's output.
    """
    from xml.etree import ElementTree as Xml

    names = {rule.id: rule.name for rule in RULES}
    severities: tuple[Severity, ...] = get_args(Severity)
    failing = severities[: severities.index(fail_on) + 1]
    suite = Xml.Element("testsuite", name="roicli check")
    failed = 0
    for rule in (*report.rules, *report.skipped):
        case = Xml.SubElement(
            suite, "testcase", classname="roicli.check", name=f"{rule} {names[rule]}"
        )
        if rule in report.skipped:
            Xml.SubElement(case, "skipped", message=report.skipped[rule])
            continue
        found = [one for one in report.findings if one.rule == rule]
        failures = [one for one in found if one.severity in failing]
        failed += bool(failures)
        if failures:
            failure = Xml.SubElement(
                case, "failure", type=failures[0].severity, message=_in_xml(failures[0])
            )
            failure.text = "\n".join(map(_in_xml, failures))
        if others := [one for one in found if one not in failures]:
            Xml.SubElement(case, "system-out").text = "\n".join(map(_in_xml, others))
    counts = {"tests": len(suite), "failures": failed, "errors": 0, "skipped": len(report.skipped)}
    for name, count in counts.items():
        suite.set(name, str(count))
    root = Xml.Element("testsuites")
    root.append(suite)
    Xml.indent(root)
    stream.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    stream.write(Xml.tostring(root, encoding="unicode") + "\n")


def _in_xml(found: Finding) -> str:
    """A finding in a line. XML has no place for control characters; names have them escaped."""
    return f"{found.severity}: {found.where}: {describe_finding(found)}; {found.advice}"
