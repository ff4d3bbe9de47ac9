"""Other libraries' functions with their defaults: each is a row, a point of the space.

A row has the version that it was run or read at, and its source. ``also`` are conventions that the
function's own options reach; the sampling ratio is free where ``ratios``, the value off the map
where ``fills``. What the original leaves to chance is said in ``undefined`` and not imitated; where
a convention is the original's for some RoIs alone, ``only`` says for which. Needs no NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from roicli.core.operator_table import OPERATORS
from roicli.core.record import frozen
from roicli.core.vocabulary import AngleUnit
from roicli.operators.convention import (
    ALIGN,
    AVERAGE_POOL,
    BOXES,
    CROP,
    CROP_GRIDS,
    DEFORM_POOL,
    EDGES,
    HALF_EVEN,
    HALF_PIXEL,
    HALF_UP,
    LEGACY,
    POINT_ALIGN,
    POOL,
    PRECISE_POOL,
    PS_POOL,
    REAL,
    ROUND_SIZE,
    Convention,
    Empty,
    Placement,
    Reduction,
)
from roicli.operators.phrases import (
    as_options,
    operator_word,
)

# RoIs from edge to edge of the map, or between the centres of its first and last cell; with sides
# above 0; and two bins and more an axis.
Limit = Literal["on-map", "between-centres", "with-size", "two-bins"]


@frozen
class LibraryFunction:
    """One function of a library; ``required`` are options that it has no default for.

    Beyond the limits ``only`` it computes something else, and is not named.
    """

    library: str
    function: str
    version: str
    convention: Convention
    source: str
    also: tuple[Convention, ...] = ()
    ratios: bool = True
    fills: bool = False
    required: tuple[str, ...] = ()
    undefined: str = ""
    only: tuple[Limit, ...] = ()
    angle_unit: AngleUnit = "degrees"

    @property
    def name(self) -> str:
        """What ``--preset`` takes."""
        return f"{self.library}.{self.function}"

    @property
    def operator(self) -> str:
        """The operator in whose region it lies."""
        return operator_word(self.convention)

    @property
    def runs(self) -> bool:
        """Whether roicli computes it: all do whose rule is of an operator that there is."""
        return self.operator in OPERATORS

    def reaches(self) -> Iterator[Convention]:
        """Its default and what its options can make of it."""
        yield self.convention
        yield from self.also

    def has(self, convention: Convention) -> bool:
        """Whether its options reach a convention."""
        return any(
            convention == (replace(own, sampling_ratio=convention.sampling_ratio)
                           if self.ratios else own)
            for own in self.reaches()
        )  # fmt: skip

    def options(self) -> dict[str, Any]:
        """Its defaults as options of roicli's operator; empty where there is none."""
        found = as_options(self.convention)
        options = {} if found is None else found[1]
        if self.operator == "rotated-align":
            options["angle_unit"] = self.angle_unit
        return {name: value for name, value in options.items() if name not in self.required}


def _align(
    half_pixel: bool, ratio: int = 0, reduction: Reduction = "mean", empty: Empty = "0"
) -> Convention:
    box = HALF_PIXEL if half_pixel else LEGACY
    return Convention(box, sampling_ratio=ratio, reduction=reduction, empty=empty)


def _both(reduction: Reduction = "mean", empty: Empty = "0") -> tuple[Convention, ...]:
    return _align(True, 0, reduction, empty), _align(False, 0, reduction, empty)


