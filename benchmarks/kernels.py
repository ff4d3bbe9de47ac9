"""Every way to compute a load, as functions of nothing, so that they can take turns.

What each needs is imported where it is built, for that is a part of its start-up.
"""

import math
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from loads import CLASSES, SCALE, Load, make_map

from roicli.operators.average_pool import AveragePoolSpec, PsPoolSpec
from roicli.operators.crop_and_resize import CropAndResizeSpec
from roicli.operators.deform_pool import DeformPoolSpec
from roicli.operators.interface import OperatorSpec
from roicli.operators.precise_roi_pool import PrecisePoolSpec
from roicli.operators.ps_align import PsAlignSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.rotated_align import RotatedAlignSpec

Compute = Callable[[], object]
OPERATORS: dict[str, OperatorSpec] = {
    "align, ratio 2": AlignSpec(spatial_scale=SCALE),
    "align, adaptive": AlignSpec(spatial_scale=SCALE, sampling_ratio=0),
    "pool": PoolSpec(spatial_scale=SCALE),
}
# Operators that ONNX Runtime has no node for, and their graph, which runs on it.
WEIGHED: dict[str, OperatorSpec] = {
    "crop-and-resize": CropAndResizeSpec(spatial_scale=SCALE),
    "crop-and-resize, maximum of 2 x 2": CropAndResizeSpec(spatial_scale=SCALE, crop_points="max"),
    "average-pool": AveragePoolSpec(spatial_scale=SCALE),
    "precise-pool": PrecisePoolSpec(spatial_scale=SCALE),
    "rotated-align, ratio 2": RotatedAlignSpec(spatial_scale=SCALE),
    "rotated-align, adaptive": RotatedAlignSpec(spatial_scale=SCALE, sampling_ratio=0),
    "deform-pool, ratio 2": DeformPoolSpec(spatial_scale=SCALE),
    "ps-pool": PsPoolSpec(spatial_scale=SCALE, ps_rule="torchvision"),
    "ps-align, ratio 2": PsAlignSpec(spatial_scale=SCALE),
    "ps-align, adaptive": PsAlignSpec(spatial_scale=SCALE, sampling_ratio=0),
}
GRAPH = "graph on ONNX Runtime"


def plain_onnxruntime(load: Load, spec: OperatorSpec, threads: int) -> Compute:
    """What a script with ONNX Runtime alone does."""
    import onnx
    import onnxruntime as ort

    height, width = spec.output_size
    features = load.feature_map[None]
    if isinstance(spec, AlignSpec):
        node = onnx.helper.make_node(
            "RoiAlign", ["x", "rois", "batch"], ["y"], output_height=height, output_width=width,
            sampling_ratio=spec.sampling_ratio, spatial_scale=spec.spatial_scale,
        )  # fmt: skip
        feeds = {"x": features, "rois": load.rois[:, 1:].copy(),
                 "batch": np.zeros(len(load.rois), np.int64)}  # fmt: skip
    else:
        node = onnx.helper.make_node(
            "MaxRoiPool", ["x", "rois"], ["y"], pooled_shape=spec.output_size,
            spatial_scale=spec.spatial_scale,
        )  # fmt: skip
        feeds = {"x": features, "rois": load.rois}
    kinds = {
        np.dtype(np.float32): onnx.TensorProto.FLOAT,
        np.dtype(np.int64): onnx.TensorProto.INT64,
    }
    inputs = [
        onnx.helper.make_tensor_value_info(name, kinds[value.dtype], value.shape)
        for name, value in feeds.items()
    ]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([node], "plain", inputs, [output])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin on after their turn would take the core of whoever's turn is next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, feeds)


def roicli_runner(load: Load, spec: OperatorSpec, provider: str, threads: int) -> Compute:
    """A runner of this package, into a buffer that is kept."""
    from roicli.runtime.runners import build_runner

    runner = build_runner(spec, np.dtype(np.float32), provider, threads)
    corners = np.ascontiguousarray(load.rois[:, 1:])
    channels = spec.output_channels(len(load.feature_map))
    out = np.empty((len(corners), channels, *spec.output_size), np.float32)

    def compute() -> None:
        runner.load(load.feature_map)
        runner.run(corners, out)

    return compute


