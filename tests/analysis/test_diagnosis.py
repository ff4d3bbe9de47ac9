"""Results made by others' rules, with nothing of the package's own kernels, are recognized."""

from dataclasses import replace
from importlib import import_module
from itertools import cycle, product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import roicli
from roicli.analysis.diagnose.candidates import (
    NO_ODDITY,
    ODDITIES,
    SHIFTS,
    Candidate,
    Wanted,
    first_candidates,
)
from roicli.analysis.diagnose.run import Diagnosis, diagnose
from roicli.analysis.roi_sample import spread
from roicli.core.exceptions import InputError, ParameterError
from roicli.operators.convention import (
    ALIGN,
    AVERAGE_POOL,
    BOXES,
    CROP,
    HALF_EVEN,
    HALF_PIXEL,
    LEGACY,
    POINT_ALIGN,
    PRECISE_POOL,
    PS_POOL,
    Convention,
    Placement,
)
from roicli.operators.evaluate import evaluate
from roicli.operators.sampled_map import Bins, SampledMap, all_bins
from tests import oracle
from tests.operators import engines
from tests.options import some
from tests.strategies import RULES, awkward_corners, normal_map, ort_max_roi_pool, ort_roi_align

SAMPLES = Path(__file__).parents[2] / "sample_data"
SCALE = 1 / 8
MODES = {"half-pixel": "half_pixel", "legacy": "output_half_pixel"}
OPENVINO = {
    "legacy": "asymmetric",
    "half-pixel": "half_pixel_for_nn",
    "openvino-half-pixel": "half_pixel",
}


BOX = {
    "half-pixel": HALF_PIXEL,
    "legacy": LEGACY,
    "openvino-half-pixel": replace(HALF_PIXEL, start_px=0.5, end_px=0.5),
}


def align_rule(reduction: Any, coordinates: str, ratio: int, grid: Any = "quarters") -> Candidate:
    """RoI Align by its options."""
    rule = Convention(BOX[coordinates], grid=grid, sampling_ratio=ratio, reduction=reduction)
    return Candidate(rule)


def pool_rule(quantization: Any, partition: Any) -> Candidate:
    """RoI Pool by its options."""
    cut = "hull" if quantization == "mmcv" else partition
    return Candidate(Convention(BOXES[quantization], cut=cut, reduction="cell-max"))


@pytest.fixture(scope="module")
def maps() -> NDArray[np.float32]:
    """The real p3, eight channels, values of both signs."""
    with h5py.File(SAMPLES / "text_fpn.h5") as file:
        return np.ascontiguousarray(file["p3"][:, :8])


@pytest.fixture(scope="module")
def rois() -> NDArray[np.float32]:
    """Every third of the real RoIs."""
    return np.load(SAMPLES / "text_rois.npy")[::3]


def find(features: Any, boxes: Any, result: Any, **options: Any) -> Diagnosis:
    """The diagnosis at the stride of p3."""
    return diagnose(features, boxes, result, **{"spatial_scale": SCALE, **options})


def matched(found: Diagnosis) -> Any:
    """The convention of the match."""
    assert found.match is not None
    assert found.match.distance < 1e-5
    assert found.runner_up is None or found.runner_up.distance > 3 * found.match.distance
    return found.match.candidate


# A search takes half a second, so few are made; what all candidates compute is held against the
# operators below without one.
@some("coordinates, ratio, mode", product(MODES, range(5), ("avg", "max")),
      ("half-pixel", 0, "max"), ("legacy", 4, "avg"))  # fmt: skip
def test_bare_roi_align(maps: Any, rois: Any, coordinates: str, ratio: int, mode: str) -> None:
    """ONNX's own max is the maximum over weighted corners; at ratio 1 too."""
    result = ort_roi_align(
        maps, rois, (7, 7), spatial_scale=SCALE, sampling_ratio=ratio, mode=mode,
        coordinate_transformation_mode=MODES[coordinates],
    )  # fmt: skip
    reduction = "mean" if mode == "avg" else "max-weighted-corners"
    found = matched(find(maps, rois, result))
    assert found == align_rule(reduction, coordinates, ratio)


@some("aligned, ratio", product((True, False), (0, 2)), (True, 0))
def test_true_max_of_the_oracle(maps: Any, rois: Any, aligned: bool, ratio: int) -> None:
    result = oracle.roi_align(
        maps, rois[::3], spatial_scale=SCALE, sampling_ratio=ratio, aligned=aligned, mode="max",
        output_size=(3, 4),
    )  # fmt: skip
    found = matched(find(maps, rois[::3], result))
    coordinates = "half-pixel" if aligned else "legacy"
    assert found == align_rule("max", coordinates, ratio)


