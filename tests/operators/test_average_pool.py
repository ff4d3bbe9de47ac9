"""Average RoI Pool and position-sensitive pooling and alignment: by hand, and against engines."""

import numpy as np
import pytest

import roicli
from roicli.core.exceptions import ParameterError
from roicli.operators.convention import PS_RULES
from tests.cli.running import run, succeed
from tests.operators import engines
from tests.strategies import AWKWARD, awkward_corners, normal_map

RAMP = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)  # value = 4 y + x
ROIS = np.column_stack([np.zeros(40), awkward_corners((9, 12), 0.25, 40, 3)]).astype("f4")
OPTIONS = {"spatial_scale": 0.25, "ignore": AWKWARD, "provider": "cpu"}


def test_average_pool_by_hand():
    """docs/operators/average-pool.md."""
    rois = np.float32([[0, 0, 0, 2, 1], [0, 40, 40, 50, 50]])
    caffe = roicli.average_pool(RAMP, rois, output_size=(1, 2), ignore="R05")
    # Columns 0 to 2 and rows 0 to 1: bins [0, 2) and [1, 3) share a column.
    np.testing.assert_array_equal(caffe.roi_features[:, 0], [[[2.5, 3.5]], [[0, 0]]])
    even = roicli.average_pool(
        RAMP, np.float32([[0, 0.5, 0.5, 3.5, 2.5]]), output_size=1, quantization="half-even"
    )
    # Halves to even: columns 0 to 4, rows 0 to 2, of which there are 0 to 3 and 0 to 1.
    assert even.roi_features.item() == RAMP[0, 0, :2].mean()


def test_position_sensitive_by_hand():
    """docs/operators/ps-pool.md."""
    maps = np.stack([100.0 * c + RAMP[0, 0] for c in range(4)])[None]
    rois = np.float32([[0, 0, 0, 2, 1]])
    found = roicli.ps_pool(maps, rois, output_size=2)
    # Corners 0, 0 and 3, 2: bins 1.5 x 1 cells, so columns [0, 2) and [1, 3), rows 0 and 1.
    np.testing.assert_array_equal(found.roi_features, [[[[0.5, 101.5], [204.5, 305.5]]]])
    unread = roicli.ps_pool(
        RAMP, np.float32([[0, 3, 2, 9, 9]]), output_size=1, ps_rule="torchvision"
    )
    assert unread.roi_features.item() == 0  # its only cell is in the last row and column
    aligned = roicli.ps_align(maps, np.float32([[0, 0.5, 0.5, 2.5, 2.5]]), output_size=2)
    # Bins are a cell each, centred at 0.5 and 1.5 after the half-pixel step.
    np.testing.assert_allclose(aligned.roi_features, [[[[2.5, 103.5], [206.5, 307.5]]]], rtol=1e-6)


AVERAGED = {
    name: entry
    for name, entry in engines.entries().items()
    if entry.convention.reduction == "cell-mean"
}


@pytest.mark.parametrize("name", AVERAGED)
def test_means_of_cells_equal_the_engines(name):
    entry = AVERAGED[name]
    rule = entry.convention
    options = {"spatial_scale": engines.SCALE, "output_size": entry.result.shape[2:]}
    options |= {"ignore": "R04,R05", "provider": "cpu"}
    words = {word: one for word, one in PS_RULES.items() if one.box == rule.box}
    if "roi_average_pooling" in name or "roi_pooling-average" in name:
        word = "half-even" if rule.box.rounding == "half-even" else "caffe"
        found = roicli.average_pool(engines.features(), entry.rois, quantization=word, **options)
    else:
        (word,) = words
        found = roicli.ps_pool(
            engines.features(), entry.rois, ps_rule=word, group_size=1, **options
        )
    if name not in engines.NOT_IMITATED:
        np.testing.assert_allclose(found.roi_features, entry.result, atol=3e-7, rtol=0)


ALIGNED = [name for name in engines.entries() if "ps_roi_align" in name]


