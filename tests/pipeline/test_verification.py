"""A corrupted operator is caught while it runs, a right one is not accused."""

from dataclasses import replace
from itertools import cycle, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli.core.exceptions import ParameterError, VerificationError
from roicli.core.types import RoIs
from roicli.pipeline import stream as pipeline
from roicli.pipeline import verify as verification
from roicli.pipeline.verify import sample_rows
from roicli.runtime import engine
from tests.cli.running import FPN, TEXT_ROIS
from tests.log import logged
from tests.options import need_numba, some
from tests.strategies import AWKWARD, awkward_corners, boxes, normal_map

IMAGES = normal_map((2, 21, 13, 17), seed=7)
SCALE = 1 / 16
CORNERS = awkward_corners((13, 17), SCALE, 60, seed=9)
ROIS = np.column_stack([np.arange(60) % 2, CORNERS]).astype(np.float32)
CALLS = {
    "align": (roicli.align, {}),
    "maximum": (roicli.align, {"mode": "max"}),
    "thirds, adaptive": (roicli.align, {"sampling_grid": "thirds", "sampling_ratio": 0}),
    "pool": (roicli.pool, {}),
    "disjoint": (roicli.pool, {"partition": "disjoint"}),
}
PROVIDERS = ["cpu", "native"]


@pytest.fixture(params=PROVIDERS)
def provider(request):
    if request.param == "native":
        need_numba()
    return request.param


def call(name, provider, features=IMAGES, rois=ROIS, output=None, **options):
    operator, own = CALLS[name]
    options = {"spatial_scale": SCALE, "verify": 60, "provider": provider, **own, **options}
    options["ignore"] = AWKWARD
    return operator(features, rois, output, **options)


# --- corrupted operators ----------------------------------------------------------------------


class Corrupted:
    """A runner whose results pass through ``harm`` (features, corners, what the last run gave)."""

    def __init__(self, runner, harm):
        self._runner, self._harm, self._last = runner, harm, None

    def load(self, feature_map):
        self._map = feature_map.host
        self._runner.load(feature_map)

    def run(self, corners, out):
        self._runner.run(corners, out)
        good = out.copy()
        self._harm(out, corners, self)
        self._last = good

    @property
    def last(self):
        return self._last

    @property
    def feature_map(self):
        return self._map


def tap_weighs_a_little_more(out, corners, runner):
    out[:, 4, 1, 2] += np.float32(1e-3) * np.abs(runner.feature_map[4]).max()


def channels_exchanged(out, corners, runner):
    out[:, [2, 17]] = out[:, [17, 2]]


def bin_shifted(out, corners, runner):
    out[:, :, 3] = np.roll(out[:, :, 3], 1, axis=-1)


def bins_transposed(out, corners, runner):
    out[...] = out.swapaxes(2, 3).copy()


def sign_turned(out, corners, runner):
    out[:, 11] *= -1


def stale_block(out, corners, runner):
    """One block of the run holds what the block before it held."""
    if runner.last is not None and len(runner.last) == len(out):
        out[...] = runner.last


def rois_exchanged(out, corners, runner):
    out[[0, -1]] = out[[-1, 0]]


def never_written(out, corners, runner):
    out[:, 7:9] = 0


def not_a_number(out, corners, runner):
    out[-1, 3, 2, 2] = np.nan


def infinite(out, corners, runner):
    out[-1, 3, 2, 2] = np.inf


def bit_flipped(out, corners, runner):
    """One bit in the middle of the mantissas of one channel."""
    out.view(np.uint32)[:, 5] ^= np.uint32(1 << 12)


HARMS = [tap_weighs_a_little_more, channels_exchanged, bin_shifted, bins_transposed, sign_turned,
         stale_block, rois_exchanged, never_written, not_a_number, infinite,
         bit_flipped]  # fmt: skip


def corrupt(monkeypatch, harm):
    real = engine.build_runner
    monkeypatch.setattr(engine, "build_runner", lambda *given: Corrupted(real(*given), harm))


