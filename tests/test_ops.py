"""torchvision's names: defaults and results are torchvision's, the kind that comes in goes out."""

import inspect
import warnings

import numpy as np
import pytest

import roicli
from roicli import RoicliWarning, ops
from tests import oracle
from tests.strategies import awkward_corners, normal_map

MAPS = normal_map((2, 12, 20, 26), seed=1)
SCALE = 1 / 8
CORNERS = awkward_corners(MAPS.shape[2:], SCALE, 40, seed=2)
BOXES = np.column_stack([np.arange(40) % 2, CORNERS]).astype(np.float32)
BY_IMAGE = [CORNERS[::2], CORNERS[1::2]]
# Of each function, what it is called with besides maps, boxes, size and scale.
CALLS = {
    "roi_align": [{}, {"sampling_ratio": 2}, {"sampling_ratio": 3, "aligned": True}],
    "roi_pool": [{}],
    "ps_roi_align": [{"sampling_ratio": 2}],
    "ps_roi_pool": [{}],
}
SIZES = {name: (2,) if name.startswith("ps") else (7, (3, 5)) for name in CALLS}


@pytest.mark.parametrize("size", SIZES["roi_align"], ids=str)
def test_defaults_are_torchvisions(size):
    height, width = (size, size) if isinstance(size, int) else size
    given = {"output_size": (height, width), "spatial_scale": SCALE}
    found = ops.roi_align(MAPS, BOXES, size, SCALE)
    wanted = oracle.roi_align(MAPS, BOXES, **given, sampling_ratio=0, aligned=False)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4)
    found = ops.roi_pool(MAPS, BOXES, size, spatial_scale=SCALE)
    np.testing.assert_array_equal(found, oracle.roi_pool(MAPS, BOXES, **given))


def test_position_sensitive_ones_are_roicli_s_own():
    options = {"output_size": 2, "spatial_scale": SCALE, "ignore": ops.ANY_BOX}
    found = ops.ps_roi_align(MAPS, BOXES, 2, SCALE)
    wanted = roicli.ps_align(MAPS, BOXES, sampling_ratio=0, **options).roi_features
    np.testing.assert_array_equal(found, wanted)
    found = ops.ps_roi_pool(MAPS, BOXES, 2, SCALE)
    wanted = roicli.ps_pool(MAPS, BOXES, ps_rule="torchvision", **options).roi_features
    np.testing.assert_array_equal(found, wanted)


def test_boxes_may_be_a_list_and_nothing_is_said_of_odd_ones():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ops.roi_align(MAPS, BY_IMAGE, 3, SCALE)
    both = ops.roi_align(MAPS, BOXES, 3, SCALE)
    np.testing.assert_array_equal(found, np.concatenate([both[::2], both[1::2]]))
    nothing = ops.roi_pool(MAPS, np.empty((0, 5), np.float32), 3)
    assert nothing.shape == (0, 12, 3, 3)
    with pytest.raises(roicli.InputError, match="batch"):
        ops.roi_align(MAPS, [[7, 1, 1, 5, 5]], 3)


LEVELS = {name: normal_map((2, 4, 64 >> n, 80 >> n), seed=n) for n, name in enumerate("012")}
LARGE = [
    np.array([[3, 4, 50, 60], [0, 0, 250, 310], [5, 5, 130, 140]], np.float32),
    np.array([[30, 40, 90, 99], [0, 0, 5, 5]], np.float32),
]


def test_levels_by_name_and_their_scales_by_the_images_sizes():
    pooler = ops.MultiScaleRoIAlign(["0", "1", "2"], 7, 2, canonical_scale=112, canonical_level=3)
    found = pooler({**LEVELS, "pool": LEVELS["2"]}, LARGE, [(250, 320), (256, 300)])
    wanted = roicli.align(
        LEVELS, LARGE, spatial_scale="1/4,1/8,1/16", aligned=False, canonical_size=112,
        canonical_level=3, ignore=ops.ANY_BOX,
    )  # fmt: skip
    assert len(set(wanted["level"])) == 3
    np.testing.assert_array_equal(found, wanted.roi_features)


# --- where torchvision is there ---------------------------------------------------------------


@pytest.fixture
def torchvision():
    """torchvision's operators."""
    return pytest.importorskip("torchvision.ops")


@pytest.mark.parametrize("name", CALLS)
def test_signatures_are_torchvisions(torchvision, name):
    theirs, own = (inspect.signature(getattr(of, name)) for of in (torchvision, ops))
    assert list(theirs.parameters) == list(own.parameters)
    assert [one.default for one in theirs.parameters.values()] == [
        one.default for one in own.parameters.values()
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CALLS)
def test_results_are_torchvisions(torchvision, name, dtype):
    torch = pytest.importorskip("torch")
    maps, boxes = (torch.tensor(one, dtype=getattr(torch, dtype)) for one in (MAPS, BOXES))
    bound = 0 if name == "roi_pool" else 3e-5 if dtype == "float32" else 1e-11
    for size in SIZES[name]:
        for options in CALLS[name]:
            given = (boxes, size, SCALE)
            both = (getattr(of, name) for of in (ops, torchvision))
            found, wanted = (call(maps, *given, **options) for call in both)
            assert found.dtype == wanted.dtype
            torch.testing.assert_close(found, wanted, rtol=0, atol=bound)


def test_the_pyramid_is_torchvisions(torchvision):
    torch = pytest.importorskip("torch")
    levels = {name: torch.from_numpy(one) for name, one in LEVELS.items()}
    boxes = [torch.from_numpy(one) for one in LARGE]
    for names in (["0", "1", "2"], ["1"]):
        given = (levels, boxes, [(256, 320), (200, 300)])
        found, wanted = (of.MultiScaleRoIAlign(names, 7, 2)(*given) for of in (ops, torchvision))
        torch.testing.assert_close(found, wanted, rtol=0, atol=3e-5)


def test_the_kind_that_comes_in_goes_out():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        found = ops.roi_align(torch.from_numpy(MAPS).to(dtype), BOXES, 2, SCALE)
        assert isinstance(found, torch.Tensor)
        assert found.dtype == dtype
    maps = torch.from_numpy(MAPS).requires_grad_()
    with pytest.warns(RoicliWarning, match="no gradients"):
        assert not ops.roi_align(maps, BOXES, 2, SCALE).requires_grad
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        ops.roi_align(maps, BOXES, 2, SCALE)


def test_the_kind_of_jax():
    jax = pytest.importorskip("jax.numpy")
    assert isinstance(ops.roi_align(jax.asarray(MAPS), BOXES, 2, SCALE), type(jax.asarray(MAPS)))
