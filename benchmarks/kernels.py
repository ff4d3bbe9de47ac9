"""Every way to compute a load, as functions of nothing, so that they can take turns."""

import math
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime as ort
from loads import CLASSES, SCALE, Load, make_map
from plain_c import has_compiler, plain_c

from roicli.operators.average_pool import AveragePoolSpec, PsPoolSpec
from roicli.operators.crop_and_resize import CropAndResizeSpec
from roicli.operators.deform_pool import DeformPoolSpec
from roicli.operators.interface import OperatorSpec
from roicli.operators.precise_roi_pool import PrecisePoolSpec
from roicli.operators.ps_align import PsAlignSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.rotated_align import RotatedAlignSpec
from roicli.runtime.runners import build_runner

Compute = Callable[[], object]
OPERATORS: dict[str, OperatorSpec] = {
    "align, ratio 2": AlignSpec(spatial_scale=SCALE),
    "align, adaptive": AlignSpec(spatial_scale=SCALE, sampling_ratio=0),
    "pool": PoolSpec(spatial_scale=SCALE),
}
PLAIN = "ONNX Runtime"
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
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, feeds)


def roicli_runner(load: Load, spec: OperatorSpec, provider: str, threads: int) -> Compute:
    """A runner of this package, into a buffer that is kept."""
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


def contenders(load: Load, spec: OperatorSpec, threads: int) -> dict[str, Compute]:
    """What can be imported here, plain ONNX Runtime first."""
    found = {
        PLAIN: plain_onnxruntime(load, spec, threads),
        "roicli cpu": roicli_runner(load, spec, "cpu", threads),
        "roicli native": roicli_runner(load, spec, "native", threads),
        "roicli native, 1 thread": roicli_runner(load, spec, "native", 1),
    }
    if has_compiler():
        found["a plain C kernel"] = plain_c(load, spec, threads)
    if find_spec("openvino"):
        found["OpenVINO"] = openvino(load, spec, threads)
    if find_spec("torchvision"):
        found["torchvision"] = torchvision(load, spec, threads)
    return found


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
