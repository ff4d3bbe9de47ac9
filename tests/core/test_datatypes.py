"""The records check themselves."""

import numpy as np
import pytest

from roicli.core.exceptions import ParameterError
from roicli.core.types import RoIs
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec

BOTH = [AlignSpec, PoolSpec]


@pytest.mark.parametrize("spec", BOTH)
@pytest.mark.parametrize("size", [(0, 7), (7, 0), (-1, 7), (7, 1025), (7,), (7, 7, 7)])
def test_a_wrong_output_size_is_named(spec, size):
    shown = "x".join(map(str, size))
    with pytest.raises(ParameterError, match=f"output size is {shown}, expected height x width"):
        spec(output_size=size)


@pytest.mark.parametrize("spec", BOTH)
@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, 1e-60, 1e60])
def test_a_scale_must_be_positive_and_finite_as_a_float32(spec, scale):
    with pytest.raises(ParameterError, match=r"spatial scale is .*, expected a positive number"):
        spec(spatial_scale=scale)


@pytest.mark.parametrize("ratio", [-1, 257])
def test_a_wrong_sampling_ratio_is_named(ratio):
    with pytest.raises(ParameterError, match=f"sampling ratio is {ratio}, expected 0"):
        AlignSpec(sampling_ratio=ratio)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (AlignSpec, "mode"), (AlignSpec, "sampling_grid"), (PoolSpec, "quantization"),
        (PoolSpec, "partition"),
    ],
)  # fmt: skip
def test_an_unknown_word_lists_the_known_ones(spec, name):
    with pytest.raises(ParameterError, match="is 'nonsense', expected one of: "):
        spec(**{name: "nonsense"})


@pytest.mark.parametrize("partition", ["disjoint", "floor-size"])
def test_mmcv_goes_with_no_partition(partition):
    with pytest.raises(ParameterError, match="mmcv has bins of its own"):
        PoolSpec(quantization="mmcv", partition=partition)


def test_the_extreme_parameters_are_allowed():
    assert AlignSpec((1, 1024), 1e-30, 256).sampling_ratio == 256
    assert PoolSpec((1024, 1)).output_size == (1024, 1)


def test_the_pixel_model_follows_aligned():
    models = [AlignSpec(aligned=True), AlignSpec(aligned=False), PoolSpec()]
    assert [spec.pixel_model for spec in models] == ["half-pixel", "legacy", "half-pixel"]


def test_taking_rois_keeps_their_parts_together():
    rois = RoIs(np.arange(3), np.arange(12.0).reshape(3, 4), np.array([0.1, 0.2, 0.3]))
    taken = rois.take([2, 0])
    assert len(taken) == 2
    assert taken.as_rows().tolist() == [[2, 8, 9, 10, 11], [0, 0, 1, 2, 3]]
    assert taken.coordinate_error_px.tolist() == [0.3, 0.1]
    assert taken.as_rows(np.float64).dtype == np.float64
