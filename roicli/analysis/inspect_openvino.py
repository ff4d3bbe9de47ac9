"""The RoI operators of an OpenVINO IR (.xml), read by OpenVINO where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roicli.analysis.inspect_model import Kind, ModelReport, NodeReport, Remark
from roicli.core.exceptions import InputError, MissingPackageError, first_line
from roicli.core.foreign import foreign
from roicli.storage.address import check_regular_file

ENDING = ".xml"
# Any program that writes XML may write an .xml: an IR starts with this element.
ROOT = b"<net "
HEAD_BYTES = 1024
# What OpenVINO's coordinates are in this package's words; None is OpenVINO's own.
ALIGNED = {"asymmetric": False, "half_pixel_for_nn": True, "half_pixel": None}
MEANINGS = {
    "ROIAlign": "RoI Align",
    "ROIAlignRotated": "RoI Align of turned RoIs: cx, cy, w, h, angle",
    "ROIPooling": "RoI Pool, or with method bilinear TensorFlow's crop_and_resize",
    "PSROIPooling": "position-sensitive RoI Pool, R-FCN's",
    "DeformablePSROIPooling": "deformable position-sensitive RoI Pool",
    "ExperimentalDetectronROIFeatureExtractor": "RoI Align over a pyramid, detectron's level rule",
}


def is_openvino(path: str) -> bool:
    """Whether a file is an OpenVINO IR by its ending and its beginning."""
    if not path.lower().endswith(ENDING):
        return False
    try:
        with open(path, "rb") as stream:
            return ROOT in stream.read(HEAD_BYTES)
    except OSError:
        return False


def inspect_openvino(path: str) -> ModelReport:
    """Every RoI operator of an IR, in order. Raises InputError, MissingPackageError."""
    check_regular_file(path)
    try:
        import openvino
    except ImportError:
        raise MissingPackageError(
            f"{path}: is an OpenVINO IR, which OpenVINO reads", "pip install openvino"
        ) from None
    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read by OpenVINO: {first_line(error)}") from error
    found = [(op, op.get_type_info()) for op in model.get_ordered_ops()]
    nodes = tuple(_report(op, kind) for op, kind in found if kind.name in MEANINGS)
    opsets: dict[str, int] = {}
    for _, kind in found:
        number = str(kind.version_id or "").removeprefix("opset")
        if number.isdigit():
            opsets["openvino"] = max(opsets.get("openvino", 0), int(number))
    return ModelReport(foreign(path), "OpenVINO", 11, opsets, nodes, "openvino")


def _report(op: Any, kind: Any) -> NodeReport:
    attributes: dict[str, Any] = {
        foreign(str(key)): _plain(value) for key, value in op.get_attributes().items()
    }
    number = str(kind.version_id or "").removeprefix("opset")
    parameters = _read_parameters(kind.name, attributes)
    of: Kind = "custom"
    if parameters is not None:
        of = "align" if kind.name == "ROIAlign" else "pool"
    return NodeReport(
        foreign(op.get_friendly_name()), foreign(kind.name), "",
        int(number) if number.isdigit() else None, of, (),
        tuple(foreign(port.get_source_output().get_node().get_friendly_name())
              for port in op.inputs()),
        tuple(foreign(name) for port in op.outputs() for name in sorted(port.get_names())),
        attributes, parameters, (), tuple(_remarks(kind.name, attributes)),
    )  # fmt: skip


def _read_parameters(name: str, attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parameters of a node, where RoI Align or RoI Pool as they are here computes it."""
    if name == "ROIAlign" and attributes.get("mode") == "avg":
        aligned = ALIGNED.get(attributes.get("aligned_mode", "asymmetric"))
        if aligned is not None:
            return {
                "output_size": [attributes["pooled_h"], attributes["pooled_w"]],
                "spatial_scale": attributes["spatial_scale"],
                "sampling_ratio": attributes["sampling_ratio"],
                "aligned": aligned, "mode": "avg", "sampling_grid": "quarters",
            }  # fmt: skip
    if name == "ROIPooling" and attributes.get("method") == "max":
        size = attributes.get("output_size") or attributes.get("output_roi")
        if size is not None:
            return {
                "output_size": list(size), "spatial_scale": attributes["spatial_scale"],
                "quantization": "caffe", "partition": "overlap",
            }  # fmt: skip
    return None


def _remarks(name: str, attributes: Mapping[str, Any]) -> list[Remark]:
    found = [Remark("openvino", "note", f"OpenVINO's {name}: {MEANINGS[name]}")]
    if name != "ROIAlign":
        return found
    if attributes.get("mode") == "max":
        message = "mode max starts from 0, so bins of negative features are 0, and is over corners"
        found.append(Remark("mode-max", "trap", message))
    if attributes.get("sampling_ratio") == 1:
        message = (
            "sampling_ratio is 1: OpenVINO's ONNX front end takes that where a model leaves it "
            "out, which is 0, adaptive, in ONNX (openvinotoolkit/openvino#37826)"
        )
        found.append(Remark("sampling-ratio-1", "note", message))
    if attributes.get("aligned_mode") == "half_pixel":
        message = "aligned_mode half_pixel is OpenVINO's own; ONNX's is half_pixel_for_nn"
        found.append(Remark("half-pixel-of-openvino", "note", message))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, int | float) else foreign(str(value))
