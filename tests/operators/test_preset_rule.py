"""``--preset`` of rules that no operator's own options reach, against the engines themselves."""

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest

import roicli
from roicli.core.exceptions import ParameterError, ProviderError
from roicli.operators.libraries import ROWS
from roicli.operators.phrases import as_options
from roicli.operators.preset_rule import build_preset_spec
from roicli.operators.presets import command_of, rule_of_preset
from roicli.runtime.engine import Engine
from tests.cli.running import succeed
from tests.log import logged
from tests.operators import engines
from tests.options import need_numba
from tests.strategies import normal_map, ort

MAPS = normal_map((1, 8, 9, 12))
ROIS = np.float32([[0, 3, 2, 30, 25], [0, -9, -9, 60, 50], [0, 40, 30, 70, 60], [0, 8, 8, 8, 8]])
OPTIONS = {"spatial_scale": 0.25, "output_size": (2, 3), "provider": "cpu", "ignore": "R04,R05"}
# Points at the ends of the box, and turned ones, have operators of their own.
UPRIGHT = [
    name
    for name, entry in engines.entries().items()
    if name not in engines.NOT_IMITATED
    and entry.convention.box.turn == "none"
    and entry.convention.grid != "ends"
]


@cache
def run(convention, output_size):
    """What one graph of taps gives for a rule on the engines' RoIs."""
    spec = build_preset_spec("a.b", convention, output_size).at_scale(engines.SCALE)
    runner = Engine("cpu", 1).build_runner(spec, np.dtype(np.float32))
    maps, (*_, entry) = engines.features(), engines.entries().values()
    channels = spec.output_channels(maps.shape[1])
    out = np.empty((len(entry.rois), channels, *output_size), np.float32)
    return spec, runner, out


@pytest.mark.full
def test_one_graph_gives_the_numbers_of_every_engine():
    """Empty bins too: 0, NaN, -inf, -10000 and -FLT_MAX."""
    fills = set()
    for name in UPRIGHT:
        entry = engines.entries()[name]
        _, runner, out = run(entry.convention, entry.result.shape[2:])
        for image, feature_map in enumerate(engines.features()):
            rows = np.flatnonzero(entry.rois[:, 0] == image)
            block = np.empty((len(rows), *out.shape[1:]), np.float32)
            runner.load(feature_map)
            runner.run(np.ascontiguousarray(entry.rois[rows, 1:]), block)
            out[rows] = block
        np.testing.assert_allclose(out, entry.result, atol=2e-5, rtol=0, err_msg=name)
        fills.add(entry.convention.empty)
    assert len(UPRIGHT) > 80
    assert fills >= {"0", "nan", "-inf", "-10000"}


RULES = [
    row for row in ROWS if as_options(row.convention) is None and row.operator != "deform-pool"
]


def test_these_are_the_rules_without_options_of_their_own():
    assert len(RULES) == 26


@pytest.mark.parametrize(
    "row", {row.convention: row for row in RULES}.values(), ids=lambda row: row.name
)
def test_a_preset_runs_is_verified_said_and_recorded(row):
    call = getattr(roicli, row.operator.replace("-", "_"))
    options = OPTIONS | ({"group_size": 2} if row.convention.channels != "all" else {})
    with logged() as notes:
        found = call(MAPS, ROIS, preset=row.name, verify=True, **options)
    assert found.verification.rois == len(ROIS)
    assert found.parameters["function"] == row.name
    assert found.parameters["reduction"] == row.convention.reduction
    assert any(row.name in note for note in notes)
    assert found.roi_features.shape[1] == (2 if "group_size" in options else 8)


ENGINES = {
    "megengine": "megengine-roi_align-aligned-average-sr2",
    "ncnn.ROIAlign-0": "ncnn-ROIAlign-v0-legacy-sr0",
    "chainer.roi_max_align_2d": "chainer-roi_max_align_2d-sr0",
}


