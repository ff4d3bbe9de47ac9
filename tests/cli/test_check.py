"""``roicli check`` as a user runs it."""

import json

import numpy as np
import pytest

import roicli
from tests.cli.conftest import Arrays
from tests.cli.running import (
    FEATURES,
    FPN,
    ROIS,
    SCALE,
    TEXT_ROIS,
    refuse,
    run,
    run_process,
    save,
    save_h5,
    succeed,
)

P3 = f"{FPN}::p3"


def as_json(*args, code=0, **options):
    outcome = run("check", *args, "--format", "json", **options)
    assert outcome.code == code, outcome.err
    return json.loads(outcome.text)


def rules(found):
    return [finding["rule"] for finding in found["findings"]]


def test_real_data_has_small_rois_and_nothing_else() -> None:
    found = as_json(P3, TEXT_ROIS)
    assert rules(found) == ["R12"]
    assert found["schema_version"] == 1
    assert found["features"] == [
        {"name": f"{FPN}::/p3", "shape": [2, 24, 64, 64], "dtype": "float32",
         "spatial_scale": 0.125}
    ]  # fmt: skip
    assert found["rois"] == {"name": TEXT_ROIS, "shape": [102, 5], "dtype": "float32"}
    assert (found["errors"], found["warnings"], found["notes"]) == (0, 1, 0)
    (finding,) = found["findings"]
    rows = np.load(TEXT_ROIS)
    small = np.flatnonzero(((rows[:, 3:] - rows[:, 1:3]) / 8 < 1).any(axis=1))
    assert finding["count"] == len(small)
    assert finding["rows"] == small[:10].tolist()
    assert set(finding) == {
        "rule", "name", "severity", "count", "unit", "rows", "where", "message", "advice",
    }  # fmt: skip


def test_exit_codes(inputs: Arrays) -> None:
    assert run("check", P3, TEXT_ROIS).code == 0
    assert run("check", P3, TEXT_ROIS, "--fail-on", "warning").code == 1
    assert run("check", P3, TEXT_ROIS, "--fail-on", "warning", "--ignore", "r12").code == 0
    assert run("check", P3, TEXT_ROIS, "--fail-on", "warning", "--max-small", "0.2").code == 0
    rois = inputs[1]
    rois[1, 0] = 7
    save(ROIS, rois)
    assert run("check", FEATURES, ROIS, *SCALE).code == 1
    assert run("check", FEATURES, ROIS, *SCALE, "--select", "R04").code == 0
    refuse("check", FEATURES, "none.npy", words=("none.npy: no such file",))
    refuse("check", FEATURES, ROIS, "--select", "R77", words=("there is no rule 'R77'",))
    refuse("check", FEATURES, ROIS, "--max-dead", "2", words=("max dead is 2",))
    refuse("check", "-", "-", words=("stdin can be read only once",))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((3, 6)), "scores and classes"),
        (np.zeros((5, 2)), "transposed"),
        (np.zeros(5), "(5,)"),
        (np.zeros((2, 4)), "4 columns"),
    ],
)
def test_a_wrong_shape_is_a_finding(inputs: Arrays, values, words: str) -> None:
    for path in (save("odd.npy", values), save_h5("odd.h5", boxes=values), "odd.h5::boxes"):
        found = as_json(FEATURES, path, *SCALE, code=1)
        assert rules(found)[0] == "R01"
        assert words in found["findings"][0]["message"]


def test_features_of_a_wrong_shape_are_a_finding(inputs: Arrays) -> None:
    for path in (save("odd.npy", inputs[0][0, 0]), save_h5("odd.h5", map=inputs[0][0, 0])):
        found = as_json(path, ROIS, *SCALE, code=1)
        assert rules(found) == ["R01"]
        assert found["findings"][0]["unit"] == "maps"
        assert set(found["skipped"]) > {"R05", "R12", "R15"}
        text = run("check", path, ROIS, *SCALE).text
        assert "could not: R05" in text


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x93NUMPY\x01\x00v"])
def test_what_cannot_be_read_is_no_finding(inputs: Arrays, folder, content: bytes) -> None:
    for name in ("bad.npy", "bad.h5"):
        (folder / name).write_bytes(content)
        refuse("check", name, ROIS, words=(name,))
        refuse("check", FEATURES, name, words=(name,))
    save("text.npy", np.array(["a", "b"]))
    refuse("check", FEATURES, "text.npy", words=("text.npy: dtype is",))
    save_h5("two.h5", a=np.zeros((2, 3)), b=np.zeros((2, 3)))
    refuse("check", FEATURES, "two.h5", words=("no dataset is numeric and 2-D with 5 columns",))


