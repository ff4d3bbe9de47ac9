"""What a user without roicli writes: h5py, ONNX Runtime, h5py. Prints nothing."""

import sys

import h5py
import numpy as np
import onnx
import onnxruntime as ort


def run_plain(
    operator: str, ratio: int, features_path: str, rois_path: str, output_path: str
) -> None:
    """Read, run and write, in the fewest lines."""
    with h5py.File(features_path) as file:
        features = file["features"][...]
        scale = float(file["features"].attrs["spatial_scale"])
    rois = np.load(rois_path).astype(np.float32)
    float32, int64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    value = onnx.helper.make_tensor_value_info
    if operator == "align":
        node = onnx.helper.make_node(
            "RoiAlign", ["x", "rois", "batch"], ["y"], output_height=7, output_width=7,
            sampling_ratio=ratio, spatial_scale=scale,
        )  # fmt: skip
        inputs = [
            value("x", float32, None),
            value("rois", float32, None),
            value("batch", int64, None),
        ]
        feeds = {"x": features, "rois": rois[:, 1:].copy(), "batch": rois[:, 0].astype(np.int64)}
    else:
        node = onnx.helper.make_node(
            "MaxRoiPool", ["x", "rois"], ["y"], pooled_shape=[7, 7], spatial_scale=scale
        )
        inputs = [value("x", float32, None), value("rois", float32, None)]
        feeds = {"x": features, "rois": rois}
    graph = onnx.helper.make_graph([node], "plain", inputs, [value("y", float32, None)])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result = session.run(None, feeds)[0]
    with h5py.File(output_path, "w") as file:
        file["roi_features"] = result


if __name__ == "__main__":
    run_plain(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