@pytest.mark.parametrize("name", ALIGNED)
def test_ps_align_equals_torchvision(name):
    entry = engines.entries()[name]
    found = roicli.ps_align(
        engines.features(), entry.rois, spatial_scale=engines.SCALE, output_size=1, group_size=1,
        sampling_ratio=entry.convention.sampling_ratio, ignore="R04,R05", provider="cpu",
    ).roi_features  # fmt: skip
    # torchvision has NaN for the RoI without size, adaptive; here it is 0, as roi_align has it.
    empty = np.isnan(entry.result)
    assert empty.any() == (entry.convention.sampling_ratio == 0)
    assert not found[empty].any()
    np.testing.assert_allclose(found[~empty], entry.result[~empty], atol=3e-6, rtol=0)


def test_the_engines_are_there():
    assert len(AVERAGED) >= 6
    assert len(ALIGNED) == 2


@pytest.mark.parametrize(("aligned", "ratio"), [(True, 2), (False, 0)])
def test_one_group_is_plain_roi_align(aligned, ratio):
    maps = normal_map((1, 3, 9, 12))
    options = {**OPTIONS, "aligned": aligned, "sampling_ratio": ratio, "output_size": (3, 2)}
    plain = roicli.align(maps, ROIS, **options).roi_features
    one = roicli.ps_align(maps, ROIS, group_size=1, **options).roi_features
    np.testing.assert_allclose(one, plain, rtol=1e-5, atol=1e-6)


def test_one_channel_a_group_is_one_bin_of_each_map():
    maps = normal_map((1, 8, 9, 12))
    whole = roicli.ps_pool(maps, ROIS, group_size=1, output_size=2, **OPTIONS).roi_features
    apart = roicli.ps_pool(maps, ROIS, output_size=2, **OPTIONS).roi_features
    for c, i, j in np.ndindex(2, 2, 2):
        np.testing.assert_allclose(apart[:, c, i, j], whole[:, 4 * c + 2 * i + j, i, j], rtol=1e-6)


@pytest.mark.parametrize("quantization", ["caffe", "half-even", "floor", "hull", "mmcv"])
def test_on_maps_where_each_bin_is_one_value_mean_and_maximum_agree(quantization):
    maps = np.full((1, 1, 9, 12), 3.25, np.float32)
    options = {**OPTIONS, "quantization": quantization, "output_size": (3, 2)}
    pooled = roicli.pool(maps, ROIS, **options).roi_features
    averaged = roicli.average_pool(maps, ROIS, **options).roi_features
    np.testing.assert_allclose(averaged, pooled, rtol=1e-6)  # the same bins are empty


def test_bad_groups_are_one_line(tmp_path):
    rois = np.float32([[0, 1, 1, 20, 20]])
    maps = normal_map((1, 6, 9, 12))
    with pytest.raises(ParameterError, match="the map has 6 channels, which group size 2 cannot"):
        roicli.ps_pool(maps, rois, output_size=2)
    with pytest.raises(ParameterError, match="output size is 2x3, and bins have one number of"):
        roicli.ps_align(maps, rois, output_size=(2, 3))
    with pytest.raises(ParameterError, match="group size is 4, expected at most the 2 bins"):
        roicli.ps_align(maps, rois, output_size=2, group_size=4)
    with pytest.raises(ParameterError, match="group size is -1, expected a whole number"):
        roicli.ps_pool(maps, rois, output_size=2, group_size=-1)
    with pytest.raises(ParameterError, match="quantization mmcv has bins of its own"):
        roicli.average_pool(maps, rois, quantization="mmcv", partition="disjoint")
    np.save(tmp_path / "f.npy", maps)
    np.save(tmp_path / "r.npy", rois)
    files = [str(tmp_path / name) for name in ("f.npy", "r.npy")]
    out = str(tmp_path / "o.npy")
    refused = run("ps-pool", *files, "--spatial-scale", "1/4", "--output-size", "2", "-o", out)
    assert refused.code == 2
    assert "the map has 6 channels, which group size 2 cannot divide" in refused.err
    assert "Traceback" not in refused.err
    succeed("ps-align", *files, "--spatial-scale", "1/4", "--output-size", "3", "--group-size", "1",
            "-o", out, "--verify")  # fmt: skip
    assert np.load(out).shape == (1, 6, 3, 3)