MEAN: Reduction = "mean"
MAX: Reduction = "max"
CORNERS: Reduction = "max-weighted-corners"
FLOORED: Reduction = "max-floored"
LEGACY_ADAPTIVE, HALF_ADAPTIVE = _align(False), _align(True)
ONNX_ALSO = (*_both(), *_both("max-weighted-corners"))
ZERO_PADDED = replace(
    ALIGN, box=Placement(shift_cells=-0.5, minimum=0.0), border="zero", grid="even"
)  # fmt: skip
PX_HALF = Placement(start_px=0.5, end_px=0.5, shift_cells=-0.5)
PIXEL_BACK = Placement(start_px=-0.5, end_px=-0.5)
ABOUT_CENTRE = replace(LEGACY, about="centre")
TURNED = replace(HALF_PIXEL, turn="counter-clockwise")
TURNED_ALSO = tuple(
    replace(ALIGN, box=replace(box, turn=turn))
    for box in (HALF_PIXEL, ABOUT_CENTRE)
    for turn in ("counter-clockwise", "clockwise")
)  # fmt: skip
CROP_IMAGE = CROP.placed(normalization="image")
CROP_PADDED = replace(CROP, border="zero", reach=1.0)
MATTERPORT = CROP.placed(normalization="image-less-1", end_px=-1.0)
PS_AVERAGE = replace(PS_POOL, group_size=0)
PS_ALIGN_NAN = Convention(HALF_PIXEL, sampling_ratio=0, channels="class-major", empty="nan")
TV_PS_POOL = replace(
    AVERAGE_POOL, box=BOXES["round"], last_cell=False, channels="class-major"
)  # fmt: skip
MMCV_POOL = Convention(BOXES["mmcv"], cut="hull", reduction="cell-max")
MEGENGINE_ALSO = tuple(
    replace(ZERO_PADDED.placed(shift_cells=shift), reduction=reduction)
    for shift in (-0.5, 0.0)
    for reduction in (MEAN, MAX)
)  # fmt: skip
OPENVINO_ALSO = tuple(
    Convention(box, reduction=reduction, empty="0" if reduction == FLOORED else "nan")
    for box in (LEGACY, HALF_PIXEL, PX_HALF)
    for reduction in (MEAN, FLOORED)
)
MINDSPORE = Convention(Placement(end_px=1.0), sampling_ratio=2)
HALF_LEAST = replace(HALF_PIXEL, minimum=1.0)
CLIPPED = replace(LEGACY_ADAPTIVE, cut="clipped")
UNSHIFTED = tuple(
    Convention(REAL, sampling_ratio=ratio, border="value", reach=0.0) for ratio in (2, 1, 3, 4)
)
ONE_POINT = replace(_align(True, 1), border="value", reach=0.0)
COREML = tuple(replace(CROP, grid=grid) for grid in CROP_GRIDS)


def _nearest(crop: Convention) -> Convention:
    return replace(crop, interpolation="nearest")


def _pooled(crop: Convention) -> Convention:
    return replace(crop, sampling_ratio=2, reduction="max")