@pytest.mark.parametrize("preset", ENGINES)
def test_a_preset_gives_the_engines_numbers(preset):
    entry = engines.entries()[ENGINES[preset]]
    found = roicli.align(
        engines.features(), entry.rois, preset=preset, spatial_scale=engines.SCALE,
        output_size=entry.result.shape[2:], ignore="R04,R05,R06", provider="cpu",
    )  # fmt: skip
    np.testing.assert_allclose(found.roi_features, entry.result, atol=2e-5)


def align(**options):
    return roicli.align(MAPS, ROIS, **(OPTIONS | options)).roi_features


def test_what_is_said_over_a_preset_is_another_of_its_rules():
    plain = align(preset="megengine")
    assert not np.array_equal(align(preset="megengine", sampling_ratio=3), plain)
    assert not np.array_equal(align(preset="megengine", mode="max"), plain)
    legacy = align(preset="megengine", aligned=False)
    shifted = ROIS + np.float32([0, 2, 2, 2, 2])  # half a cell at stride 4
    moved = roicli.align(MAPS, shifted, preset="megengine", **OPTIONS).roi_features
    np.testing.assert_allclose(moved, legacy, atol=1e-5)
    # roi_end_mode 0 is legacy RoI Align without more.
    mindspore = ROWS[[row.name for row in ROWS].index("mindspore.ROIAlign")]
    assert as_options(mindspore.also[0])[0] == "align"


def test_the_maximum_of_a_library_is_its_own():
    """ONNX takes that of the weighted corners, OpenVINO's is at least 0; roicli's is the true."""
    true = align(mode="max", sampling_ratio=2)
    corners = align(preset="onnxruntime", mode="max", sampling_ratio=2)
    floored = align(preset="openvino.ROIAlign", mode="max", sampling_ratio=2, aligned=True)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("RoiAlign", ["x", "r", "b"], ["y"], mode="max", output_height=2,
                                   output_width=3, spatial_scale=0.25, sampling_ratio=2)],
            "g",
            [onnx.helper.make_tensor_value_info("x", 1, [1, 8, 9, 12]),
             onnx.helper.make_tensor_value_info("r", 1, [4, 4]),
             onnx.helper.make_tensor_value_info("b", 7, [4])],
            [onnx.helper.make_tensor_value_info("y", 1, [4, 8, 2, 3])],
        ), opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8,
    )  # fmt: skip
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"x": MAPS, "r": ROIS[:, 1:], "b": np.zeros(4, np.int64)}
    (native,) = session.run(None, feeds)
    np.testing.assert_allclose(corners, native, atol=1e-6)
    np.testing.assert_allclose(floored, np.maximum(true, 0), atol=1e-5)


def test_what_a_preset_cannot_be_set_to_is_refused():
    for options, words in (
        ({"aligned": True, "preset": "mindspore"}, "mindspore.ROIAlign cannot have aligned True"),
        ({"sampling_grid": "thirds", "preset": "megengine"}, "cannot have sampling grid thirds"),
        ({"sampling_ratio": 2, "preset": "keras_cv"}, "cannot have sampling ratio 2"),
        ({"sampling_ratio": 0, "preset": "onnx2tf"}, "cannot have sampling ratio 0"),
        ({"mode": "max", "preset": "onnx-tf"}, "cannot have mode max"),
    ):
        with pytest.raises(ParameterError, match=words):
            align(**options)
    with pytest.raises(ParameterError, match="8 channels, which group size 3 cannot divide"):
        roicli.ps_align(MAPS, ROIS, preset="chainercv.ps_roi_average_align_2d",
                        **OPTIONS | {"output_size": 3})  # fmt: skip


def test_where_a_preset_ends_is_said():
    with logged() as notes:
        align(preset="arm")
        align(preset="torchvision")
    (note,) = [note for note in notes if "alone" in note]
    assert "arm.ROIAlignLayer is what follows for RoIs between the centres" in note


def test_of_some_ratios_each_can_be_said():
    plain, three = (align(preset="onnx2tf", sampling_ratio=ratio) for ratio in (2, 3))
    np.testing.assert_array_equal(align(preset="onnx2tf"), plain)
    assert not np.array_equal(three, plain)
    assert (align(preset="onnx2tf", sampling_ratio=3, mode="max") >= three - 1e-6).all()


