"""Every way to compute a load, as functions of nothing, so that they can take turns."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime as ort
from loads import SCALE, Load

from roicli.operators.interface import OperatorSpec
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.runners import build_runner

Compute = Callable[[], object]
OPERATORS: dict[str, OperatorSpec] = {
    "align, ratio 2": AlignSpec(spatial_scale=SCALE),
    "align, adaptive": AlignSpec(spatial_scale=SCALE, sampling_ratio=0),
    "pool": PoolSpec(spatial_scale=SCALE),
}
PLAIN = "ONNX Runtime"


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
    out = np.empty((len(corners), len(load.feature_map), *spec.output_size), np.float32)

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
    return lambda: ops.roi_pool(features, rois, spec.output_size, spec.spatial_scale)


def contenders(load: Load, spec: OperatorSpec, threads: int) -> dict[str, Compute]:
    """What can be imported here, plain ONNX Runtime first."""
    found = {
        PLAIN: plain_onnxruntime(load, spec, threads),
        "roicli cpu": roicli_runner(load, spec, "cpu", threads),
        "roicli native": roicli_runner(load, spec, "native", threads),
        "roicli native, 1 thread": roicli_runner(load, spec, "native", 1),
    }
    if find_spec("openvino"):
        found["OpenVINO"] = openvino(load, spec, threads)
    if find_spec("torchvision"):
        found["torchvision"] = torchvision(load, spec, threads)
    return found