def test_what_align_refuses_is_found(inputs: Arrays) -> None:
    rois = inputs[1]
    rois[0, 2], rois[2, 0], rois[3, 3] = np.nan, 0.5, 0
    save(ROIS, rois)
    assert run("align", FEATURES, ROIS, *SCALE).code == 2
    found = as_json(FEATURES, ROIS, *SCALE, code=1)
    assert rules(found) == ["R02", "R03", "R04"]
    assert [f["rows"] for f in found["findings"]] == [[0], [2], [3]]


def test_github_annotations(inputs: Arrays) -> None:
    rois = np.vstack([inputs[1], inputs[1][:1]])
    rois[1, 0] = 9
    save("100%,a.npy", rois[:, :])
    outcome = run("check", FEATURES, "100%,a.npy", *SCALE, "--format", "github")
    lines = outcome.text.splitlines()
    assert outcome.code == 1
    assert lines[0].startswith("::error file=100%25%2Ca.npy,title=R03 batch index::row 1, col")
    assert lines[1].startswith("::warning file=100%25%2Ca.npy,title=R18 duplicate RoIs::RoIs")
    save(ROIS, inputs[1][:1])
    lines = succeed("check", FEATURES, ROIS, *SCALE, "--format", "github").text.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::notice"]


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_the_table_fits_and_loses_nothing(inputs: Arrays, width: str) -> None:
    rois = np.repeat(inputs[1], 8, axis=0)
    rois[::3, 0], rois[1, 1], rois[2, 3:] = -2, np.nan, -1
    save(ROIS, rois)
    outcome = run("check", FEATURES, ROIS, *SCALE, COLUMNS=width)
    assert "\u2026" not in outcome.text
    # What is looked at and the outcome may be longer than the terminal; the table is not.
    table = outcome.text.split("\n\n")[1]
    assert max(map(len, table.splitlines())) <= int(width)
    found = as_json(FEATURES, ROIS, *SCALE, code=1)
    words = "".join(outcome.text.split())
    for finding in found["findings"]:
        assert "".join(finding["message"].split()) in words
        assert "".join(finding["advice"].split()) in words


def test_pyramids_scales_and_stdin(inputs: Arrays, folder) -> None:
    found = as_json(FPN, TEXT_ROIS, "--levels", "p3,p4,p5")
    assert [level["spatial_scale"] for level in found["features"]] == [1 / 8, 1 / 16, 1 / 32]
    assert rules(found) == ["R12"]
    with open(TEXT_ROIS, "rb") as stream:
        assert rules(as_json(P3, "-", stdin=stream.read())) == ["R12"]
    found = as_json(P3, TEXT_ROIS, "--spatial-scale", "1", code=1)
    assert {"R05", "R06"} <= set(rules(found))
    args = (P3, TEXT_ROIS, "--spatial-scale", "64", "--select", "R16", "--output-size", "1")
    assert rules(as_json(*args, "--sampling-ratio", "0", code=1)) == ["R16"]
    assert rules(as_json(*args)) == []
    (folder / "r.csv").write_text("image,x,y,w,h\n0,1,2,30,20\n")
    found = as_json(FEATURES, "r.csv", *SCALE, "--roi-format", "xywh", "--select", "R04,R05,R06")
    assert rules(found) == []


def test_normalized(inputs: Arrays) -> None:
    save(ROIS, inputs[1] / [1, 64, 48, 64, 48])
    assert "R08" in rules(as_json(FEATURES, ROIS, *SCALE, code=1))
    found = as_json(FEATURES, ROIS, *SCALE, "--normalized", "--image-size", "48x64")
    assert rules(found) == []


def test_quiet_leaves_the_exit_code(inputs: Arrays) -> None:
    save(ROIS, -inputs[1])
    outcome = run("check", FEATURES, ROIS, "-q")
    assert (outcome.code, outcome.out, outcome.err) == (1, b"", "")
    outcome = run("check", FEATURES, ROIS, "-q", "--format", "json")
    assert (outcome.code, json.loads(outcome.text)["errors"], outcome.err) == (1, 2, "")
    outcome = succeed("check", FEATURES, FEATURES, "--select", "R15")
    assert "no attribute spatial_scale, taking --spatial-scale 1.0" in outcome.err


def test_the_library_call_finds_the_same(inputs: Arrays) -> None:
    report = roicli.check(FEATURES, inputs[1], spatial_scale=0.25)
    assert isinstance(report, roicli.CheckReport)
    assert [f.rule for f in report.findings] == rules(as_json(FEATURES, ROIS, *SCALE))


def test_in_a_process_of_its_own() -> None:
    outcome = run_process("check", P3, TEXT_ROIS, "--fail-on", "warning", COLUMNS="80")
    assert (outcome.code, outcome.err) == (1, "")
    assert "1 warning; 20 rules looked" in outcome.text