Row = LibraryFunction
ROWS: tuple[LibraryFunction, ...] = (
    Row("caffe", "RoIPooling", "rbgirshick/caffe-fast-rcnn", POOL,
        "Fast R-CNN, roi_pooling_layer.cpp", ratios=False),
    Row("caffe", "RoIAlign", "as Caffe2", LEGACY_ADAPTIVE,
        "Caffe2 RoIAlign (aligned=false, sampling_ratio -1)", _both()),
    Row("caffe", "PSROIPooling", "R-FCN", PS_AVERAGE,
        "R-FCN's Caffe, psroi_pooling_layer (read, not run)", ratios=False),
    Row("torchvision", "roi_align", "0.29.1", LEGACY_ADAPTIVE,
        "torchvision.ops.roi_align (aligned=False, sampling_ratio=-1)", _both()),
    Row("torchvision", "roi_pool", "0.29.1", POOL, "torchvision.ops.roi_pool", ratios=False),
    Row("torchvision", "ps_roi_align", "0.29.1", PS_ALIGN_NAN,
        "torchvision.ops.ps_roi_align (sampling_ratio=-1): NaN for an adaptive RoI without size"),
    Row("torchvision", "ps_roi_pool", "0.29.1", TV_PS_POOL,
        "torchvision.ops.ps_roi_pool, ps_roi_pool_kernel.cpp", ratios=False),
    Row("torchvision-0.4", "roi_align", "to 0.5", LEGACY_ADAPTIVE,
        "torchvision.ops.roi_align before aligned"),
    Row("torchvision-0.4", "roi_pool", "to 0.5", POOL, "torchvision.ops.roi_pool", ratios=False),
    Row("torchvision-0.8", "onnx_export", "0.8 to 0.11", LEGACY_ADAPTIVE,
        "the ONNX graph of roi_align(aligned=True): RoIs - 0.5 px, then RoiAlign-10",
        (LEGACY_ADAPTIVE.placed(start_px=-0.5, end_px=-0.5),)),
    Row("detectron2", "ROIAlign", "main", HALF_ADAPTIVE,
        "detectron2 ROIAlignV2 (aligned=True), POOLER_SAMPLING_RATIO 0", _both()),
    Row("detectron2", "RoIPool", "main", POOL, "detectron2 poolers: torchvision.ops.RoIPool",
        ratios=False),
    Row("detectron2", "ROIAlignRotated", "main", Convention(TURNED, sampling_ratio=0),
        "detectron2 ROIAlignRotated: degrees, counter-clockwise"),
    Row("maskrcnn-benchmark", "ROIAlign", "main", LEGACY_ADAPTIVE,
        "maskrcnn_benchmark/csrc/cpu/ROIAlign_cpu.cpp (read, not run)"),
    Row("faster-rcnn-pytorch", "RoIAlignAvg", "before 1.0", EDGES,
        "jwyang/faster-rcnn.pytorch, roi_align_kernel.cu, modules/roi_align.py (read, not run)",
        ratios=False, only=("between-centres",),
        undefined="past the last cell's centre points are extrapolated, up to a cell"),
    Row("faster-rcnn-pytorch", "RoIAlignMax", "before 1.0", replace(EDGES, reduction=MAX),
        "jwyang/faster-rcnn.pytorch, as RoIAlignAvg (read, not run)", ratios=False,
        only=("between-centres",)),
    Row("faster-rcnn-pytorch", "crop_pool_layer", "before 1.0", _pooled(CROP_PADDED),
        "jwyang/faster-rcnn.pytorch, model/utils/net_utils.py: affine_grid 2P, grid_sample, "
        "max_pool2d 2x2", (CROP_PADDED,), ratios=False),
    Row("roialign-pytorch", "RoIAlign", "main", ONE_POINT,
        "longcw/RoIAlign.pytorch, roi_align/roi_align.py (read, not run), boxes in cells", (CROP,),
        ratios=False, fills=True),
    Row("roialign-pytorch", "CropAndResize", "main", CROP_IMAGE,
        "longcw/RoIAlign.pytorch, crop_and_resize.c (read, not run), corners as the caller "
        "normalizes them", (CROP, MATTERPORT), ratios=False, fills=True),
    Row("mmcv", "RoIAlign", "2", HALF_ADAPTIVE,
        "mmcv.ops.RoIAlign (aligned=True, sampling_ratio=0)", (*_both(), *_both(MAX, "-10000"))),
    Row("mmcv", "RoIPool", "2", MMCV_POOL, "mmcv.ops.RoIPool, roi_pool_cuda_kernel.cuh",
        ratios=False),
    Row("mmcv", "RoIAlignRotated", "2", Convention(TURNED, sampling_ratio=0),
        "mmcv.ops.RoIAlignRotated: radians, clockwise=True turns the other way", TURNED_ALSO,
        angle_unit="radians"),
    Row("mmcv", "PrRoIPool", "2", replace(PRECISE_POOL, border="zero"),
        "mmcv.ops.PrRoIPool, prroi_pool_cuda_kernel.cuh (read, not run)", ratios=False),
    Row("prroi-pooling", "PrRoIPool2D", "main", replace(PRECISE_POOL, border="zero"),
        "vacancy/PreciseRoIPooling, src/prroi_pooling_gpu_impl.cu (read, not run)", ratios=False),
    Row("mmcv", "DeformRoIPool", "2", HALF_ADAPTIVE,
        "mmcv.ops.DeformRoIPool without offsets (read, not run)"),
    Row("caffe2", "RoIAlign", "torch 1.7.1", LEGACY_ADAPTIVE,
        "Caffe2 RoIAlign (aligned=false, sampling_ratio -1)", _both()),
    Row("caffe2", "RoIPool", "torch 1.7.1", POOL, "Caffe2 RoIPool", ratios=False),
    Row("caffe2", "RoIAlignRotated", "torch 1.7.1",
        Convention(replace(ABOUT_CENTRE, turn="counter-clockwise"), sampling_ratio=0),
        "Caffe2 RoIAlignRotated: degrees, counter-clockwise",
        (Convention(TURNED, sampling_ratio=0),)),
    Row("onnx10", "RoiAlign", "opset 10", LEGACY_ADAPTIVE,
        "ONNX RoiAlign-10 (no half pixel, sampling_ratio 0)", ONNX_ALSO,
        undefined="onnx.reference 1.23.2 computes opset 10 as half-pixel, against its text"),
    Row("onnx10", "MaxRoiPool", "opset 1", POOL, "ONNX MaxRoiPool-1", ratios=False),
    Row("onnx16", "RoiAlign", "opset 16", HALF_ADAPTIVE,
        "ONNX RoiAlign-16 (half_pixel, sampling_ratio 0)", ONNX_ALSO),
    Row("onnx16", "MaxRoiPool", "opset 1", POOL, "ONNX MaxRoiPool-1", ratios=False),
    Row("onnx22", "RoiAlign", "opset 22", HALF_ADAPTIVE,
        "ONNX RoiAlign-22 (as 16, more types)", ONNX_ALSO),
    Row("onnx22", "MaxRoiPool", "opset 22", POOL, "ONNX MaxRoiPool-22", ratios=False),
    Row("onnx-reference", "RoiAlign", "1.23.2", HALF_ADAPTIVE,
        "onnx/reference/ops/op_roi_align.py", ONNX_ALSO,
        undefined="half-pixel in opset 10 too, against the text of the operator"),
    Row("onnx-tf", "RoiAlign", "1.10", UNSHIFTED[0],
        "onnx-tensorflow, handlers/backend/roi_align.py (read, not run): crop_and_resize",
        UNSHIFTED, ratios=False, required=("sampling_ratio",),
        undefined="adaptive is another rule, and half_pixel and mode max are ignored"),
    Row("onnx2tf", "RoiAlign", "2026-07", UNSHIFTED[0],
        "onnx2tf/ops/RoiAlign.py (read, not run): crop_and_resize",
        (*UNSHIFTED, *(replace(rule, reduction=MAX) for rule in UNSHIFTED)), ratios=False,
        required=("sampling_ratio",),
        undefined="adaptive is another rule, and half_pixel is ignored"),
    Row("onnxruntime", "RoiAlign", "1.32.0", HALF_ADAPTIVE,
        "onnxruntime RoiAlign-16; mode max takes the weighted corners", ONNX_ALSO),
    Row("onnxruntime", "MaxRoiPool", "1.32.0", POOL, "onnxruntime MaxRoiPool", ratios=False),
    Row("onnxruntime", "CropAndResize", "1.32.0", CROP_IMAGE,
        "com.microsoft CropAndResize, corners over the image's size", (_nearest(CROP_IMAGE),),
        fills=True),
    Row("openvino", "ROIAlign", "2026.4.1", _align(False, 0, "mean", "nan"),
        "OpenVINO ROIAlign-9 (asymmetric, sampling_ratio required)",
        OPENVINO_ALSO, required=("sampling_ratio",)),
    Row("openvino", "ROIPooling", "2026.4.1", POOL, "OpenVINO ROIPooling-1 max", ratios=False),
    Row("openvino", "ROIPooling-bilinear", "2026.4.1", CROP_IMAGE,
        "OpenVINO ROIPooling-1 bilinear, RoIs over the image's size", ratios=False),
    Row("openvino", "PSROIPooling", "2026.4.1", PS_AVERAGE,
        "OpenVINO PSROIPooling-1 average", ratios=False,
        undefined="bilinear is crop_and_resize a spatial bin; its rule off the map is not known"),
    Row("openvino", "DeformablePSROIPooling", "2026.4.1", DEFORM_POOL,
        "OpenVINO DeformablePSROIPooling-1, offsets 0"),
    Row("openvino", "ROIAlignRotated", "2026.4.1", Convention(TURNED, sampling_ratio=0),
        "OpenVINO ROIAlignRotated-15: radians",
        angle_unit="radians"),
    Row("openvino-onnx", "RoiAlign", "2026.4.1", _align(True, 1, "mean", "nan"),
        "OpenVINO's ONNX front end: an omitted sampling_ratio is 1 (openvino#37826)",
        (*_both("mean", "nan"), *_both(FLOORED))),
    Row("openvino-onnx", "MaxRoiPool", "2026.4.1", POOL, "OpenVINO's ONNX front end",
        ratios=False),
    Row("tensorflow", "crop_and_resize", "2.21.0", CROP_IMAGE,
        "tf.image.crop_and_resize, boxes over the image's size", (_nearest(CROP_IMAGE),),
        fills=True),
    Row("tensorflow", "matterport", "mrcnn 0.2", MATTERPORT,
        "Matterport Mask R-CNN: utils.norm_boxes, PyramidROIAlign", ratios=False),
    Row("tensorflow", "object_detection", "1 and 2", _pooled(CROP_IMAGE),
        "TF Object Detection API, first stage: crop_and_resize(2P), max_pool 2x2",
        (CROP_IMAGE,), ratios=False),
    Row("tensorflow", "tf-faster-rcnn", "endernewton", _pooled(CROP),
        "endernewton/tf-faster-rcnn: boxes/((H-1)*stride), crop 2P, max_pool 2x2 SAME",
        (CROP,), ratios=False),
    Row("tensorflow", "model_garden", "2.19", POINT_ALIGN,
        "official/vision/ops/spatial_transform_ops.py, multilevel_crop_and_resize",
        ratios=False),
    Row("keras_cv", "ROIAligner", "0.9", POINT_ALIGN,
        "keras_cv/layers/object_detection/roi_align.py (read, not run)", ratios=False),
    Row("tensorpack", "roi_align", "0.11", _align(True, 2),
        "tensorpack examples/FasterRCNN/modeling/model_box.py: crop 2P, average",
        ratios=False),
    Row("tfjs", "cropAndResize", "4.22", CROP_IMAGE,
        "tf.image.cropAndResize, tfjs-backend-cpu/src/kernels/CropAndResize.ts, boxes over the "
        "image's size", (_nearest(CROP_IMAGE),), ratios=False, fills=True,
        undefined="points are doubles: the nearest cell of one halfway may be the other"),
    Row("dl4j", "crop_and_resize", "main", CROP_IMAGE,
        "libnd4j, helpers/cpu/crop_and_resize.hpp (read, not run), boxes over the image's size",
        (_nearest(CROP_IMAGE),), ratios=False, fills=True),
    Row("kornia", "crop_and_resize", "0.9", CROP_PADDED,
        "kornia.geometry.transform.crop_and_resize, boxes in cells; align_corners changes nothing",
        ratios=False,
        undefined="a box without size has no homography: NaN"),
    Row("paddle", "roi_align", "3.3.1", _align(True, 0, "mean", "nan"),
        "paddle.vision.ops.roi_align (aligned=True, sampling_ratio=-1)", _both("mean", "nan")),
    Row("paddle", "roi_pool", "3.3.1", POOL, "paddle.vision.ops.roi_pool", ratios=False),
    Row("paddle", "psroi_pool", "3.3.1", PS_AVERAGE, "paddle.vision.ops.psroi_pool",
        ratios=False),
    Row("paddle", "prroi_pool", "to 2.4", replace(PRECISE_POOL, border="zero"),
        "paddle.fluid.layers.prroi_pool, fluid/operators/prroi_pool_op.h (read, not run)",
        ratios=False),
    Row("paddle-lite", "roi_align", "develop", HALF_ADAPTIVE,
        "Paddle-Lite, lite/kernels/host/roi_align_compute.cc (read, not run)", _both(),
        required=("aligned", "sampling_ratio")),
    Row("oneflow", "roi_align", "master", HALF_ADAPTIVE,
        "oneflow/user/kernels/roi_align_kernel.cu (read, not run: CUDA alone)", _both(),
        required=("aligned", "sampling_ratio")),
    Row("mindspore", "ROIAlign", "2.10", MINDSPORE,
        "mindspore ROIAlign (roi_end_mode=1, sample_num=2)", (_align(False, 2),)),
    Row("mindspore", "crop_and_resize", "2.10", CROP_IMAGE,
        "mindspore.ops.crop_and_resize, crop_and_resize_cpu_kernel.cc, boxes over the image's size",
        (_nearest(CROP_IMAGE),), ratios=False, fills=True),
    Row("mindspore-lite", "ROIPooling", "nnacl", POOL,
        "nnacl/fp32/roi_pooling_fp32.c (read, not run): RoIs are y1, x1, y2, x2", ratios=False),
    Row("ascend", "npu_roi_align", "torch_npu", MINDSPORE,
        "torch_npu.npu_roi_align (roi_end_mode=1) (read, not run)", (_align(False, 2),)),
    Row("mxnet", "ROIAlign", "1.9.1", LEGACY_ADAPTIVE,
        "mxnet.contrib.ROIAlign (aligned=False, sample_ratio=-1)", _both(),
        undefined="aligned aborts the process on a RoI without size"),
    Row("mxnet", "ROIPooling", "1.9.1", POOL, "mxnet.nd.ROIPooling", ratios=False),
    Row("mxnet", "PSROIPooling", "1.9.1", PS_AVERAGE, "mxnet.contrib.PSROIPooling",
        ratios=False),
    Row("mxnet", "DeformablePSROIPooling", "1.9.1", DEFORM_POOL,
        "mxnet.contrib.DeformablePSROIPooling, offsets 0, sample_per_part 4 (read, not run)"),
    Row("mxnet", "RROIAlign", "1.9.1",
        Convention(replace(ABOUT_CENTRE, turn="counter-clockwise"), sampling_ratio=0),
        "mxnet.contrib.RROIAlign (sampling_ratio=-1): degrees",
        (Convention(ABOUT_CENTRE, sampling_ratio=0),)),
    Row("megengine", "roi_align", "1.13.1", ZERO_PADDED,
        "megengine.functional.vision.roi_align (aligned=True, sample_points=2)", MEGENGINE_ALSO),
    Row("megengine", "roi_pooling", "1.13.1", POOL,
        "megengine.functional.vision.roi_pooling (mode=max)", (AVERAGE_POOL,), ratios=False),
    Row("tvm", "roi_align", "0.27", LEGACY_ADAPTIVE,
        "tvm.topi.vision.roi_align_nchw (aligned=False); aligned=True shifts nothing",
        tuple(Convention(box, reduction=reduction)
              for box in (LEGACY, REAL) for reduction in (MEAN, MAX))),
    Row("tvm", "roi_pool", "0.27",
        replace(POOL, box=HALF_UP),
        "tvm.topi.vision.roi_pool_nchw: a half is rounded up, that of a negative edge too",
        ratios=False),
    Row("tvm-onnx", "RoiAlign", "0.27", Convention(PIXEL_BACK, sampling_ratio=0),
        "tvm.relax.frontend.onnx RoiAlign-16: RoIs - 0.5 px, wrong by 0.5 (1 - s) cell",
        (Convention(PIXEL_BACK, reduction="max"),)),
    Row("ncnn", "ROIAlign-0", "20261020", CLIPPED,
        "ncnn ROIAlign version 0 (the layer's default), roialign.cpp",
        (replace(HALF_ADAPTIVE, cut="clipped"),),
        undefined="reads past the map for RoIs over the right or bottom edge"),
    Row("ncnn", "ROIAlign-1", "20261020", LEGACY_ADAPTIVE, "ncnn ROIAlign version 1", _both()),
    Row("ncnn", "ROIPooling", "20261020", POOL, "ncnn ROIPooling", ratios=False,
        undefined="the x86 build divides by a reciprocal, so that bins may start a cell early"),
    Row("ncnn", "PSROIPooling", "20261020", PS_AVERAGE, "ncnn PSROIPooling", ratios=False),
    Row("mnn", "roi_align", "3.6.1", _align(False, 0, "mean", "nan"), "MNN roi_align",
        (*_both("mean", "nan"), *_both(MAX, "-flt-max"))),
    Row("mnn", "roi_pooling", "3.6.1", replace(POOL, cut="accumulated"), "MNN roi_pooling",
        ratios=False),
    Row("mnn", "crop_and_resize", "3.6.1", CROP_IMAGE, "MNN crop_and_resize",
        (_nearest(CROP_IMAGE),), fills=True),
    Row("opencv", "ROIPooling", "4.14.0", POOL, "cv2.dnn, Caffe importer", ratios=False),
    Row("opencv", "RoiAlign", "5.0.0", _align(True, 0, MEAN, "point"),
        "cv2.dnn, ONNX importer, roialign_layer.cpp",
        (*_both(MEAN, "point"), *_both(CORNERS, "point"))),
    Row("opencv", "CropAndResize", "5.0.0", CROP_IMAGE,
        "cv2.dnn, TensorFlow importer, crop_and_resize_layer.cpp, boxes over the image's size",
        ratios=False, only=("between-centres", "two-bins"),
        undefined="reads past the map for points off it; one bin an axis divides by 0"),
    Row("opencv", "PSROIPooling", "4.14.0", PS_AVERAGE, "cv2.dnn, Caffe importer", ratios=False),
    Row("chainer", "roi_average_align_2d", "7.8.1", LEGACY_ADAPTIVE,
        "chainer.functions.roi_average_align_2d"),
    Row("chainer", "roi_max_align_2d", "7.8.1",
        replace(LEGACY_ADAPTIVE, reduction="max", border="skip", empty="-inf"),
        "chainer.functions.roi_max_align_2d"),
    Row("chainer", "roi_pooling_2d", "7.8.1", replace(POOL, box=replace(HALF_EVEN, inclusive=True)),
        "chainer.functions.roi_pooling_2d", ratios=False),
    Row("chainer", "roi_max_pooling_2d", "7.8.1", replace(POOL, box=HALF_EVEN, empty="-inf"),
        "chainer.functions.roi_max_pooling_2d", ratios=False),
    Row("chainer", "roi_average_pooling_2d", "7.8.1", replace(AVERAGE_POOL, box=HALF_EVEN),
        "chainer.functions.roi_average_pooling_2d", ratios=False),
    Row("chainercv", "ps_roi_average_align_2d", "0.13",
        Convention(Placement(minimum=0.1), sampling_ratio=0, channels="class-major"),
        "chainercv.functions.ps_roi_average_align_2d"),
    Row("chainercv", "ps_roi_average_pooling_2d", "0.13",
        replace(PS_AVERAGE, box=Placement(minimum=0.1)),
        "chainercv.functions.ps_roi_average_pooling_2d", ratios=False),
    Row("nnabla", "roi_align", "1.39", _align(True, 0, "mean", "nan"),
        "nnabla.functions.roi_align (always half-pixel)"),
    Row("bigdl", "RoiAlign", "2.x", HALF_ADAPTIVE,
        "BigDL dllib, nn/RoiAlign.scala (read, not run)", (*_both(), *_both(MAX, "-flt-max")),
        required=("sampling_ratio",)),
    Row("bigdl", "RoiPooling", "2.x", replace(POOL, box=HALF_UP),
        "BigDL dllib, nn/RoiPooling.scala (read, not run): Java's round, half up", ratios=False),
    Row("cntk", "ROIPooling", "2.0", replace(POOL, box=ROUND_SIZE),
        "CNTK, Source/Math/CPUMatrixImpl.h (read, not run): RoIs are x, y, w, h over the image's "
        "size", ratios=False),
    Row("glow", "ROIAlign", "2024-05", _align(False, 0, "mean", "nan"),
        "Glow, lib/Backends/Interpreter/InterpreterNodes.cpp (read, not run)",
        (*_both("mean", "nan"), *_both(MAX)), required=("aligned", "sampling_ratio"),
        undefined="the maximum of an empty bin"),
    Row("glow", "ROIAlignRotated", "2024-05",
        Convention(TURNED, sampling_ratio=0, empty="nan"),
        "Glow, InterpreterNodes.cpp (read, not run): degrees, counter-clockwise",
        (Convention(replace(ABOUT_CENTRE, turn="counter-clockwise"), sampling_ratio=0),),
        required=("aligned", "sampling_ratio")),
    Row("migraphx", "RoiAlign", "2.16", Convention(HALF_LEAST, sampling_ratio=0),
        "AMDMIGraphX, op/roialign.hpp (read, not run): boxes of a cell at least, half-pixel too",
        tuple(Convention(box, sampling_ratio=0, reduction=reduction)
              for box in (HALF_LEAST, LEGACY) for reduction in (MEAN, CORNERS)),
        undefined="up to 2.7 half_pixel and output_half_pixel were exchanged"),
    Row("openppl", "RoiAlign", "ppl.nn x86", LEGACY_ADAPTIVE,
        "ppl.nn, kernel/x86/fp32/roialign_ndarray_fp32.cpp (read, not run)",
        (LEGACY_ADAPTIVE, _align(False, 0, CORNERS)),
        undefined="opset 16's half_pixel is ignored"),
    Row("nnapi", "ROI_ALIGN", "Android 10 to 14", LEGACY_ADAPTIVE,
        "NNAPI, common/operations/RoiAlign.cpp (read, not run)",
        undefined="RoIs off the map are refused, a point past the last cell reads that cell",
        only=("on-map",)),
    Row("nnapi", "ROI_POOLING", "Android 10 to 14", replace(POOL, cut="hull"),
        "NNAPI, common/operations/RoiPooling.cpp (read, not run)", ratios=False,
        undefined="RoIs off the map are refused", only=("on-map",)),
    Row("arm", "ROIAlignLayer", "23.11", LEGACY_ADAPTIVE,
        "Compute Library, src/cpu/kernels/roialign/generic/neon/impl.h (read, not run)",
        undefined="bins are clipped to the map, and what is past the last cell's centre is read "
        "past the map", only=("between-centres",)),
    Row("arm", "ROIPoolingLayer", "20.11", replace(POOL, box=ROUND_SIZE, cut="disjoint"),
        "Compute Library, NEROIPoolingLayerKernel.cpp (read, not run): RoIs are uint16",
        ratios=False),
    Row("tnn", "RoiAlign", "master", LEGACY_ADAPTIVE,
        "TNN, source/tnn/device/cpu/acc/cpu_roialign_layer_acc.cc (read, not run)",
        (LEGACY_ADAPTIVE, _align(False, 0, CORNERS)),
        undefined="opset 16's half_pixel is ignored"),
    Row("tengine", "ROIAlign", "1.x", CLIPPED,
        "Tengine, source/device/cpu/op/roialign/roialign_ref.c (read, not run): as ncnn's 0, of "
        "the first RoI alone", ratios=False,
        undefined="reads past the map for RoIs over the right or bottom edge"),
    Row("tengine", "ROIPooling", "1.x", POOL,
        "Tengine, roipooling_ref.c (read, not run), of the first image alone", ratios=False),
    Row("tensorrt", "ROIAlign", "roiAlignPlugin", _align(True, 0, "mean", "nan"),
        "TensorRT roiAlignPlugin (read, not run): an fp16 engine has RoIs in float16",
        (*_both("mean", "nan"), *_both(CORNERS))),
    Row("tensorrt", "PyramidROIAlign", "11.1", _align(True, 0, MEAN, "point"),
        "TensorRT pyramidROIAlignPlugin, maskRCNNKernels.cu (read, not run), on levels P2 to P5",
        (_align(True, 0, MEAN, "point"), Convention(REAL, sampling_ratio=0, empty="point"),
         CROP_IMAGE),
        undefined="RoIs are clipped to the image first", only=("on-map", "with-size")),
    Row("tensorrt", "MultilevelCropAndResize", "11.1", POINT_ALIGN,
        "TensorRT multilevelCropAndResizePlugin, maskRCNNKernels.cu (read, not run)", ratios=False,
        undefined="RoIs off the image or without size keep what was in the output before",
        only=("on-map", "with-size")),
    Row("tensorrt", "CropAndResize", "11.1", CROP_IMAGE,
        "TensorRT cropAndResizePlugin, cropAndResizeKernel.cu (read, not run), boxes over the "
        "image's size", ratios=False),
    Row("tensorrt", "RPROI", "to 10", POOL,
        "TensorRT nvFasterRCNN, plugin/common/kernels/roiPooling.cu (read, not run)",
        ratios=False),
    Row("max", "roi_align", "26.7", LEGACY_ADAPTIVE, "Modular MAX, ops.roi_align",
        (*_both(), *_both("max-split-corners"))),
    Row("coreml", "crop_resize", "iOS 16", COREML[1],
        "Core ML MIL crop_resize (its specification read, not run), corners in cells",
        (*COREML, CROP_IMAGE), ratios=False, fills=True),
    Row("coreml", "roi_align", "coremltools 9.1.dev1",
        replace(ZERO_PADDED.placed(minimum=None), sampling_ratio=1),
        "coremltools, converter of torchvision.ops.roi_align (read, not run)",
        (replace(ZERO_PADDED, box=LEGACY, sampling_ratio=1),), ratios=False,
        undefined="at ratio 2 and more the rows of all but the first column of samples are wrong"),
    Row("directml", "ROI_ALIGN1", "1.15", HALF_ADAPTIVE,
        "DML_ROI_ALIGN1 with offsets -0.5 as ONNX (read, not run)",
        (*_both(), replace(HALF_ADAPTIVE, border="value")), fills=True),
)  # fmt: skip
