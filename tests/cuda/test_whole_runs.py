"""Whole runs on the CUDA path: files in, features and value columns out, each map placed once."""

import numpy as np
import pytest

import roicli
from roicli.core.exceptions import DeviceMemoryError
from roicli.error_table.columns import VALUE_COLUMNS
from roicli.pipeline import run as opened_run
from roicli.runtime.devices import Device
from roicli.runtime.engine import Engine
from roicli.runtime.session import Session
from tests.cuda.devices import CUDA, DEVICES, LIKE_CUDA, STATUS
from tests.strategies import AWKWARD, awkward_corners, normal_map

IMAGES, CHANNELS = 3, 4
LEVELS = [(40, 48), (20, 24), (10, 12)]
SCALES = (1 / 4, 1 / 8, 1 / 16)
TOLERANCE = 1e-5


def pyramid(dtype):
    return [
        normal_map((IMAGES, CHANNELS, *size), seed=i).astype(dtype) for i, size in enumerate(LEVELS)
    ]


def rois():
    corners = awkward_corners(LEVELS[0], SCALES[0], 90, seed=5)
    return np.column_stack([np.arange(90) % IMAGES, corners]).astype(np.float32)


@pytest.fixture
def run_on(monkeypatch):
    """Runs a command of the library on a device of DEVICES."""

    def run_on(device, command, *inputs, **options):
        def engine(provider, threads, block_bytes, scratch_bytes=None, chosen_device=None, **rest):
            # On CUDA the run opens its own; on the host it is told to behave like one.
            chosen = chosen_device if device.kind == "cuda" else device
            return Engine(provider, threads, block_bytes, scratch_bytes, chosen, **rest)

        with monkeypatch.context() as patch:
            patch.setattr(opened_run, "Engine", engine)
            return command(*inputs, provider=device.kind, **options)

    return run_on


def assert_close(found, expected, device, exact):
    if exact or device.kind == "cpu":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * 8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("operator", ["align", "pool"])
def test_a_pyramid_of_every_float_type(run_on, device, dtype, operator):
    command = {"align": roicli.align, "pool": roicli.pool}[operator]
    options = {"spatial_scale": SCALES, "ignore": AWKWARD, "level_rule": "torchvision"}
    expected = command(pyramid(dtype), rois(), provider="cpu", **options).roi_features
    found = run_on(device, command, pyramid(dtype), rois(), **options).roi_features
    assert found.dtype == expected.dtype
    assert_close(found, expected, device, exact=operator == "pool")


@pytest.mark.parametrize("device", DEVICES)
def test_the_attribution(run_on, device):
    options = {"spatial_scale": SCALES, "ignore": AWKWARD, "values": True, "quantization": "floor"}
    expected = roicli.pool(pyramid(np.float32), rois(), provider="cpu", **options)
    found = run_on(device, roicli.pool, pyramid(np.float32), rois(), **options)
    for column in VALUE_COLUMNS:
        wanted, got = (result.errors.column(column.name) for result in (expected, found))
        assert np.isfinite(wanted).any()
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)
        if device.kind == "cpu":
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("device", DEVICES)
def test_a_map_is_placed_once_and_its_cell_table_made_once(run_on, device, monkeypatch):
    outputs = []
    run_resident = Session.run_resident

    def counted(self, feeds):
        outputs.append(self.graph.output)
        return run_resident(self, feeds)

    monkeypatch.setattr(Session, "run_resident", counted)
    maps, boxes = pyramid(np.float32)[:1], rois()
    run_on(device, roicli.pool, maps, boxes, spatial_scale=1 / 4, values=True, ignore=AWKWARD)
    assert (outputs.count("placed"), outputs.count("cell_table")) == (IMAGES, IMAGES)


@pytest.mark.parametrize("device", DEVICES)
def test_one_bin_explained_is_what_the_operators_give(run_on, device):
    found = run_on(
        device,
        roicli.explain,
        pyramid(np.float32)[0],
        rois(),
        spatial_scale=1 / 4,
        roi=20,
        ignore=AWKWARD,
    )
    assert found.checks
    assert all(check.equal for check in found.checks[:1] if device.kind == "cpu")


@pytest.mark.cuda
@pytest.mark.skipif(not STATUS.loads, reason=STATUS.reason or "CUDA is here")
def test_a_device_that_is_not_there():
    with pytest.raises(roicli.RoicliError, match="device") as caught:
        roicli.align(pyramid(np.float32)[0], rois(), provider="cuda", device_id=63, ignore=AWKWARD)
    assert caught.value.exit_code == 3


@pytest.mark.cuda
@pytest.mark.skipif(not STATUS.loads, reason=STATUS.reason or "CUDA is here")
def test_device_memory_bounds_the_blocks_and_then_is_an_error():
    maps, boxes = normal_map((1, 64, 200, 272)), np.tile(rois(), (40, 1))
    boxes[:, 0] = 0
    options = {"provider": "cuda", "spatial_scale": 1 / 4, "strict_provider": True,
               "ignore": AWKWARD}  # fmt: skip
    whole = roicli.pool(maps, boxes, **options).roi_features
    small = roicli.pool(maps, boxes, max_device_memory="160M", **options).roi_features
    np.testing.assert_array_equal(small, whole)
    with pytest.raises(roicli.RoicliError, match="max device memory"):
        roicli.pool(maps, boxes, max_device_memory="8M", **options)
    # A limit that nobody planned for: the arena refuses, blocks halve, one RoI is too much.
    tight = Device("cuda", memory=1 << 20, resident=True)
    runner = Engine("cuda", 1, chosen_device=tight).build_runner(roicli.PoolSpec(), np.dtype("f4"))
    with pytest.raises(DeviceMemoryError, match="too little memory"):
        runner.load(maps[0])
    assert LIKE_CUDA.strict
    assert CUDA.strict