# Each harm once, to each of the calls and providers in turn.
@some("harm, name, provider", product(HARMS, CALLS, PROVIDERS),
      *zip(HARMS, cycle(CALLS), cycle(PROVIDERS)), indirect=["provider"])  # fmt: skip
def test_a_corrupted_operator_is_caught(name, provider, harm, monkeypatch, tmp_path):
    corrupt(monkeypatch, harm)
    # Blocks of a few RoIs, so that one of them can be stale.
    monkeypatch.setattr(pipeline, "WORK_A_BLOCK", 12 * 21 * 49)
    path = tmp_path / "out.h5"
    with pytest.raises(VerificationError, match=r"RoI \d+, channel \d+, bin \(\d, \d\)") as caught:
        call(name, provider, output=path)
    assert caught.value.exit_code == 3
    for word in ("found", "expected", f"provider {provider}", "nothing was kept"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", CALLS)
def test_a_nan_that_is_lost_is_caught(name, provider, monkeypatch):
    """What ONNX Runtime's MaxRoiPool and MaxPool do to a NaN and to -infinity."""
    features = IMAGES.copy()
    features[:, :, 5, 5:8], features[:, 3] = np.nan, -np.inf

    def lose(out, corners, runner):
        out[np.isnan(out)] = np.finfo(np.float32).min

    def clamp(out, corners, runner):
        np.maximum(out, np.finfo(np.float32).min, out=out)

    right = call(name, provider, features).verification
    assert right.left_out == 0
    assert right.values > 0
    for harm, found in ((lose, "expected nan"), (clamp, "expected -inf")):
        with monkeypatch.context() as patch:
            corrupt(patch, harm)
            with pytest.raises(VerificationError, match=found):
                call(name, provider, features)


def test_the_line_names_the_element_and_its_numbers(monkeypatch):
    def harm(out, corners, runner):
        out[corners[:, 0] == CORNERS[23, 0], 13, 4, 6] = 12.5

    expected = call("align", "cpu", verify=False).roi_features[23, 13, 4, 6]
    corrupt(monkeypatch, harm)
    with pytest.raises(VerificationError) as caught:
        call("align", "cpu")
    assert "at RoI 23, channel 13, bin (4, 6): found 12.5, expected " in str(caught.value)
    told = float(str(caught.value).split("expected ")[1].split()[0])
    assert told == pytest.approx(expected, rel=1e-5)


def test_one_step_too_far_is_caught_where_nothing_may_be_rounded(provider, monkeypatch):
    def harm(out, corners, runner):
        out[0, 0, 0, 0] = np.nextafter(out[0, 0, 0, 0], np.float32(np.inf))

    corrupt(monkeypatch, harm)
    with pytest.raises(VerificationError, match=r"expected \S+ exactly"):
        call("pool", provider)


@pytest.mark.parametrize("channel", [0, 63, 64, 150, 299])
def test_every_channel_is_compared_on_some_roi(channel, monkeypatch):
    def harm(out, corners, runner):
        out[:, channel] += 1

    corrupt(monkeypatch, harm)
    images = normal_map((1, 300, 9, 9))
    corners = awkward_corners((9, 9), 1.0, 100, 3)
    rois = np.column_stack([np.zeros(100), corners]).astype(np.float32)
    with pytest.raises(VerificationError, match=f"channel {channel},"):
        roicli.pool(images, rois, spatial_scale=1.0, verify=True, ignore=AWKWARD)


def test_a_stale_map_is_caught(provider, monkeypatch):
    """The second image's map does not arrive: its RoIs are run on the first one's."""

    class Stale(Corrupted):
        def load(self, feature_map):
            if not hasattr(self, "_map"):
                host = feature_map.host.copy()
                super().load(replace(feature_map, value=host[None], host=host))

    real = engine.build_runner
    monkeypatch.setattr(engine, "build_runner", lambda *given: Stale(real(*given), lambda *_: None))
    with pytest.raises(VerificationError, match="verification failed"):
        call("align", provider)


WRONG_SPECS = [
    {"sampling_ratio": 3}, {"aligned": False}, {"sampling_grid": "thirds"}, {"mode": "max"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_SPECS, ids=str)
def test_another_operator_than_the_one_asked_for_is_caught(wrong, provider, monkeypatch):
    real = engine.build_runner
    monkeypatch.setattr(
        engine, "build_runner", lambda spec, *given: real(replace(spec, **wrong), *given)
    )
    with pytest.raises(VerificationError, match="verification failed"):
        call("align", provider)


def test_a_wrong_weight_in_the_compiled_kernel_is_caught(monkeypatch):
    """One tap of the real kernel's plan weighs a ten-thousandth too much."""
    need_numba()
    from roicli.runtime.native import kernels

    real = kernels.kernel

    def kernel(name, dtype):
        compiled = real(name, dtype)
        if name != "plan_align":
            return compiled

        def plan(x_axis, x, y_axis, y, *rest):
            compiled(x_axis, x, y_axis, y, *rest)
            x.weights[0::2] *= np.float32(1.0001)

        return plan

    assert call("align", "native").verification.largest.ulp < 11
    monkeypatch.setattr(kernels, "kernel", kernel)
    with pytest.raises(VerificationError, match="provider native"):
        call("align", "native")


def test_what_an_interruption_would_keep_goes_too(monkeypatch, tmp_path):
    def harm(out, corners, runner):
        out[corners[:, 0] == CORNERS[59, 0], 3] += 1

    corrupt(monkeypatch, harm)
    monkeypatch.setattr(pipeline, "WORK_A_BLOCK", 1)
    with pytest.raises(VerificationError, match="RoI 59, channel 3"):
        call("pool", "cpu", output=tmp_path / "out.npy", resume=True)
    assert list(tmp_path.iterdir()) == []


# --- right operators --------------------------------------------------------------------------


@given(
    corners=boxes(max_size=6),
    name=st.sampled_from(sorted(CALLS)),
    kind=st.sampled_from(["float32", "float64", "float16", "int8", "uint16", "large", "broken"]),
    options=st.fixed_dictionaries(
        {"output_size": st.sampled_from([1, 7, (2, 3)]), "threads": st.integers(1, 3)}
    ),
)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_right_operator_is_not_accused(corners, name, kind, options, provider):
    if provider == "native":
        need_numba()
    features = IMAGES * 20
    if kind == "large":
        features = features * np.float32(1e36)
    elif kind == "broken":
        features = features.copy()
        features[0, :, 5, 5:8], features[0, 3, 2], features[0, 4] = np.nan, np.inf, -np.inf
    else:
        features = (np.abs(features) if kind == "uint16" else features).astype(kind)
    rois = np.column_stack([np.zeros(len(corners)), corners]).astype(np.float32)
    found = call(name, provider, features, rois, **options).verification
    assert found.rois == found.rois_in_all == len(rois)
    size = np.prod(np.broadcast_to(options["output_size"], 2))
    assert found.values + found.left_out == len(rois) * 21 * size


@some("name, provider", product(CALLS, PROVIDERS), *[*zip(CALLS, cycle(PROVIDERS))][1::2],
      indirect=["provider"])  # fmt: skip
def test_the_sample_data_over_a_pyramid(name, provider):
    operator, own = CALLS[name]
    large = [[0, 0, 0, 512, 512], [1, 3, 3, 500, 509], [0, 9, 9, 250, 260]]
    rois = np.concatenate([np.load(TEXT_ROIS), np.array(large, np.float32)])
    options = {"levels": "p3,p4,p5", "provider": provider, **own}
    result = operator(FPN, rois, verify=200, **options)
    assert set(result.errors.column("level")) == {3, 4, 5}
    found = result.verification
    assert (found.rois, found.rois_in_all) == (105, 105)
    assert (found.values, found.left_out) == (105 * 24 * 49, 0)
    assert found.largest.ulp == 0 if operator is roicli.pool else 0 < found.largest.ulp < 8
    few = operator(FPN, rois, verify=True, **options).verification
    assert (few.rois, few.rois_in_all) == (64, 105)
    assert operator(FPN, rois, verify=True, **options).verification == few


def test_the_largest_deviation_is_where_it_says():
    result = call("align", "cpu")
    element, plain = result.verification.largest, call("align", "cpu", verify=None)
    row, column = element.bin_index
    assert plain.roi_features[element.roi, element.channel, row, column] == element.found
    assert 0 < abs(element.found - element.expected) <= element.bound
    # At the size of what was added, which is the mean's own size or more.
    assert element.ulp <= abs(element.found - element.expected) / np.spacing(
        np.float32(abs(element.expected))
    )
    assert str(result.verification).startswith("verified 60 of 60 RoIs, 61740 values: largest")
    assert plain.verification is None


def test_a_verified_run_writes_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    with logged() as notes:
        for name, verify in (("plain.h5", False), ("verified.h5", True)):
            call("align", "cpu", output=tmp_path / name, verify=verify, values=True)
    assert (tmp_path / "plain.h5").read_bytes() == (tmp_path / "verified.h5").read_bytes()
    assert sum("verified 60 of 60 RoIs" in note for note in notes) == 1


# --- the sample -------------------------------------------------------------------------------


def as_rois(rois):
    return RoIs(rois[:, 0].astype(np.int64), rois[:, 1:].astype(np.float64), np.zeros(len(rois)))


def test_the_rois_decide_the_sample():
    rows = sample_rows(as_rois(ROIS), 16)
    assert len(set(rows)) == 16
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(sample_rows(as_rois(ROIS.copy()), 16), rows)
    moved = ROIS.copy()
    moved[0, 1] += 1
    assert set(sample_rows(as_rois(moved), 16)) != set(rows)
    moved[0] = ROIS[0]
    moved[0, 0] += 1
    assert set(sample_rows(as_rois(moved), 16)) != set(rows)
    np.testing.assert_array_equal(sample_rows(as_rois(ROIS), 1000), np.arange(60))
    assert len(sample_rows(as_rois(ROIS[:0]), 4)) == 0


def test_every_roi_is_as_likely_as_another():
    counts = np.zeros(40)
    for number in range(2000):
        rois = as_rois(np.full((40, 5), number, np.float32))
        counts[sample_rows(rois, 10)] += 1
    # Binomial of 2000 and 1/4: five standard deviations.
    assert np.abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_threads_blocks_and_memory_do_not_change_what_is_compared(monkeypatch):
    expected = call("align", "cpu", verify=16).verification
    monkeypatch.setattr(pipeline, "WORK_A_BLOCK", 1)
    assert call("align", "cpu", verify=16, threads=3).verification == expected


def test_no_rois_have_nothing_to_compare():
    found = call("pool", "cpu", rois=ROIS[:0]).verification
    assert found == verification.Verification(0, 0, 0, 0, None)
    assert str(found) == "verified 0 of 0 RoIs, 0 values: nothing to compare"


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "64", [64]])
def test_a_number_of_rois_that_is_none_is_refused(wrong):
    with pytest.raises(ParameterError, match=r"verify is .* expected True or a number of RoIs"):
        call("pool", "cpu", verify=wrong)


def test_errors_alone_have_nothing_to_verify():
    with pytest.raises(TypeError, match="verify"):
        roicli.errors(IMAGES, ROIS, verify=True)


@some("name, size", product(CALLS, (1.7e308, 1e-308)),
      *zip(CALLS, cycle((1.7e308, 1e-308))))  # fmt: skip
def test_numbers_of_every_size(name, size):
    """What is past the dtype is left out, and the arithmetic of the check warns of nothing."""
    features = np.random.default_rng(5).uniform(-1, 1, IMAGES.shape) * size
    found = call(name, "cpu", features, ROIS.astype(np.float64)).verification
    assert found.rois == 60
    assert found.values + found.left_out == 60 * 21 * 49
    assert (found.left_out > 0) is (size > 1 and name in ("align", "thirds, adaptive"))
