"""One bin of the operators that read cells with weights, number by number."""

import json

import numpy as np
import pytest

import roicli
from roicli.analysis.bin_reading import BinReading
from roicli.core.exceptions import ParameterError
from tests.cli.running import run, succeed
from tests.strategies import normal_map

MAPS = normal_map((1, 8, 9, 12))
ROIS = np.float32([[0, 3, 2, 30, 25], [0, 40, 2, 60, 50]])
OPTIONS = {"spatial_scale": 0.25, "output_size": 2, "provider": "cpu"}
OPERATORS = {
    "crop-and-resize": {"crop_points": "max", "extrapolation_value": -2.0},
    "average-pool": {"quantization": "half-even"},
    "ps-pool": {},
    "ps-align": {"sampling_ratio": 0},
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_weighted_cells_are_what_the_operator_gives(operator):
    options = {**OPTIONS, **OPERATORS[operator]}
    call = getattr(roicli, operator.replace("-", "_"))
    result = call(MAPS, ROIS, **options).roi_features
    for roi, bin_index in ((0, (0, 1)), (1, (1, 0))):
        found = roicli.explain(
            MAPS, ROIS, roi=roi, channel=1, bin_index=bin_index, operator=operator, result=result,
            **options,
        )  # fmt: skip
        assert isinstance(found, BinReading)
        assert [check.equal for check in found.checks] == [True, True]
        values = [sample.value for sample in found.samples]
        for sample in found.samples:
            for cell in sample.cells:
                assert cell.value == MAPS[0, found.map_channel, cell.y, cell.x]
        total = max(values) if found.takes_maximum else found.share * sum(values)
        assert found.value == pytest.approx(total, rel=1e-12)
        assert found.value == pytest.approx(result[(roi, 1, *bin_index)], abs=1e-5)
        # Position-sensitive: bin (i, j) of 2 x 2 reads its own channel of four.
        own = 4 * 1 + 2 * bin_index[0] + bin_index[1]
        assert found.map_channel == (own if operator.startswith("ps-") else 1)


def test_a_command_says_it_in_every_format_and_what_differs(tmp_path):
    np.save(tmp_path / "f.npy", MAPS)
    np.save(tmp_path / "r.npy", ROIS)
    np.save(tmp_path / "o.npy", np.zeros((2, 8, 2, 2), np.float32))
    call = ["explain", str(tmp_path / "f.npy"), str(tmp_path / "r.npy"), "--spatial-scale", "1/4",
            "--output-size", "2", "--operator", "average-pool", "--provider", "cpu"]  # fmt: skip
    shown = succeed(*call, "--roi", "0").text
    assert "average RoI Pool = the sum of" in shown
    assert "average RoI Pool equals what the operator gives: yes" in shown
    assert "| sample |" in succeed(*call, "--roi", "0", "--format", "md").text
    record = json.loads(succeed(*call, "--roi", "1", "--format", "json").text)["explanation"]
    assert record["operator"] == "average-pool"
    assert record["checks"][0]["equal"] is True
    assert "the bin is empty: 0" in succeed(*call, "--roi", "1", "--bin", "1,1").text
    differs = run(*call, "--roi", "0", "--result", str(tmp_path / "o.npy"))
    assert differs.code == 1
    assert "not average RoI Pool's result" in differs.err


def test_what_is_not_explained_is_refused():
    with pytest.raises(ParameterError, match="RoI Align is explained without --operator"):
        roicli.explain(MAPS, ROIS, roi=0, operator="align", **OPTIONS)
    with pytest.raises(ParameterError, match="channel is 2, expected 0 to 1"):
        roicli.explain(MAPS, ROIS, roi=0, channel=2, operator="ps-pool", **OPTIONS)
