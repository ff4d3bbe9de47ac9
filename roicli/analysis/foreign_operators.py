"""RoI operators that other runtimes add to ONNX models: whose they are, what their attributes mean.

What stands here is read off their sources and documents; what no entry has is shown as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from roicli.core.foreign import foreign
from roicli.core.record import frozen

Attributes = Mapping[str, Any]


@frozen
class ForeignOperator:
    """One operator: ``name`` as ONNX has it, ``domains`` it is met in, ``library`` whose it is.

    ``computes`` says in words what it does, and ``words`` what numbers among its attributes stand
    for; ``defaults`` are attributes that may be left out. ``source`` is where that is written.
    ``runs_on_cpu``: ONNX Runtime itself has it.
    """

    name: str
    domains: tuple[str, ...]
    library: str
    computes: str
    source: str
    words: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    defaults: Attributes = field(default_factory=dict)
    runs_on_cpu: bool = False

    def describe(self, attributes: Attributes) -> str:
        """What the node computes, in words, with its own attributes."""
        given = {**self.defaults, **attributes}
        said = [
            f"{name} {value} is {self.words[name][value]}"
            for name, value in given.items()
            if name in self.words and value in self.words[name]
        ]
        left_out = [
            f"{name} is {value} where it is left out"
            for name, value in self.defaults.items()
            if name not in attributes
        ]
        return "; ".join([f"{self.library}'s {self.name}: {self.computes}", *said, *left_out])


RATIO = {-1: "adaptive", 0: "adaptive"}
ALIGNED = {0: "legacy coordinates", 1: "half-pixel"}
# Plugins are met without a domain, too, and in the one that the exporter gave.
ANY = ("", "trt", "trt.plugins", "TRT", "com.nvidia", "mmcv", "mmdeploy", "custom", "org.pytorch")
OPERATORS = (
    ForeignOperator(
        "CropAndResize", ("com.microsoft",), "ONNX Runtime",
        "TensorFlow's crop_and_resize, one point a bin, from corner to corner; rois are y1, x1, "
        "y2, x2, normalized to the map's first and last cell; outside the map a bin is "
        "extrapolation_value",
        "onnxruntime, docs/ContribOperators.md, com.microsoft.CropAndResize",
        defaults={"mode": "bilinear", "extrapolation_value": 0.0}, runs_on_cpu=True,
    ),
    ForeignOperator(
        "ROIAlign_TRT", ANY, "TensorRT",
        "RoI Align as ONNX has it; a maximum is over weighted corners, and the average of a RoI "
        "without size is NaN where sampling is adaptive and half-pixel; RoIs are in the network's "
        "type, float16 in an fp16 engine",
        "TensorRT, plugin/roiAlignPlugin",
        words={
            "mode": {0: "the maximum over weighted corners", 1: "the average"},
            "coordinate_transformation_mode": {0: "legacy coordinates", 1: "half-pixel"},
            "sampling_ratio": {0: "adaptive"},
        },
        defaults={"mode": 1, "coordinate_transformation_mode": 1, "sampling_ratio": 0},
    ),
    ForeignOperator(
        "PyramidROIAlign_TRT", ANY, "TensorRT",
        "RoI Align over levels P2 to P5, of RoIs clipped to the image; roi_coords_absolute and "
        "roi_coords_swap say how boxes are stored, fpn_scale is the level rule's canonical size; "
        "legacy 1 is Matterport's crop_and_resize",
        "TensorRT, plugin/pyramidROIAlignPlugin",
        words={
            "roi_coords_transform": {-1: "points from corner to corner (crop_and_resize)",
                                     1: "legacy coordinates without a minimum extent",
                                     2: "half-pixel"},
            "sampling_ratio": {0: "adaptive"},
        },
        defaults={"roi_coords_transform": 2, "sampling_ratio": 0},
    ),
    ForeignOperator(
        "MultilevelCropAndResize_TRT", ANY, "TensorRT",
        "Model Garden's crop and resize over levels P2 to P6, one point in the middle of each bin; "
        "RoIs off the image or without size are left as they are",
        "TensorRT, plugin/multilevelCropAndResizePlugin",
    ),
    *(
        ForeignOperator(
            name, ANY, "TensorRT",
            "TensorFlow's crop_and_resize, one point a bin, bilinear, from corner to corner; rois "
            "are y1, x1, y2, x2, normalized to the map's first and last cell",
            "TensorRT, plugin/cropAndResizePlugin",
        )
        for name in ("CropAndResizePlugin", "CropAndResizeDynamic")
    ),
    ForeignOperator(
        "MMCVRoiAlign", ANY, "mmdeploy",
        "mmcv's roi_align; rois are batch_index, x1, y1, x2, y2 (K, 5)",
        "mmdeploy, csrc/mmdeploy/backend_ops, roi_align",
        words={"aligned": ALIGNED, "sampling_ratio": RATIO,
               "mode": {"avg": "the average", "max": "the maximum of the samples"}},
    ),
    ForeignOperator(
        "MMCVMultiLevelRoiAlign", ANY, "mmdeploy",
        "mmcv's roi_align over a pyramid, by mmdet's level rule: featmap_strides are the levels, "
        "finest_scale its size, roi_scale_factor grows boxes about their centre",
        "mmdeploy, csrc/mmdeploy/backend_ops/tensorrt/multi_level_roi_align",
        words={"aligned": ALIGNED, "sampling_ratio": RATIO},
    ),
    ForeignOperator(
        "MMCVRoIAlignRotated", ANY, "mmdeploy",
        "mmcv's roi_align_rotated; rois are batch_index, cx, cy, w, h, angle (K, 6), in radians",
        "mmdeploy, csrc/mmdeploy/backend_ops, roi_align_rotated",
        words={"aligned": ALIGNED, "sampling_ratio": RATIO,
               "clockwise": {0: "counter-clockwise angles", 1: "clockwise angles"}},
    ),
)  # fmt: skip


def find_operator(op_type: str | bytes, domain: str | bytes) -> ForeignOperator | None:
    """The entry of a node's operator, None where there is none."""
    name, place = foreign(op_type), foreign(domain)
    for one in OPERATORS:
        if one.name == name and place in one.domains:
            return one
    return None