def test_thirds_of_the_oracle(maps: Any, rois: Any) -> None:
    result = oracle.roi_align(maps, rois[::3], spatial_scale=SCALE, sampling_grid="thirds")
    assert matched(find(maps, rois[::3], result)).convention.grid == "thirds"


@some("coordinates, mode", product(OPENVINO, ("avg", "max")),
      ("half-pixel", "max"), ("openvino-half-pixel", "avg"))  # fmt: skip
def test_openvino(maps: Any, rois: Any, coordinates: str, mode: str) -> None:
    """Its max starts from 0; its half_pixel is half-pixel with coordinates +0.5 px."""
    result = openvino_roi_align(maps, rois, mode, OPENVINO[coordinates])
    diagnosis = find(maps, rois, result)
    found = matched(diagnosis)
    same = [found, *diagnosis.synonyms]
    reduction = "mean" if mode == "avg" else "max-floored"
    assert align_rule(reduction, coordinates, 2) in same
    if coordinates == "openvino-half-pixel":
        assert "openvino.ROIAlign" in [row.name for row in diagnosis.libraries]


def openvino_roi_align(maps: Any, rois: Any, mode: str, aligned_mode: str) -> NDArray[Any]:
    """ROIAlign-9 on OpenVINO's CPU plugin, ratio 2, 7 x 7 bins."""
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    operators = import_module("openvino.opset9")
    features = operators.parameter(maps.shape, np.float32)
    boxes = operators.parameter([len(rois), 4], np.float32)
    batch = operators.parameter([len(rois)], np.int32)
    node = operators.roi_align(features, boxes, batch, 7, 7, 2, SCALE, mode, aligned_mode)
    model = openvino.Model([node], [features, boxes, batch])
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", hint)
    feeds = [maps, np.ascontiguousarray(rois[:, 1:]), rois[:, 0].astype(np.int32)]
    return np.array(compiled(feeds)[0])


def test_bare_max_roi_pool(maps: Any, rois: Any) -> None:
    found = matched(find(maps, rois, ort_max_roi_pool(maps, rois, (7, 7), SCALE)))
    assert found == pool_rule("caffe", "overlap")


# Of these RoIs none lies at an exact half, where rounding to even differs.
TOLD_APART = [rule for rule in RULES if rule[0] != "half-even"]


@some("quantization, partition", TOLD_APART, ("floor", "floor-size"),
      ("mmcv", "overlap"))  # fmt: skip
def test_every_rule_of_the_oracle(maps: Any, rois: Any, quantization: str, partition: str) -> None:
    result = oracle.roi_pool(
        maps, rois, spatial_scale=SCALE, quantization=quantization, partition=partition,
        output_size=(3, 2),
    )  # fmt: skip
    expected = pool_rule(quantization, partition)
    assert matched(find(maps, rois, result)) == expected


def spoil(rois: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """What an oddity does to RoIs, written down again."""
    boxes = rois.copy()
    if name.startswith("shifted"):
        boxes[:, 1:] += 0.5 if name == "shifted-plus" else -0.5
    elif name == "inclusive":
        boxes[:, 3:] += 1
    elif name == "swapped":
        boxes = boxes[:, [0, 2, 1, 4, 3]]
    elif name == "float16":
        boxes[:, 1:] = boxes[:, 1:].astype(np.float16)
    elif name == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="the reference for bfloat16")
        boxes[:, 1:] = boxes[:, 1:].astype(ml_dtypes.bfloat16)
    return boxes


WRONG = [name for name, _ in SHIFTS[1:]] + [oddity.name for oddity in ODDITIES[1:]]


@some("name, operator", product(WRONG, ("align", "pool")),
      *[*zip(WRONG, cycle(("align", "pool")))][1::3])  # fmt: skip
def test_what_went_wrong_on_the_way(maps: Any, rois: Any, name: str, operator: str) -> None:
    scale = {"scale-doubled": 2.0, "scale-halved": 0.5}.get(name, 1.0) * SCALE
    boxes = spoil(rois, name)
    if operator == "align":
        result = ort_roi_align(
            maps, boxes, (7, 7), spatial_scale=scale, sampling_ratio=2,
            coordinate_transformation_mode="output_half_pixel",
        )  # fmt: skip
    else:
        result = ort_max_roi_pool(maps, boxes, (7, 7), scale)
    found = find(maps, rois, result)
    assert matched(found).operator == operator
    assert name in [c.oddity_name for c in (found.nearest.candidate, *found.synonyms)]


def test_the_plainest_name_comes_first() -> None:
    """A maximum floored at 0 on a map without negatives is the true maximum."""
    features = np.abs(normal_map((1, 3, 20, 24)))
    boxes = np.array([[0, 3, 4, 60, 50], [0, 10, 8, 90, 70], [0, 2, 30, 40, 66]], np.float32)
    result = oracle.roi_align(features, boxes, spatial_scale=0.25, mode="max")
    found = find(features, boxes, result, spatial_scale=0.25)
    assert matched(found).convention.reduction == "max"
    assert "max-floored" in [c.convention.reduction for c in found.synonyms]