def test_sums_have_a_compiled_kernel_and_maxima_say_that_they_have_none():
    need_numba()
    for preset in ("megengine", "ncnn.ROIAlign-0", "keras_cv", "faster-rcnn-pytorch"):
        native = align(preset=preset, provider="native")
        np.testing.assert_allclose(native, align(preset=preset), atol=1e-5)
    for preset in ("mnn.roi_pooling", "chainer.roi_pooling_2d"):
        options = {**OPTIONS, "output_size": 7, "preset": preset}
        del options["provider"]
        native, graph = (
            roicli.pool(MAPS, ROIS, provider=provider, **options).roi_features
            for provider in ("native", "cpu")
        )
        np.testing.assert_array_equal(native, graph)
    with pytest.raises(ProviderError, match="no compiled kernel for chainer"):
        align(preset="chainer.roi_max_align_2d", provider="native")


def test_errors_say_that_a_rule_is_not_what_they_compare():
    for preset, expected in (("mindspore", 1), ("mxnet", 0)):
        with logged() as notes:
            roicli.errors(MAPS, ROIS[:1], spatial_scale=0.25, preset=preset)
        assert sum("says nothing of the RoI Align" in note for note in notes) == expected


def test_a_rule_is_exported_explained_and_drawn(tmp_path):
    options = {"spatial_scale": 0.25, "output_size": (2, 3), "preset": "megengine"}
    roicli.export("align", tmp_path / "x.onnx", **options)
    session = ort.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"features": MAPS, "rois": ROIS})
    np.testing.assert_allclose(found, align(preset="megengine"), atol=1e-5)
    for more in ({}, {"operator": "align"}):
        reading = roicli.explain(MAPS, ROIS, roi=1, bin_index=(0, 0), **options, **more)
        assert reading.title == "megengine.roi_align"
        assert [check.equal for check in reading.checks] == [True]
        picture = roicli.draw(MAPS, ROIS, roi=0, **options, **more)
        assert picture.operator == "megengine.roi_align"
        assert len(picture.points) == 2 * 3 * 4


def test_the_command_says_whose_rule_it_is(tmp_path):
    np.save(tmp_path / "f.npy", MAPS)
    np.save(tmp_path / "r.npy", ROIS[:1])
    call = ("align", f"{tmp_path}/f.npy", f"{tmp_path}/r.npy", "--spatial-scale", "1/4")
    found = succeed(*call, "--preset", "mnn.roi_pooling", "-o", f"{tmp_path}/o.npy")
    assert "runs, and not align" in found.err
    assert "edges added up (MNN)" in found.err


def test_what_gives_a_rules_numbers_is_its_preset():
    rows = {row.name: row for row in ROWS}
    told = {row.name: command_of(row.convention) for row in RULES}
    for name, words in told.items():
        # Libraries with one rule share the first one's.
        first = next(row for row in RULES if row.convention == rows[name].convention)
        assert words == f"roicli {first.operator} --preset {first.name}"
    other = replace(rows["megengine.roi_align"].convention, sampling_ratio=3)
    assert command_of(other) == "roicli align --preset megengine.roi_align --sampling-ratio 3"
    assert command_of(rows["torchvision.roi_pool"].convention).startswith("roicli pool --quant")
    assert command_of(replace(other, border="skip")) is None
    set_otherwise = next(own for own in rows["megengine.roi_align"].also
                         if own.reduction == "max" and not own.box.shift_cells)  # fmt: skip
    words = "roicli align --preset megengine.roi_align --no-aligned --mode max"
    assert command_of(set_otherwise) == words
    rule = rule_of_preset("megengine.roi_align", "align", {"aligned": False, "mode": "max"})
    assert rule == ("megengine.roi_align", set_otherwise)
    one_group = replace(rows["openvino.PSROIPooling"].convention, channels="all")
    assert command_of(one_group) == "roicli ps-pool --ps-rule r-fcn --group-size 1"
