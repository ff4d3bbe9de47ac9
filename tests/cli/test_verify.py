"""``--verify`` as a user runs it."""

import numpy as np
import pytest

from roicli.runtime import engine
from tests.cli.running import FEATURES, ROIS, SCALE, assert_refused, refuse, run, snapshot, succeed


@pytest.mark.parametrize("command", ["align", "pool"])
def test_the_largest_deviation_is_one_note(command, inputs):
    outcome = succeed(command, FEATURES, ROIS, *SCALE, "--verify", "-o", "out.npy", "--no-table")
    assert outcome.out == b""
    noted = [line for line in outcome.errors if "verified" in line]
    assert len(noted) == 1
    assert noted[0].startswith("roicli: note: verified 5 of 5 RoIs, 735 values: ")
    assert ("ULP at RoI" in noted[0]) == (command == "align")
    assert ("all equal" in noted[0]) == (command == "pool")
    plain = succeed(command, FEATURES, ROIS, *SCALE, "-o", "plain.npy", "--no-table")
    assert "verified" not in plain.err
    with open("out.npy", "rb") as one, open("plain.npy", "rb") as other:
        assert one.read() == other.read()


def test_fewer_rois(inputs):
    outcome = succeed("align", FEATURES, ROIS, *SCALE, "--verify-rois", "2", "-o", "out.npy")
    assert "verified 2 of 5 RoIs, 294 values" in outcome.err
    quiet = succeed("align", FEATURES, ROIS, *SCALE, "--verify", "-o", "out.h5", "-q")
    assert quiet.err == ""


def test_no_rois_to_verify_is_refused(inputs):
    refuse("pool", FEATURES, ROIS, *SCALE, "--verify-rois", "0", words=("verify is 0",))


@pytest.mark.parametrize("output", ["out.h5", "out.npy", "-"])
def test_a_wrong_result_is_refused_and_nothing_stays(output, inputs, monkeypatch):
    real = engine.build_runner

    def build(*given):
        runner = real(*given)
        right = runner.run

        def wrong(corners, out):
            right(corners, out)
            out[..., 2, 3] = np.where(corners[:, :1] == np.float32(30), 99, out[..., 2, 3])

        runner.run = wrong
        return runner

    monkeypatch.setattr(engine, "build_runner", build)
    before = snapshot()
    outcome = run("align", FEATURES, ROIS, *SCALE, "--verify", "-o", output)
    assert_refused(outcome, "RoI 4, channel", "bin (2, 3)", "found 99", "expected", code=3)
    assert snapshot() == before