@some("value", [(1.0,), (0.1,), (-1e30,), (1e-30,)], (0.1,))
def test_a_constant_map_tells_nothing_apart(rois: Any, value: float) -> None:
    features = np.full((2, 2, 64, 64), value, np.float32)
    boxes = rois[(rois[:, 1:] > 40).all(axis=1) & (rois[:, 1:] < 240).all(axis=1)][:6]
    result = ort_roi_align(features, boxes, (3, 3), spatial_scale=SCALE, sampling_ratio=3)
    found = find(features, np.tile(boxes, (4, 1)), np.tile(result, (4, 1, 1, 1)))
    assert found.match is found.partial is found.nearest is found.runner_up is None
    assert not found.told_apart
    assert found.rois_compared == found.rois


@some("offset, spread_, operator",
      [(*size, operator) for size in ((1000.0, 1.0), (1e6, 50.0), (-3e5, 100.0))
       for operator in ("align", "noise", "constant")],
      (1e6, 50.0, "align"))  # fmt: skip
def test_an_offset_does_not_make_a_match(
    rois: Any, offset: float, spread_: float, operator: str
) -> None:
    """Distances are relative to how the values vary, and rounding is to their size."""
    features = (normal_map((2, 4, 64, 64)) * spread_ + offset).astype(np.float32)
    boxes = rois[(rois[:, 1:] > 40).all(axis=1) & (rois[:, 1:] < 240).all(axis=1)][:12]
    result = ort_roi_align(features, boxes, (3, 3), spatial_scale=SCALE, sampling_ratio=3)
    if operator == "noise":
        result = (normal_map(result.shape, seed=4) * spread_ + offset).astype(np.float32)
    if operator == "constant":
        result = np.full_like(result, offset)
    found = find(features, boxes, result)
    assert found.told_apart
    if operator == "align":
        assert found.match is not None
        assert found.match.candidate == align_rule("mean", "half-pixel", 3)
    else:
        assert found.match is found.partial is found.nearest is found.runner_up is None
        assert found.distance > 0.3


@some("size", [(1e300,), (1e-300,), (1e38,)])
def test_numbers_of_every_size(rois: Any, size: float) -> None:
    features = normal_map((2, 3, 64, 64)).astype(np.float64) * size
    boxes = rois[::3].astype(np.float64)
    result = oracle.roi_align(features, boxes, spatial_scale=SCALE, sampling_ratio=2)
    assert matched(find(features, boxes, result)).convention.sampling_ratio == 2


@pytest.mark.full
def test_half_precision_results_match_too(maps: Any, rois: Any) -> None:
    result = ort_roi_align(maps, rois, (7, 7), spatial_scale=SCALE, sampling_ratio=2)
    found = find(maps, rois, result.astype(np.float16))
    assert found.match is not None
    assert 2**-11 <= found.tolerance < 2**-10
    assert found.match.candidate == align_rule("mean", "half-pixel", 2)


@some("result", [("noise",), ("zeros",), ("scaled",)], ("zeros",))
def test_nothing_matches(maps: Any, rois: Any, result: str) -> None:
    values = ort_roi_align(maps, rois, (7, 7), spatial_scale=SCALE, sampling_ratio=2)
    values = {
        "noise": normal_map(values.shape, seed=3),
        "zeros": np.zeros_like(values),
        "scaled": values * np.float32(1.01),
    }[result]
    found = find(maps, rois, values)
    assert found.match is found.partial is None
    assert found.zeros is (result == "zeros")
    if result == "scaled":
        assert found.nearest is not None
        assert found.runner_up is not None
        assert found.runner_up.distance >= found.nearest.distance > found.tolerance
    else:
        assert found.nearest is found.runner_up is None
        assert found.distance > 0.3 or found.zeros


def test_a_pyramid() -> None:
    files = str(SAMPLES / "text_fpn.h5"), str(SAMPLES / "text_rois.npy")
    result = roicli.align(*files, levels="p3,p4,p5", aligned=False, sampling_ratio=3)
    found = roicli.diagnose(*files, result.roi_features, levels="p3,p4,p5")
    assert matched(found) == align_rule("mean", "legacy", 3)


@pytest.mark.full
def test_double_precision(maps: Any, rois: Any) -> None:
    wide = maps.astype(np.float64)
    result = oracle.roi_align(wide, rois[::4], spatial_scale=SCALE, sampling_ratio=2)
    assert matched(find(wide, rois[::4], result)).convention.sampling_ratio == 2


