"""The memory budget: what it is, how it is shared, when nothing fits."""

import logging

import numpy as np
import pytest

import roicli
from roicli.core.exceptions import ParameterError, ProviderError
from roicli.core.system import available_bytes, resident_bytes
from roicli.pipeline import memory
from roicli.pipeline.features import open_pyramid
from roicli.pipeline.memory import Budget, default_budget, plan_device, plan_memory
from tests.log import logged
from tests.strategies import AWKWARD, awkward_corners, normal_map

MIB = 1 << 20
ROW = 49 * 3 * 4


def pyramid(shape=(2, 3, 100, 100), dtype=np.float32):
    return open_pyramid(np.zeros(shape, dtype), (), (1.0,))


def plan(budget, maps=None, rois=1000, row_bytes=ROW, with_values=False):
    return plan_memory(Budget(budget, True), maps or pyramid(), rois, row_bytes, with_values)


def test_more_memory_gives_larger_blocks_up_to_a_limit():
    sizes = [plan(resident_bytes() + extra * MIB) for extra in (80, 100, 140, 1000, 9000)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
    assert sizes[-2] == sizes[-1] == memory.LARGEST_BLOCK_BYTES


def test_values_larger_maps_and_more_rois_leave_less():
    budget = resident_bytes() + 110 * MIB
    alone = plan(budget)
    assert plan(budget, with_values=True) < alone
    assert plan(budget, pyramid((2, 3, 400, 400))) < alone
    assert plan(budget, pyramid(dtype=np.float16)) < alone  # stored and upcast
    assert plan(budget, rois=40_000) < alone


def test_what_is_planned_stays_under_the_budget():
    budget = resident_bytes() + 100 * MIB
    assert resident_bytes() + 4 * plan(budget) < budget


def test_the_budget_that_the_error_names_is_enough():
    words = r"one image of shape .* and one RoI need .* --max-memory is 1 MiB"
    with pytest.raises(ParameterError, match=words) as caught:
        plan(MIB)
    enough = int(str(caught.value.hint).split()[2].removesuffix("M"))
    assert plan((enough + 2) * MIB) >= ROW  # the process may have grown meanwhile


@pytest.mark.full
def test_a_roi_larger_than_a_usual_block_is_a_block_of_its_own():
    """Its result is 48 MiB, and there was a limit of 32."""
    row_bytes = 48 * MIB
    assert plan(resident_bytes() + 400 * MIB, row_bytes=row_bytes) == row_bytes
    assert plan_device(None, pyramid(), row_bytes).block_bytes == row_bytes
    assert plan_device(400 * MIB, pyramid(), row_bytes).block_bytes == row_bytes
    with pytest.raises(ParameterError, match="--max-device-memory is 100 MiB"):
        plan_device(100 * MIB, pyramid(), row_bytes)
    features, rois = normal_map((1, 3, 20, 20)), np.float32([[0, 1, 2, 15, 17], [0, 3, 3, 9, 9]])
    for operator in (roicli.align, roicli.pool):
        result = operator(features, rois, spatial_scale=1.0, output_size=1024, threads=2)
        assert result.roi_features.shape == (2, 3, 1024, 1024)
        assert result.roi_features[0].nbytes == 12 * MIB
    wide = np.repeat(features, 9, axis=1)  # 108 MiB a RoI
    result = roicli.pool(wide, rois[:1], spatial_scale=1.0, output_size=1024)
    np.testing.assert_array_equal(result.roi_features[:, :3], result.roi_features[:, 3:6])


def test_messages_name_the_file_and_the_option(tmp_path):
    path = tmp_path / "maps.npy"
    np.save(path, normal_map((1, 3, 20, 20)))
    rois = np.float32([[0, 1, 2, 15, 17]])
    for options, words in (
        ({"max_memory": "lots"}, "--max-memory is 'lots'"),
        ({"max_memory": "1M"}, "maps.npy: one image of shape (3, 20, 20) and one RoI need"),
        ({"max_memory": "1M"}, "--max-memory is 1 MiB; give --max-memory"),
    ):
        with pytest.raises(ParameterError) as caught:
            roicli.align(path, rois, spatial_scale=1.0, **options)
        assert words in str(caught.value)


def test_the_system_tells_what_there_is():
    assert 10 * MIB < resident_bytes() < available_bytes() * 100
    assert default_budget() == pytest.approx(available_bytes() / 4, rel=0.3)


def test_a_small_budget_changes_no_bit():
    maps = normal_map((2, 3, 13, 17))
    corners = awkward_corners((13, 17), 1 / 16, 60, 0)
    rois = np.column_stack([np.arange(60) % 2, corners])
    options = {"spatial_scale": 1 / 16, "quantization": "hull", "ignore": AWKWARD}
    budget = f"{(resident_bytes() >> 20) + 90}M"
    small = roicli.pool(maps, rois, max_memory=budget, **options)
    np.testing.assert_array_equal(
        small.roi_features, roicli.pool(maps, rois, **options).roi_features
    )


@pytest.mark.parametrize(("provider", "limit"), [("native", 700), ("native", 800), ("cpu", 300)])
def test_native_needs_room_for_its_compiler(monkeypatch, provider, limit):
    monkeypatch.setattr(memory, "limit_of", lambda _: limit * MIB)
    if (provider, limit) == ("native", 700):
        with pytest.raises(ProviderError, match=r"needs 768 MiB .* limit is 700 MiB; raise it"):
            memory.check_address_space(provider)
    else:
        memory.check_address_space(provider)


def test_the_default_budget_is_said_to_who_asks(monkeypatch):
    monkeypatch.setattr("roicli.pipeline.memory.default_budget", lambda: 900 * MIB)
    monkeypatch.setattr("roicli.pipeline.run.resident_bytes", lambda: 200 * MIB)
    features = normal_map((1, 2, 6, 6))
    rois = np.zeros((1, 5), np.float32)
    with logged(logging.DEBUG) as said:
        roicli.align(features, rois, spatial_scale=1.0)
    assert said == ["max memory is 900 MiB, a quarter of the free"]
    with logged(logging.DEBUG) as said:
        roicli.align(features, rois, spatial_scale=1.0, max_memory="700M")
    assert said == []
