"""``roicli explain`` as a user runs it."""

import json

import numpy as np

from tests.cli.running import FEATURES, FPN, ROIS, SAMPLES, SCALE, TEXT_ROIS, refuse, run, succeed

SEED = (
    f"{SAMPLES}/worked_examples.h5::w2_w7/features",
    f"{SAMPLES}/worked_examples.h5::w2_w7/rois",
)


def test_the_seed_example() -> None:
    text = succeed("explain", *SEED, "--roi", "0", "--no-aligned", "--channel", "1").text
    expected = ("230.0275", "69.2475", "262.4675", "80.5", "32.44", "11.2525", "4.634286",
                "1.6075", "231.186071", "69.649375", "0.285384", "0.065241", "0.528545", "0.12083",
                "[0,5)[4,10)[9,15)[14,19)[18,24)[23,29)[28,33)", "33 x 13", "63.9689")  # fmt: skip
    for digits in expected:
        assert digits in text
    assert "RoI Align equals what the operator gives: yes, difference 0\n" in text
    assert text.endswith("RoI Pool equals what the operator gives: yes, difference 0\n")


def test_formats_on_real_data() -> None:
    call = ("explain", f"{FPN}::p3", TEXT_ROIS, "--roi", "37", "--bin", "2,3")
    found = json.loads(succeed(*call, "--format", "json").text)["explanation"]
    assert found["bin_index"] == [2, 3]
    assert [check["difference"] for check in found["checks"]] == [0, 0]
    assert succeed(*call, "--format", "md").text.startswith("# RoI 37 on image 1")


def test_a_stored_result(inputs: object) -> None:
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "a.npy", "-q")
    call = ("explain", FEATURES, ROIS, *SCALE, "--roi", "1", "--result", "a.npy")
    assert "equals what a.npy holds: yes" in succeed(*call).text
    np.save("a.npy", np.load("a.npy") + 1)
    outcome = run(*call)
    assert outcome.code == 1
    assert outcome.err == "roicli: finding: a.npy equals neither operator's result\n"


def test_what_is_out_of_range(inputs: object) -> None:
    call = ("explain", FEATURES, ROIS, *SCALE)
    refuse(*call, "--roi", "5", words=("roi is 5", "0 to 4"))
    refuse(*call, "--roi", "0", "--channel", "3", words=("channel is 3", "0 to 2"))
    refuse(*call, "--roi", "0", "--bin", "0,7", words=("bin is 0,7", "6,6"))
    refuse(*call, "--roi", "0", "--bin", "7", words=("row and column",))
    refuse(*call, "--roi", "0", "--result", ROIS, words=("shape (5, 5)",))


def test_levels_rules_and_quiet() -> None:
    call = ("explain", FPN, TEXT_ROIS, "--levels", "p3,p4,p5", "--roi", "0", "--preset", "mmcv")
    outcome = succeed(*call, "-q")
    assert outcome.err == ""
    assert "mmcv" in outcome.text


def test_only_the_roi_itself_must_fit_into_memory() -> None:
    call = ("explain", f"{FPN}::p3", TEXT_ROIS, "--sampling-ratio", "0", "--normalized")
    sized = (*call, "--image-size", "512x512", "--ignore", "R05")
    refuse(*sized, "--roi", "7", words=("row 7", "adaptive sampling takes"))
    assert "more samples with --format json" in succeed(*sized, "--roi", "96").text