def test_cells_that_are_not_finite_and_boxes_without_size_are_explained_too(
    maps: Any, rois: Any
) -> None:
    """Only boxes of too many samples are left out, and named."""
    spoilt = maps.copy()
    spoilt[0, :, 6:9, 6:9] = np.nan
    odd = [[0, 50, 60, 20, 20], [0, 40, 40, 40, 40], [0, 70, 10, 70, 50], [0, 30, 30, 90, 90]]
    boxes = np.concatenate([rois, odd, [[0, 0, 0, 90000, 90000]]], dtype=np.float32)
    rest = ort_roi_align(spoilt, boxes[:-1], (7, 7), spatial_scale=SCALE, sampling_ratio=2)
    assert np.isnan(rest[-1]).any()
    result = np.concatenate([rest, np.zeros((1, 8, 7, 7), np.float32)])
    found = find(spoilt, boxes, result, sample=None, ignore="R04,R05")
    assert matched(found).convention.sampling_ratio == 2
    assert (found.rois_compared, found.rois) == (len(boxes) - 1, len(boxes))
    assert [(group.reason, group.rows) for group in found.left_out] == [
        ("over 65,536 cells", (len(boxes) - 1,))
    ]


@pytest.fixture(scope="module")
def odd_case() -> tuple[Any, Any, Any]:
    """A map, ordinary boxes with one without size and two past the map, and their result."""
    features = normal_map((1, 3, 64, 64))
    boxes = np.array(
        [[0, 10 + 9 * n, 20 + 7 * n, 90 + 11 * n, 100 + 13 * n] for n in range(9)]
        + [[0, 99, 99, 99, 99], [0, -60, 30, 80, 90], [0, 400, 300, 600, 500]],
        np.float32,
    )
    result = ort_roi_align(features, boxes, (3, 3), spatial_scale=SCALE, sampling_ratio=0)
    return features, boxes, result


FILLS = {"nan": np.nan, "-inf": -np.inf, "-flt-max": np.finfo(np.float32).min, "-10000": -1e4}


@some("word", [(word,) for word in FILLS], ("-flt-max",))
def test_an_engines_own_fill_of_an_empty_grid(odd_case: Any, word: str) -> None:
    """It is part of the convention, and a match tells which RoIs need it."""
    features, boxes, plain = odd_case
    result = plain.copy()
    result[9] = FILLS[word]
    found = find(features, boxes, result)
    expected = align_rule("mean", "half-pixel", 0)
    assert matched(found).convention == replace(expected.convention, empty=word)
    (need,) = found.needs
    assert need.rows == (9,)
    assert "for an empty bin" in need.words
    names = [row.name for row in found.libraries]
    assert ("nnabla.roi_align" in names) is (word == "nan")
    assert "torchvision.roi_align" not in names


@some("fill", [(np.nan,), (-np.inf,), (-3e38,), (-5e3,)])
def test_what_explains_a_part_is_partial(odd_case: Any, fill: float) -> None:
    """Engines have a border of their own, or fill with what they like."""
    features, boxes, plain = odd_case
    found = find(features, boxes, plain)
    assert matched(found).convention.sampling_ratio == 0
    assert not found.needs
    for rows in ([10], [9, 10, 11]):
        result = plain.copy()
        result[rows] = fill
        found = find(features, boxes, result)
        assert found.match is None
        assert found.partial is not None
        best = found.partial.finding
        own = align_rule("mean", "half-pixel", 0).convention
        assert replace(best.candidate.convention, empty="0") == own
        assert best.distance < 1e-5
        explained = set(found.partial.rows)
        assert explained >= set(range(9))
        groups = {group.reason: group.rows for group in found.partial.others}
        left = sorted(row for rows in groups.values() for row in rows)
        assert left == sorted(set(range(12)) - explained)
        assert 10 in left
        if np.isfinite(fill):
            assert left == rows
            assert set(groups["reaching past the map"]) == {10, 11} & set(rows)
        else:
            assert set(groups) == {"NaN or infinite in the result"}


@pytest.mark.full
def test_one_bin_that_is_not_finite_is_not_explained(odd_case: Any) -> None:
    """A result of which some bins hold nothing is not one that a convention explains."""
    features, boxes, plain = odd_case
    result = plain.copy()
    result[3, 1, 2, 2] = -np.inf
    found = find(features, boxes, result)
    assert found.match is None
    assert found.partial is not None
    assert [group.rows for group in found.partial.others] == [(3,)]


@pytest.mark.full
def test_what_explains_less_than_half_is_not_named(odd_case: Any) -> None:
    features, boxes, plain = odd_case
    result = plain.copy()
    result[3:] = normal_map(result[3:].shape, seed=8)
    found = find(features, boxes, result)
    assert found.match is found.partial is found.nearest is None


