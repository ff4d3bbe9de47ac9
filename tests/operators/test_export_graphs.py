"""Exported graphs, run by bare ONNX Runtime, have the bits of the runners."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from roicli.core.exceptions import ParameterError
from roicli.operators.export import build_export_graph
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.runners import build_runner
from tests.options import every_option, of_options
from tests.strategies import awkward_corners, normal_map, ort

SCALE = 1 / 16
IMAGES = normal_map((3, 4, 13, 17), seed=3)
CORNERS = np.concatenate(
    [awkward_corners((13, 17), SCALE, 48, seed) for seed in range(2)], dtype=np.float32
)
BATCH = np.random.default_rng(5).integers(0, 3, len(CORNERS))
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


def run_exported(spec, features, rois):
    graph = build_export_graph(spec, features.dtype, {})
    session = ort.InferenceSession(graph.model, providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == ["features", "rois"]
    (found,) = session.run(None, {"features": features, "rois": rois.astype(features.dtype)})
    return found


def run_runners(spec, features, rois):
    out = np.zeros((len(rois), features.shape[1], *spec.output_size), features.dtype)
    runner = build_runner(spec, features.dtype, "cpu", 2)
    for image, feature_map in enumerate(features):
        here = np.flatnonzero(rois[:, 0] == image)
        part = out[here]
        runner.load(feature_map)
        if len(here):
            runner.run(rois[here, 1:].astype(features.dtype), part)
        out[here] = part
    return out


def check(spec, dtype, corners=CORNERS, batch=BATCH):
    features, rois = IMAGES.astype(dtype), np.column_stack([batch, corners])
    found = run_exported(spec, features, rois)
    assert found.dtype == dtype
    assert np.abs(found).max() > 0.5
    np.testing.assert_array_equal(found, run_runners(spec, features, rois))


def fits_one_graph(spec):
    return isinstance(spec, PoolSpec) or spec.sampling_ratio > 0 or spec.native_to_roi_align


@pytest.mark.parametrize("scale", [SCALE, 0.1])
@of_options((3, 5), SCALE)
def test_images_have_the_bits_of_the_runners(cases, scale):
    # a crossed box has no adaptive grid, and bare RoiAlign fails on it
    straight = np.all(CORNERS[:, 2:] > CORNERS[:, :2], axis=1)
    for spec, dtype in cases:
        if fits_one_graph(spec):
            crossed = isinstance(spec, PoolSpec) or spec.sampling_ratio > 0
            kept = slice(None) if crossed else straight
            one = replace(spec, spatial_scale=scale)
            check(one, np.dtype(dtype), CORNERS[kept], BATCH[kept])


@pytest.mark.parametrize(
    "spec",
    [
        AlignSpec(),
        AlignSpec(mode="max", sampling_grid="thirds"),
        PoolSpec(),
        PoolSpec(quantization="hull"),
        PoolSpec(quantization="mmcv"),
        PoolSpec(partition="floor-size"),
    ],
    ids=lambda spec: f"{spec.operator}-{getattr(spec, 'quantization', spec.__dict__)}",
)
def test_no_rois_give_no_rows(spec):
    found = run_exported(spec, IMAGES, np.empty((0, 5)))
    assert found.shape == (0, 4, 7, 7)


@pytest.mark.parametrize("options", [{"mode": "max"}, {"sampling_grid": "thirds"}])
def test_adaptive_max_and_thirds_do_not_fit_one_graph(options):
    with pytest.raises(ParameterError, match="adaptive") as caught:
        build_export_graph(AlignSpec(sampling_ratio=0, **options), SINGLE, {})
    assert caught.value.hint == "give --sampling-ratio"


def test_onnx_accepts_it_in_full_and_keeps_the_metadata():
    for spec, dtype in every_option((2, 3), 0.1):
        if not fits_one_graph(spec):
            continue
        graph = build_export_graph(spec, np.dtype(dtype), {"operator": spec.operator, "note": ""})
        model = onnx.load_from_string(graph.model)
        onnx.checker.check_model(model, full_check=True)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert metadata == {"operator": spec.operator, "note": ""}
        assert {node.domain for node in model.graph.node} == {""}
        modes = [
            onnx.helper.get_attribute_value(attribute)
            for node in model.graph.node
            if node.op_type == "RoiAlign"
            for attribute in node.attribute
            if attribute.name == "mode"
        ]
        assert modes == [b"avg"] * len(modes)


def test_a_batch_of_another_size_needs_no_new_graph():
    graph = build_export_graph(PoolSpec((2, 2), SCALE, "hull"), SINGLE, {})
    session = ort.InferenceSession(graph.model, providers=["CPUExecutionProvider"])
    for shape in ((1, 2, 5, 6), (3, 7, 20, 9)):
        features = np.full(shape, 4.0, np.float32)
        (found,) = session.run(
            None, {"features": features, "rois": np.array([[0, 0, 0, 60, 60]], np.float32)}
        )
        assert found.shape == (1, shape[1], 2, 2)
        assert (found == 4).all()
