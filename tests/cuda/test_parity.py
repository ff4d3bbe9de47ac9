"""What CUDA runs gives what the CPU gives: RoI Pool its bits, RoI Align to 1e-5 of the range.

Every graph runs on the CPU provider too, where RoI Align has the same bits as well.
"""

from itertools import product

import numpy as np
import pytest

from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.runners import build_runner
from tests.cuda.devices import DEVICES
from tests.options import FLOAT_TYPES, every_align, every_pool, table_of_aligns, table_of_pools
from tests.strategies import awkward_corners, normal_map

pytestmark = pytest.mark.parametrize("device", DEVICES)

SCALE = 1 / 16
MAPS = [normal_map((5, 13, 17)), normal_map((3, 40, 9), seed=4) * 100]
TOLERANCE = 1e-5  # of the map's range


def compute(spec, feature_map, corners, dtype, device=None, scratch=32 << 20):
    """(K, C, P_h, P_w) on a device, or on the CPU as it is used."""
    provider = "cpu" if device is None else device.kind
    runner = build_runner(spec, np.dtype(dtype), provider, 2, scratch, device)
    out = np.full((len(corners), len(feature_map), *spec.output_size), np.nan, dtype)
    runner.load(feature_map)
    runner.run(corners.astype(dtype), out)
    return out


def compare(spec, device, dtype=np.float32, stored=None, **options):
    """Compare on every map; bit for bit on the host."""
    for feature_map in MAPS:
        corners = awkward_corners(feature_map.shape[1:], SCALE, 60, seed=2)
        kept = feature_map.astype(stored or dtype)
        expected = compute(spec, kept.astype(dtype), corners, dtype)
        found = compute(spec, kept, corners, dtype, device, **options)
        assert np.ptp(expected) > 0
        if device.kind == "cpu" or isinstance(spec, PoolSpec):
            np.testing.assert_array_equal(found, expected, err_msg=f"{spec} {dtype}")
        else:
            most = TOLERANCE * np.ptp(kept.astype(np.float64))
            np.testing.assert_allclose(found, expected, rtol=0, atol=most, err_msg=str(spec))


def cases_for(device, of_the_table, every):
    """The full product where there is CUDA; on the host it has run in ``test_every_option``."""
    return of_the_table if device.kind == "cpu" else product(every, FLOAT_TYPES)


@pytest.mark.parametrize("size", [(7, 7), (2, 5), (1, 1)])
def test_pool_has_the_bits_of_the_cpu(device, size):
    for spec, dtype in cases_for(device, table_of_pools(size, SCALE), every_pool(size, SCALE)):
        compare(spec, device, dtype)


@pytest.mark.parametrize("scratch", [1, 3000, 100_000])
def test_pool_in_parts_has_the_bits_of_the_cpu(device, scratch):
    compare(PoolSpec((7, 7), SCALE), device, scratch=scratch)


def test_align_is_the_cpus(device):
    for spec, dtype in cases_for(
        device, table_of_aligns((3, 5), SCALE), every_align((3, 5), SCALE)
    ):
        compare(spec, device, dtype)


@pytest.mark.parametrize(
    "spec",
    [PoolSpec((7, 7), SCALE), AlignSpec((7, 7), SCALE), AlignSpec((2, 2), SCALE, mode="max")],
)
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_float16_is_made_wider_on_the_device(device, spec, dtype):
    compare(spec, device, dtype, stored=np.float16)


@pytest.mark.parametrize("spec", [PoolSpec((7, 7), SCALE, "hull"), PoolSpec((2, 2), SCALE, "mmcv")])
@pytest.mark.parametrize("stored", [np.float16, np.float32])
def test_a_bin_with_a_nan_is_nan_and_no_other(device, spec, stored):
    feature_map = MAPS[0].astype(stored)
    feature_map[:, 3:5, 6] = np.nan
    corners = awkward_corners(feature_map.shape[1:], SCALE, 60, seed=2)
    expected = compute(spec, feature_map.astype(np.float32), corners, np.float32)
    assert 0 < np.isnan(expected).sum() < expected.size
    found = compute(spec, feature_map, corners, np.float32, device, scratch=20_000)
    np.testing.assert_array_equal(found, expected)