def test_candidates_compute_what_the_operators_do(maps: Any, rois: Any) -> None:
    """Of every rule and ratio, without an oddity, against bare ONNX Runtime and the oracle."""
    boxes = rois[:12]
    expected = {
        align_rule(reduction, coordinates, ratio): ort_roi_align(
            maps, boxes, (3, 4), spatial_scale=SCALE, sampling_ratio=ratio, mode=mode,
            coordinate_transformation_mode=MODES[coordinates],
        )
        for coordinates, ratio in product(MODES, range(5))
        for mode, reduction in (("avg", "mean"), ("max", "max-weighted-corners"))
    }  # fmt: skip
    for quantization, partition in RULES:
        convention = pool_rule(quantization, partition)
        expected[convention] = oracle.roi_pool(
            maps, boxes, spatial_scale=SCALE, quantization=quantization, partition=partition,
            output_size=(3, 4),
        )  # fmt: skip
    sampled = [
        SampledMap(image.astype(np.float64), boxes[boxes[:, 0] == n, 1:], SCALE)
        for n, image in enumerate(maps)
    ]
    order = np.argsort(boxes[:, 0], kind="stable")
    bins = Bins((3, 4), np.arange(3), np.arange(4))
    for candidate, values in expected.items():
        found = np.concatenate([evaluate(candidate.convention, one, bins) for one in sampled])
        np.testing.assert_allclose(
            found, values[order], atol=1e-5 * np.ptp(values), err_msg=candidate.name
        )


def test_candidates_agree_with_the_oracle_off_the_map() -> None:
    """Crossed, tiny and outside boxes, every plain convention."""
    features = normal_map((1, 2, 9, 12))
    corners = awkward_corners((9, 12), 0.25, 24, seed=2)
    boxes = np.column_stack([np.zeros(24), corners]).astype(np.float32)
    one = SampledMap(features[0].astype(np.float64), corners, 0.25)
    for aligned, ratio, mode in product((True, False), (0, 2), ("avg", "max")):
        coordinates = "half-pixel" if aligned else "legacy"
        rule = align_rule("mean" if mode == "avg" else mode, coordinates, ratio)
        expected = oracle.roi_align(
            features, boxes, output_size=(2, 3), spatial_scale=0.25, mode=mode,
            sampling_ratio=ratio, aligned=aligned,
        )  # fmt: skip
        found = evaluate(rule.convention, one, all_bins((2, 3)))
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_coordinates_past_float16() -> None:
    """They are infinite there, which is no candidate, and no error either."""
    features = normal_map((1, 2, 40, 40))
    boxes = np.array([[0, 66000, 100, 79000, 5000], [0, 500, 900, 30000, 40000]], np.float32)
    scale = 1 / 2048
    for result in (
        ort_roi_align(features, boxes, (2, 2), spatial_scale=scale, sampling_ratio=2),
        ort_max_roi_pool(features, boxes, (2, 2), scale),
    ):
        assert matched(find(features, boxes, result, spatial_scale=scale)).oddity == NO_ODDITY


@pytest.mark.full
def test_many_images_are_sampled() -> None:
    """Forty images, of which eight are read."""
    features = normal_map((40, 2, 8, 8))
    boxes = np.array([[n, 1.5, 2, 6.5, 7] for n in range(40)], np.float32)
    result = ort_roi_align(features, boxes, (2, 2), sampling_ratio=2)
    found = find(features, boxes, result, spatial_scale=1.0)
    assert matched(found).convention.sampling_ratio == 2
    assert (found.rois_compared, found.rois) == (8, 40)


def test_the_grid_has_no_duplicates_and_names_tell_them_apart() -> None:
    candidates = first_candidates(Wanted())
    assert len(set(candidates)) == len({c.name for c in candidates}) == len(candidates)


@pytest.mark.full
def test_commands_tell_the_grid_apart() -> None:
    candidates = first_candidates(Wanted())
    commands = list(filter(None, (c.command for c in candidates)))
    assert len(set(commands)) == len(commands) > 2 * 2 * 9 + len(RULES)


@pytest.mark.parametrize("shape", [(35, 8, 7, 7), (34, 7, 7, 7), (34, 8, 0, 7), (34, 8, 48, 2, 3)])
def test_wrong_result_shape(maps: Any, rois: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \(34, 8, P_h, P_w\)"):
        find(maps, rois, np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(34, 3, 2, 2), (33, 2, 2, 2), (34, 16, 2, 2), (34, 4, 3, 3)])
def test_channels_that_no_position_sensitive_rule_gives(maps: Any, rois: Any, shape: Any) -> None:
    """Of eight channels: a group a bin, or a square of them."""
    with pytest.raises(InputError, match="P_h, P_w") as caught:
        find(maps, rois, np.zeros(shape, np.float32))
    assert "position-sensitive results have 8 channels over" in str(caught.value.hint)


