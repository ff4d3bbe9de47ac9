"""The memory budget: what it is, how it is shared, when nothing fits."""

import builtins

import numpy as np
import pytest

import roicli
from roicli import memory
from roicli.exceptions import ParameterError
from roicli.features import open_pyramid
from roicli.memory import available_bytes, default_budget, plan_block_bytes, resident_bytes
from tests.strategies import awkward_corners, normal_map

MIB = 1 << 20
ROW = 49 * 3 * 4


def pyramid(shape=(2, 3, 100, 100), dtype=np.float32):
    return open_pyramid(np.zeros(shape, dtype), (), (1.0,), lambda line: None)


def plan(budget, maps=None, rois=1000, row_bytes=ROW, with_values=False):
    return plan_block_bytes(budget, maps or pyramid(), rois, row_bytes, with_values)


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
    with pytest.raises(ParameterError, match="but one image and one RoI need") as caught:
        plan(MIB)
    enough = int(str(caught.value.hint).split()[2].removesuffix("M"))
    assert plan((enough + 2) * MIB) >= ROW  # the process may have grown meanwhile


def test_the_system_tells_what_there_is():
    assert 10 * MIB < resident_bytes() < available_bytes() * 100
    assert default_budget() == pytest.approx(available_bytes() / 4, rel=0.3)


def test_without_proc_there_is_an_estimate(monkeypatch):
    def closed(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", closed)
    found = resident_bytes(), available_bytes()
    monkeypatch.undo()
    assert found[0] == 96 * MIB
    assert found[1] >= available_bytes()


def test_a_small_budget_changes_no_bit():
    maps = normal_map((2, 3, 13, 17))
    corners = awkward_corners((13, 17), 1 / 16, 60, 0)
    rois = np.column_stack([np.arange(60) % 2, corners])
    options = {"spatial_scale": 1 / 16, "quantization": "hull"}
    budget = f"{(resident_bytes() >> 20) + 90}M"
    small = roicli.pool(maps, rois, max_memory=budget, **options)
    np.testing.assert_array_equal(
        small.roi_features, roicli.pool(maps, rois, **options).roi_features
    )
