"""Results and scales as people have them, on the maps and RoIs of the field."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.running import refuse, run, save, save_h5, succeed

DATA = Path(__file__).parent / "field"
FEATS, ROIS, BASE = (np.load(DATA / f"{name}.npy") for name in ("feats", "rois", "base"))
STRIDE_16 = ("--spatial-scale", "1/16")
# Rows 3, 6 and 9 are not there.
FEWER = np.delete(np.arange(15), [3, 6, 9])
ORDER = np.array([1, 12, 7, 10, 14, 0, 5, 3, 13, 2, 11, 4, 8, 9, 6])


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    """Maps, RoIs, what RoI Align gives for them, and the forms in which others have that."""
    save("feats.npy", FEATS)
    save("rois.npy", ROIS)
    save("base.npy", BASE)
    save("res_nhwc.npy", BASE.transpose(0, 2, 3, 1))
    save("res_flat.npy", BASE.reshape(15, -1))
    save("res_5d.npy", BASE[None])
    save("res_permuted.npy", BASE[ORDER])
    save("res_fewer.npy", BASE[FEWER])
    save("res_f16.npy", BASE.astype(np.float16))
    Path("res.bin").write_bytes(BASE.tobytes())
    values = [float(f"{value:.6g}") for value in BASE.reshape(-1).tolist()]
    output = {"name": "roi_feats", "dimensions": "15x8x7x7", "values": values}
    Path("trtexec_output.json").write_text(json.dumps([output]))


EQUAL = (
    "res_nhwc.npy", "res_flat.npy", "res_5d.npy", "res_f16.npy", "res.bin::float32[15,8,7,7]",
    "res.bin::f4[15,8,7,7]",
    "trtexec_output.json", "trtexec_output.json::roi_feats",
)  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_compare_reads_what_other_runtimes_write(name: str) -> None:
    succeed("compare", name, "base.npy")
    succeed("compare", "base.npy", name)


@pytest.mark.parametrize(
    ("name", "words"),
    [("res_permuted.npy", "rows are in another order"), ("res_fewer.npy", "rows are missing")],
)
def test_rows_are_found_by_compare(name: str, words: str) -> None:
    outcome = run("compare", name, "base.npy")
    assert (outcome.code, words in outcome.text) == (1, True)
    succeed("compare", name, "base.npy", "--match-rows")


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (2, 3, 0, 1), (1, 2, 3, 0), (2, 1, 3, 0)])
def test_rois_that_are_not_the_first_axis_are_told_where_they_are(order: tuple[int, ...]) -> None:
    stored = save("r.npy", BASE.transpose(order))
    for arguments in (("compare", "base.npy"), ("diagnose", "feats.npy", "rois.npy", *STRIDE_16)):
        outcome = refuse(*arguments, "r.npy", words=("expected", "save numpy.transpose(result, ("))
        advised = outcome.err.partition("numpy.transpose(result, (")[2].partition(")")[0]
        mended = np.load(stored).transpose([int(axis) for axis in advised.split(",")])
        assert any(np.array_equal(one, BASE) for one in (mended, mended.swapaxes(2, 3)))


def test_all_numbers_along_one_axis() -> None:
    save("r.npy", BASE.reshape(-1))
    save("other.npy", BASE.reshape(-1)[::-1])
    succeed("compare", "r.npy", "base.npy")
    assert run("compare", "other.npy", "base.npy").code == 1


def test_a_table_is_no_result() -> None:
    np.savetxt("r.csv", BASE.reshape(15, -1), delimiter=",")
    refuse("compare", "base.npy", "r.csv", words=("a result is read from a file", "as .npy"))


def diagnose(name: str, code: int, *options: str) -> Any:
    arguments = ("diagnose", "feats.npy", "rois.npy", name, *STRIDE_16, "-q", "--format", "json")
    outcome = run(*arguments, *options)
    assert outcome.code == code, outcome.err
    return json.loads(outcome.text)


@pytest.mark.full
def test_diagnose_finds_rows() -> None:
    found = diagnose("res_permuted.npy", 1)
    order = dict(zip(found["rows"]["result"], found["rows"]["rois"], strict=True))
    assert [order[row] for row in range(15)] == ORDER.tolist()
    found = diagnose("res_fewer.npy", 0, "--match-rows")
    assert found["rows"]["only_rois"] == [3, 6, 9]


# Scales -----------------------------------------------------------------------------------------


def test_boxes_in_original_pixels() -> None:
    original = ROIS.copy()
    original[:, 1:] /= 1.5625
    save("rois_orig.npy", original)
    scale = ("--roi-scale", "1.5625")
    succeed("align", "feats.npy", "rois_orig.npy", *STRIDE_16, *scale, "-o", "o.npy", "-q")
    # The boxes were rounded to float32 once more.
    np.testing.assert_allclose(np.load("o.npy"), BASE, atol=5e-6)


def test_a_map_with_two_scales() -> None:
    save_h5("scale_xy.h5", {"spatial_scale": np.array([1 / 32, 0.0315])}, feats=FEATS)
    refuse("align", "scale_xy.h5", "rois.npy", words=("2 numbers", "--roi-scale 1,1.008"))


def test_auto_infers_the_scale_of_the_field() -> None:
    auto = ("--spatial-scale", "auto", "--image-size", "384x512")
    succeed("align", "feats.npy", "rois.npy", *auto, "-o", "o.npy", "-q")
    np.testing.assert_allclose(np.load("o.npy"), BASE, atol=1e-6)
