"""``roicli check`` for continuous integration: GitHub's annotations, SARIF, JUnit."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from roicli.analysis.check.records import CheckReport, Finding
from roicli.analysis.check.rules import RULES
from roicli.render.ci_formats import write_junit, write_sarif
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, FPN, ROIS, SCALE, TEXT_ROIS, run, save

P3 = f"{FPN}::p3"


def _write(write, report, *more):
    from io import StringIO

    stream = StringIO()
    write(report, *more, stream)
    return stream.getvalue()


def _report(where="f.npy", message="bad", skipped=None):
    finding = Finding("R02", "not finite", "error", 2, "RoIs", (3, 4), where, message, "mend")
    return CheckReport((), {}, ("R01", "R02"), skipped or {}, (finding,))


def test_sarif_of_real_data() -> None:
    log = json.loads(run("check", P3, TEXT_ROIS, "--format", "sarif").text)
    assert log["version"] == "2.1.0"
    (found,) = log["runs"]
    driver = found["tool"]["driver"]
    assert [rule["id"] for rule in driver["rules"]] == [rule.id for rule in RULES]
    (result,) = found["results"]
    assert (result["ruleId"], result["level"]) == ("R12", "warning")
    assert result["properties"]["count"] == 19
    assert len(result["properties"]["rows"]) == 10
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == {
        "uri": f"file://{TEXT_ROIS}"
    }


def test_exit_codes_are_those_of_the_table(inputs: Arrays) -> None:
    rois = inputs[1]
    rois[1, 0] = 7
    save(ROIS, rois)
    for name in ("table", "json", "github", "sarif", "junit"):
        assert run("check", FEATURES, ROIS, *SCALE, "--format", name).code == 1
        outcome = run("check", FEATURES, "none.npy", "--format", name)
        assert (outcome.code, outcome.out) == (2, b"")


@pytest.mark.parametrize(
    ("where", "uri", "dataset"),
    [
        ("a b.h5::/p3", "a%20b.h5", "/p3"),
        ("/data/ü.npy", "file:///data/%C3%BC.npy", None),
        ("s3://bucket/x.zarr::p3", "s3://bucket/x.zarr", "p3"),
    ],
)
def test_sarif_places(where: str, uri: str, dataset: str | None) -> None:
    log = json.loads(_write(write_sarif, _report(where, skipped={"R03": "no maps"})))
    (place,) = log["runs"][0]["results"][0]["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == uri
    assert [one["fullyQualifiedName"] for one in place.get("logicalLocations", [])] == (
        [dataset] if dataset else []
    )
    (said,) = log["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    assert said["message"]["text"] == "R03 could not look: no maps"


def test_junit_has_a_case_a_rule() -> None:
    for fail_on, failures in (("error", 0), ("warning", 1)):
        text = run("check", P3, TEXT_ROIS, "--format", "junit", "--fail-on", fail_on).out
        (suite,) = ElementTree.fromstring(text)
        assert suite.attrib == {
            "name": "roicli check", "tests": str(len(RULES)), "failures": str(failures),
            "errors": "0", "skipped": "0",
        }  # fmt: skip
        (case,) = [case for case in suite if len(case)]
        assert case.get("name") == "R12 below a cell"
        assert case[0].tag == ("failure" if failures else "system-out")
        assert "19 RoIs: 58" in case[0].text


def test_junit_names_what_could_not_look_and_escapes() -> None:
    report = _report(message='<b> & "x"', skipped={"R03": "no <maps>"})
    (suite,) = ElementTree.fromstring(_write(write_junit, report, "error"))
    assert suite.get("skipped") == "1"
    assert [case[0].tag for case in suite if len(case)] == ["failure", "skipped"]
    assert '<b> & "x"' in suite[1][0].text
    assert suite[2][0].get("message") == "no <maps>"


def test_names_of_strangers_are_text(inputs: Arrays) -> None:
    """A file's name may hold what XML has no place for, and bytes that are no UTF-8."""
    for name in ("\x1b]0;x\x07.npy", b"\xff.npy".decode("utf-8", "surrogateescape")):
        rois = np.load(ROIS)
        rois[1, 0] = 7
        np.save(name, rois)
        text = run("check", FEATURES, name, *SCALE, "--format", "junit").out
        assert ElementTree.fromstring(text)[0].get("failures") == "1"
        log = json.loads(run("check", FEATURES, name, *SCALE, "--format", "sarif").text)
        uri = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
        assert uri["artifactLocation"]["uri"] in ("%1B%5D0%3Bx%07.npy", "%FF.npy")