def openvino(load: Load, spec: OperatorSpec, threads: int) -> Compute:
    """OpenVINO; its RoI Pool differs from the operator's definition on some RoIs."""
    import openvino as ov
    from openvino import opset9 as ops

    features = ops.parameter(load.feature_map[None].shape, np.float32)
    if isinstance(spec, AlignSpec):
        rois = ops.parameter((len(load.rois), 4), np.float32)
        batch = ops.constant(np.zeros(len(load.rois), np.int32))
        node = ops.roi_align(
            features, rois, batch, *spec.output_size, spec.sampling_ratio, spec.spatial_scale,
            "avg", "half_pixel_for_nn",
        )  # fmt: skip
        given = load.rois[:, 1:].copy()
    else:
        rois = ops.parameter((len(load.rois), 5), np.float32)
        node = ops.roi_pooling(features, rois, list(spec.output_size), spec.spatial_scale, "max")
        given = load.rois
    model = ov.Model([node], [features, rois], "openvino")
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()
    return lambda: request.infer([load.feature_map[None], given], share_inputs=True)


def torchvision(load: Load, spec: OperatorSpec, threads: int) -> Compute:
    """The CPU kernels of torchvision, which are serial."""
    import torch
    from torchvision import ops

    torch.set_num_threads(threads)
    features, rois = torch.from_numpy(load.feature_map[None]), torch.from_numpy(load.rois)
    if isinstance(spec, AlignSpec):
        ratio = spec.sampling_ratio or -1
        return lambda: ops.roi_align(
            features, rois, spec.output_size, spec.spatial_scale, ratio, aligned=True
        )
    if isinstance(spec, PsAlignSpec):
        ratio = spec.sampling_ratio or -1
        return lambda: ops.ps_roi_align(features, rois, spec.output_size, spec.spatial_scale, ratio)
    if isinstance(spec, PsPoolSpec):
        return lambda: ops.ps_roi_pool(features, rois, spec.output_size, spec.spatial_scale)
    return lambda: ops.roi_pool(features, rois, spec.output_size, spec.spatial_scale)


def ncnn(load: Load, spec: OperatorSpec, threads: int) -> Compute:
    """Layers of ncnn, which take one RoI after another."""
    import ncnn as library

    height, width = spec.output_size
    sides = f"0={width} 1={height} 2={SCALE}"
    if isinstance(spec, AlignSpec):
        layer = f"ROIAlign l 2 1 data box out {sides} 3={spec.sampling_ratio} 4=1 5=1"
    else:
        layer = f"ROIPooling l 2 1 data box out {sides}"
    net = library.Net()
    net.opt.num_threads = threads
    net.opt.use_packing_layout = False  # else the map is laid out anew for every RoI
    with tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder) / "roi.param", Path(folder) / "roi.bin"
        graph.write_text(f"7767517\n3 3\nInput data 0 1 data\nInput box 0 1 box\n{layer}\n")
        weights.write_bytes(b"")
        assert net.load_param(str(graph)) == net.load_model(str(weights)) == 0
    features = library.Mat(load.feature_map)
    corners = np.ascontiguousarray(load.rois[:, 1:])
    out = np.empty((len(corners), len(load.feature_map), height, width), np.float32)

    def compute() -> np.ndarray:
        for box, found in zip(corners, out, strict=True):
            extractor = net.create_extractor()
            extractor.input("data", features)
            extractor.input("box", library.Mat(box))
            found[...] = np.array(extractor.extract("out")[1], copy=False)
        return out

    return compute


def weighed_contenders(load: Load, spec: OperatorSpec, threads: int) -> dict[str, Compute]:
    """The graph of an operator of WEIGHED, its compiled kernel, and torchvision where it has it."""
    load = load_for(spec, load)
    found = {
        GRAPH: roicli_runner(load, spec, "cpu", threads),
        "roicli native": roicli_runner(load, spec, "native", threads),
    }
    if find_spec("torchvision") and isinstance(spec, PsAlignSpec | PsPoolSpec):
        found["torchvision"] = torchvision(load, spec, threads)
    return found


def load_for(spec: OperatorSpec, load: Load) -> Load:
    """The load with the RoIs that an operator takes, and channels that it can divide."""
    rois, feature_map = load.rois, load.feature_map
    rng = np.random.default_rng(4)
    if isinstance(spec, RotatedAlignSpec):
        middle, sides = (rois[:, 1:3] + rois[:, 3:]) / 2, rois[:, 3:] - rois[:, 1:3]
        rois = np.column_stack([rois[:, 0], middle, sides, rng.uniform(-180, 180, len(rois))])
    if isinstance(spec, DeformPoolSpec):
        offsets = rng.normal(size=(len(rois), math.prod(spec.offset_shape)))
        rois = np.column_stack([rois, offsets])
    if isinstance(spec, PsAlignSpec | PsPoolSpec):
        feature_map = make_map(CLASSES * math.prod(spec.output_size))
    return Load(load.name, feature_map, rois.astype(np.float32))