@some("stretch, offset, rule",
      [((0.64, 0.64), (0, 0), align_rule("mean", "half-pixel", 2)),
       ((0.64, 0.6), (0, 0), align_rule("mean", "half-pixel", 2)),
       ((1.25, 1.25), (0, 0), align_rule("mean", "legacy", 0)),
       ((0.8, 0.8), (7, -3), align_rule("mean", "half-pixel", 2)),
       ((0.64, 0.64), (0, 0), pool_rule("caffe", "overlap"))],
      ((0.64, 0.64), (0, 0), align_rule("mean", "half-pixel", 2)))  # fmt: skip
def test_rois_in_other_pixels(stretch: Any, offset: Any, rule: Candidate) -> None:
    """Their scale and offset are found, and said."""
    features = normal_map((1, 4, 50, 68))
    rng = np.random.default_rng(3)
    low, sides = rng.uniform(0, 250, (40, 2)), rng.uniform(40, 160, (40, 2))
    boxes = np.concatenate([np.zeros((40, 1)), low, low + sides], axis=1).astype(np.float32)
    used = boxes.copy()
    used[:, 1:] = boxes[:, 1:] * np.array(stretch * 2) + np.array(offset * 2)
    found = find(features, boxes, known(rule.convention, features, used, (5, 5)))
    candidate = matched(found)
    # Half-pixel is legacy half a cell on, where boxes are larger than a cell.
    placed = {one: one.box.shift_cells / SCALE for one in (rule.convention, candidate.convention)}
    assert replace(candidate.convention, box=rule.convention.box) == rule.convention
    moved = np.array(candidate.oddity.offset_px) + placed[candidate.convention]
    np.testing.assert_allclose(moved, np.array(offset) + placed[rule.convention])
    assert candidate.oddity.stretch == pytest.approx(stretch)
    assert candidate.oddity_name == "fitted"
    assert candidate.command is None
    if stretch == (0.64, 0.64):
        assert candidate.name.endswith("RoIs 1/1.5625 of those")


SCALED = {
    "average pool": AVERAGE_POOL,
    "average pool, half to even": replace(AVERAGE_POOL, box=HALF_EVEN),
    "mmcv pool": Convention(BOXES["mmcv"], cut="hull", reduction="cell-max"),
    "R-FCN boxes": replace(PS_POOL, channels="all"),
    "precise": PRECISE_POOL,
    "MindSpore": Convention(BOXES["mmcv"]),
    "2P points": replace(CROP.placed(normalization="image"), sampling_ratio=2, reduction="max"),
    "position-sensitive": replace(PS_POOL, group_size=2),
}


@pytest.mark.full
@pytest.mark.parametrize("scale", [0.64, 1.6])
@pytest.mark.parametrize("rule", SCALED.values(), ids=SCALED)
def test_a_scale_is_found_whatever_the_rule(
    maps: Any, rois: Any, rule: Convention, scale: float
) -> None:
    """Plain conventions say about which scale, all conventions then say it well."""
    used = rois.copy()
    used[:, 1:] *= np.float32(scale)
    features = maps[:1]
    result = known(rule, features, used[used[:, 0] == 0], (5, 5))
    found = find(features, rois[rois[:, 0] == 0], result)
    candidate = matched(found)
    assert rule in [one.convention for one in (candidate, *found.synonyms)]
    assert candidate.oddity.stretch == pytest.approx((scale, scale), rel=1e-5)


def known(convention: Convention, features: Any, boxes: Any, size: Any) -> NDArray[np.float64]:
    """What a rule gives, by the evaluator that is held against other engines' results."""
    one = SampledMap(features[0].astype(np.float64), boxes[:, 1:], SCALE)
    return evaluate(convention, one, all_bins(size))


@some("rule, name",
      [(replace(PS_POOL, group_size=0), "mxnet.PSROIPooling"),
       (replace(ALIGN, channels="class-major"), "torchvision.ps_roi_align"),
       (replace(PS_POOL, group_size=0, box=Placement(minimum=0.1)),
        "chainercv.ps_roi_average_pooling_2d"),
       (replace(ALIGN, channels="position-major"), None)],
      (replace(PS_POOL, group_size=0), "mxnet.PSROIPooling"),
      (replace(ALIGN, channels="position-major"), None))  # fmt: skip
def test_position_sensitive_channels(rois: Any, rule: Convention, name: str | None) -> None:
    features = normal_map((1, 18, 40, 44))
    boxes = rois * np.array([0, 1, 1, 1, 1], np.float32)
    found = find(features, boxes, known(rule, features, boxes, (3, 3)))
    assert matched(found).convention == rule
    assert name is None or name in [row.name for row in found.libraries]


ENGINE_RULES = {
    "dense": Convention(LEGACY, sampling_ratio=6),
    "fill": replace(CROP.placed(normalization="image"), border_value=-7.0),
    "fill past one cell": replace(ALIGN, border="value", border_value=1.5),
}


