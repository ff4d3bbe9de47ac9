"""Other libraries' defaults, each with its source."""

from __future__ import annotations

from dataclasses import dataclass

from roicli.core.vocabulary import Partition, PixelModel, PresetName, Quantization


@dataclass(frozen=True)
class Preset:
    """What a library does when nothing is said; ``sampling_ratio`` None: it has no default."""

    name: PresetName
    aligned: bool
    sampling_ratio: int | None
    quantization: Quantization
    partition: Partition
    pixel_model: PixelModel
    source: str


PRESETS: dict[PresetName, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "caffe",
            False,
            0,
            "caffe",
            "overlap",
            "legacy",
            "Fast R-CNN roi_pooling_layer.cpp; Caffe2 RoIAlign (aligned=false, ratio -1)",
        ),
        Preset(
            "torchvision",
            False,
            0,
            "caffe",
            "overlap",
            "legacy",
            "torchvision.ops.roi_align (aligned=False, sampling_ratio=-1), roi_pool",
        ),
        Preset(
            "detectron2",
            True,
            0,
            "caffe",
            "overlap",
            "half-pixel",
            "detectron2 ROIAlignV2 (aligned=True), POOLER_SAMPLING_RATIO 0; torchvision roi_pool",
        ),
        Preset(
            "mmcv",
            True,
            0,
            "mmcv",
            "overlap",
            "half-pixel",
            "mmcv.ops.RoIAlign (aligned=True, sampling_ratio=0), mmcv.ops.RoIPool",
        ),
        Preset(
            "onnx10",
            False,
            0,
            "caffe",
            "overlap",
            "legacy",
            "ONNX RoiAlign-10 (no half pixel, sampling_ratio 0), MaxRoiPool-1",
        ),
        Preset(
            "onnx16",
            True,
            0,
            "caffe",
            "overlap",
            "half-pixel",
            "ONNX RoiAlign-16 (half_pixel, sampling_ratio 0), MaxRoiPool-1",
        ),
        Preset(
            "openvino",
            False,
            None,
            "caffe",
            "overlap",
            "legacy",
            "OpenVINO ROIAlign-9 (asymmetric, sampling_ratio required), ROIPooling-1",
        ),
    )
}
