"""``roicli compare`` as a user runs it."""

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.cli.running import FEATURES, ROIS, SCALE, refuse, run, save, save_h5, succeed

pytestmark = pytest.mark.usefixtures("inputs")
STRICT: dict[str, Any] = {"parse_constant": pytest.fail}


@pytest.fixture
def results(inputs: Any) -> None:
    """aligned.h5 and legacy.h5, made by align."""
    for name, flag in (("aligned.h5", "--aligned"), ("legacy.h5", "--no-aligned")):
        succeed("align", FEATURES, ROIS, *SCALE, flag, "-o", name, "-q")


@pytest.mark.usefixtures("results")
def test_equal_to_itself() -> None:
    outcome = succeed("compare", "aligned.h5", "aligned.h5", "--atol", "0", "--rtol", "0")
    assert "Equal: 0 of" in outcome.text
    assert "worst" not in outcome.text
    assert outcome.err == ""


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_table(columns: str) -> None:
    outcome = run("compare", "aligned.h5", "legacy.h5", "--rows", "2", COLUMNS=columns)
    lines = outcome.text.splitlines()
    assert outcome.code == 1
    assert lines[3] == "A was aligned, B was not"
    assert "pixel_model: A has half-pixel, B has legacy" in lines
    assert any(line.startswith("Different: ") for line in lines)
    assert any(line.startswith("1e-01 to 1e+00") and line.endswith("#") for line in lines)
    assert "\u2026" not in outcome.text
    assert max(map(len, lines[8:])) <= 60


@pytest.mark.usefixtures("results")
def test_json_is_strict() -> None:
    outcome = run("compare", "aligned.h5", "legacy.h5", "--format", "json")
    found = json.loads(outcome.text, **STRICT)
    assert outcome.code == 1
    assert found["schema_version"] == 1
    assert found["equal"] is False
    assert found["provenance_differences"][0] == {"name": "aligned", "a": True, "b": False}
    assert found["shape"] == [5, 3, 7, 7]
    assert found["ulp"]["dtype"] == "float32"
    assert len(found["worst_rois"]) == 5
    assert set(found["worst_channels"][0]) == {
        "channel", "max_difference", "mean_difference", "relative_l2", "cosine",
    }  # fmt: skip
    assert sum(part["count"] for part in found["histogram"]) == found["elements"]


def test_npy_datasets_tolerances_and_nan() -> None:
    a = np.linspace(1, 2, 24).reshape(2, 3, 4)
    b = a.copy()
    b[1, 2, 3] += 0.25
    save("a.npy", a)
    save_h5("b.h5", group__deep=b, other=np.zeros(3))
    pair = ("compare", "a.npy", "b.h5::group/deep")
    assert run(*pair).code == 1
    assert run(*pair, "--atol", "0.3").code == 0
    assert run(*pair, "--rtol", "0.3").code == 0
    assert run(*pair, "--stat", "mean", "--atol", "0.02").code == 0
    assert run(*pair, "--stat", "max", "--rtol", "0.05").code == 1
    assert "p99 of |a - b| is" in run(*pair, "--stat", "p99").text
    a[0, 0, 0] = np.nan
    save("nan.npy", a)
    outcome = run("compare", "nan.npy", "nan.npy", "--format", "json")
    assert outcome.code == 1
    found = json.loads(outcome.text, **STRICT)
    assert found["not_finite"] == 1
    assert found["worst_rois"][0]["max_difference"] is None
    assert "NaN or infinite" in run("compare", "nan.npy", "nan.npy").text
    assert run("compare", "nan.npy", "nan.npy", "--equal-nan").code == 0


@pytest.mark.usefixtures("results")
def test_roi_features_are_the_default_and_stdin_is_read() -> None:
    with h5py.File("aligned.h5") as file:
        values = file["roi_features"][:]
    save("plain.npy", values)
    assert succeed("compare", "aligned.h5", "plain.npy").code == 0
    stored = Path("aligned.h5").read_bytes()
    assert succeed("compare", "-", "plain.npy", stdin=stored).code == 0
    assert "aligned.h5::/rois" in run("compare", "aligned.h5::rois", "legacy.h5::rois").text


def test_bfloat16_and_fortran_order() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="writes bfloat16")
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    save("b.npy", values.astype(ml_dtypes.bfloat16))
    save("f.npy", np.asfortranarray(values))
    outcome = succeed("compare", "b.npy", "f.npy")
    assert "bfloat16" in outcome.text


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("aligned.h5", "none.h5"), ("none.h5", "no such file")),
        (("aligned.h5", FEATURES), ("(5, 3, 7, 7)", "two equal shapes")),
        (("aligned.h5::none", "legacy.h5"), ("no dataset 'none'",)),
        (("aligned.h5::quantization_error", "legacy.h5"), ("dtype",)),
        (("a.csv", "legacy.h5"), ("not from a table",)),
        (("-", "-"), ("only once",)),
        (("aligned.h5", "legacy.h5", "--atol", "-1"), ("atol", "-1")),
        (("aligned.h5", "legacy.h5", "--rtol", "nan"), ("rtol", "nan")),
        (("aligned.h5", "legacy.h5", "--rows", "few"), ("rows", "'few'")),
    ],
)
def test_refused(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    Path("a.csv").write_text("1,2,3,4\n")
    refuse("compare", *arguments, words=words)


def test_ambiguous_and_cut_files_are_refused() -> None:
    save_h5("two.h5", a=np.zeros((2, 2)), b=np.zeros((2, 2)))
    refuse("compare", "two.h5", "two.h5", words=("2 datasets fit", "/a"))
    save("whole.npy", np.zeros((9, 9)))
    os.truncate("whole.npy", 300)
    refuse("compare", "whole.npy", "whole.npy", words=("cut short",))