@some("name", [(name,) for name in ENGINE_RULES], ("fill",))
def test_what_callers_choose(name: str) -> None:
    """A sampling ratio that is nobody's default; a value off the map."""
    entry, rule = engines.entries()["torchvision-roi_pool-default"], ENGINE_RULES[name]
    maps, rois = engines.features(), entry.rois
    result = np.zeros((len(rois), 2, 5, 3))
    for image in range(2):
        here = rois[:, 0] == image
        one = SampledMap(maps[image].astype(np.float64), rois[here, 1:], engines.SCALE)
        result[here] = evaluate(rule, one, all_bins((5, 3)))
    found = find(maps, rois, result, spatial_scale=engines.SCALE, ignore="R04,R05")
    assert matched(found).convention.parameters() == rule.parameters()
    if rule.border_value:
        assert f"{rule.border_value:g} off the map" in found.match.candidate.name
        libraries = [row.name for row in found.libraries]
        assert ("tensorflow.crop_and_resize" in libraries) is (name == "fill")
        assert [need.reason for need in found.needs] == ["reaching past the map"]


def test_channels_that_are_constant_on_each_map_tell_nothing() -> None:
    """They differ between the maps more than others do within them."""
    features = normal_map((2, 6, 25, 38))
    features[0, 2:], features[1, 2:] = 40, -40
    rng = np.random.default_rng(1)
    corners = rng.uniform(20, 100, (16, 2))
    boxes = np.column_stack([np.arange(16) % 2, corners, corners + rng.uniform(60, 90, (16, 2))])
    boxes = boxes.astype(np.float32)
    result = ort_roi_align(features, boxes, (3, 3), spatial_scale=SCALE, sampling_ratio=2)
    found = find(features, boxes, result)
    assert matched(found) == align_rule("mean", "half-pixel", 2)
    assert "mmcv.RoIPool" not in [row.name for row in found.libraries]


@pytest.mark.full
def test_an_offset_that_is_near_none() -> None:
    """Two pixels move RoIs less than what is far from every convention."""
    features = np.cumsum(normal_map((1, 4, 50, 68)), axis=3)
    corners = np.random.default_rng(3).uniform(20, 200, (12, 2)).astype(np.float32)
    boxes = np.column_stack([np.zeros(12), corners, corners + 120]).astype(np.float32)
    rule = ALIGN.placed(start_px=2.0, end_px=2.0)
    found = find(features, boxes, known(rule, features, boxes, (5, 5)))
    assert matched(found).oddity.offset_px == (2.0, 2.0)


@pytest.mark.full
def test_rois_through_float16_of_any_convention(maps: Any) -> None:
    """Whole pixels are as they were, so a part is explained without it; 0.01 px below half a cell
    is half a cell.
    """
    rng = np.random.default_rng(8)
    low, sides = rng.uniform(130, 300, (30, 2)), rng.uniform(30, 150, (30, 2))
    boxes = np.concatenate([np.zeros((30, 1)), low, low + sides], axis=1).astype(np.float32)
    boxes = np.round(boxes)
    boxes[::3, 1:] = np.round(boxes[::3, 1:] / 8) * 8 + 3.99
    narrow = boxes.astype(np.float16).astype(np.float32)
    found = find(maps[:1], boxes, known(AVERAGE_POOL, maps[:1], narrow, (5, 5)))
    assert matched(found).convention == AVERAGE_POOL
    assert matched(found).oddity_name == "float16"


@pytest.mark.full
def test_zeros_off_the_map_are_no_part(maps: Any) -> None:
    """At twice the scale half of the boxes are off the map, where all conventions have zeros."""
    rng = np.random.default_rng(9)
    height, width = (side / SCALE for side in maps.shape[2:])
    low = rng.uniform(0.1, 0.9, (30, 2)) * [width, height]
    boxes = np.concatenate([np.zeros((30, 1)), low, low + 40], axis=1).astype(np.float32)
    doubled = boxes * np.float32([1, 2, 2, 2, 2])
    result = known(AVERAGE_POOL, maps[:1], doubled, (5, 5))
    found = find(maps[:1], boxes, result + (result != 0) * 0.05, ignore="R05,R06,R07")
    assert found.partial is None


@pytest.mark.full
def test_one_roi_of_one_bin() -> None:
    """One value a channel varies about the others'; a RoI at the border may be all there is."""
    features = normal_map((1, 6, 25, 38))
    rule = replace(ALIGN.placed(minimum=0.0), border="zero")
    for box, size in (([-4, 40, 90, 120], (4, 4)), ([30, 40, 90, 120], (1, 1))):
        boxes = np.array([[0, *box]], np.float32)
        found = find(features, boxes, known(rule, features, boxes, size).astype(np.float32))
        same = [c.convention for c in (matched(found), *found.synonyms)]
        assert any(c.sampling_ratio == 2 and c.box.shift_cells == -0.5 for c in same)


@pytest.fixture(scope="module")
def turned_case():
    """Turned RoIs with many angles, angles in degrees; and their features, legacy, clockwise."""
    rng = np.random.default_rng(6)
    boxes = np.column_stack([
        np.zeros(16), rng.uniform(60, 180, (16, 2)), rng.uniform(20, 90, (16, 2)),
        rng.uniform(-180, 180, 16),
    ]).astype("f4")  # fmt: skip
    boxes[3, 3] = 0.0
    maps = normal_map((1, 3, 32, 36))
    result = roicli.rotated_align(
        maps, boxes, spatial_scale=SCALE, output_size=(3, 4), aligned=False, ignore="R04",
        angle_direction="clockwise",
    ).roi_features  # fmt: skip
    return maps, boxes, result


@pytest.mark.full
def test_turned_rois_are_diagnosed(turned_case: Any) -> None:
    """Six columns, the angle in degrees or radians; rows in another order are found."""
    maps, boxes, result = turned_case
    options = {"roi_columns": "image,cx,cy,w,h,angle", "ignore": "R04"}
    rule = replace(ALIGN, box=replace(LEGACY, about="centre", turn="clockwise"))
    found = find(maps, boxes, result, **options)
    assert matched(found).convention == rule
    assert found.match.candidate.command == (
        "roicli rotated-align --no-aligned --sampling-ratio 2 --angle-direction clockwise"
    )
    order = np.random.default_rng(1).permutation(16)
    again = find(maps, boxes, result[order], match_rows=True, **options)
    assert matched(again).convention == rule
    np.testing.assert_array_equal(again.alignment.rows.b[np.argsort(again.alignment.rows.a)], order)
    boxes = boxes.copy()
    boxes[:, 5] = np.radians(boxes[:, 5])
    assert matched(find(maps, boxes, result, angle_unit="radians", **options)).convention == rule
    assert find(maps, boxes, result, **options).match is None


@some("rule, library",
      [(POINT_ALIGN, "keras_cv.ROIAligner"), (replace(CROP, border="zero", reach=1.0), "kornia"),
       (CROP.placed(normalization="image-less-1", end_px=-1.0), "tensorflow.matterport"),
       (Convention(Placement(end_px=1.0)), "mindspore.ROIAlign"),
       (Convention(Placement(start_px=-0.5, end_px=-0.5)), "tvm-onnx.RoiAlign")],
      (POINT_ALIGN, "keras_cv.ROIAligner"))  # fmt: skip
def test_rules_that_differ_at_the_border_and_below_a_cell(rule: Convention, library: str) -> None:
    features = normal_map((1, 3, 25, 38))
    corners = awkward_corners((25, 38), SCALE, 30, seed=5)
    boxes = np.column_stack([np.zeros(30), corners]).astype(np.float32)
    boxes[:, 3:] = np.maximum(boxes[:, 1:3], boxes[:, 3:])
    boxes[:15, 1:] = np.random.default_rng(2).uniform(20, 150, (15, 4))
    boxes[:15, 3:] = boxes[:15, 1:3] + np.random.default_rng(3).uniform(20, 40, (15, 2))
    boxes[16, 1:] = [-4, -4, 100, 90]
    result = known(rule, features, boxes, (3, 4))
    found = find(features, boxes, result, ignore="R04,R05")
    assert matched(found).convention.parameters() == rule.parameters()
    assert any(row.name.startswith(library) for row in found.libraries)
    assert bool(found.needs) is (library != "tensorflow.matterport")


def test_no_usable_roi(maps: Any) -> None:
    boxes = np.array([[0, 9, 9, 90000, 90000]], np.float32)
    with pytest.raises(InputError, match="65,536 cells"):
        find(maps, boxes, np.zeros((1, 8, 7, 7), np.float32))
    boxes = np.array([[0, 9, 9, 19, 19]], np.float32)
    with pytest.raises(InputError, match="NaN or infinity"):
        find(maps, boxes, np.full((1, 8, 7, 7), np.nan, np.float32))


@pytest.mark.parametrize("options", [{"sample": 0}, {"tolerance": 0.0}, {"tolerance": np.nan}])
def test_bad_options(maps: Any, rois: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        find(maps, rois, np.zeros((34, 8, 7, 7), np.float32), **options)


def test_a_sample_is_spread_over_the_sizes() -> None:
    assert spread(np.arange(10)[::-1], 2).tolist() == [4, 9]
    assert spread(np.arange(3), None).tolist() == [0, 1, 2]
    assert spread(np.arange(3), 9).tolist() == [0, 1, 2]
