"""The words that the options and the records share, apart so that ``--help`` needs no NumPy."""

from __future__ import annotations

from typing import Literal, get_args

Mode = Literal["avg", "max"]
SamplingGrid = Literal["quarters", "thirds"]
Quantization = Literal["caffe", "floor", "round", "half-even", "hull", "mmcv"]
Partition = Literal["overlap", "disjoint", "floor-size"]
Border = Literal["clamp", "zero"]
AngleUnit = Literal["degrees", "radians"]
AngleDirection = Literal["counter-clockwise", "clockwise"]
PixelModel = Literal["half-pixel", "legacy"]
Provider = Literal["auto", "cpu", "cuda", "native"]
# The operators that a picture and the error table set against each other.
ComparedOperator = Literal["align", "pool"]
LevelRule = Literal["torchvision", "detectron2", "mmdet", "matterport", "model-garden"]
StoredAs = Literal["bfloat16", "float16", "int16", "uint16"]
RoiFormat = Literal["xyxy", "xywh", "cxcywh", "yxyx"]
ResultDtype = Literal["float16", "float32", "float64"]
GraphDtype = Literal["float32", "float64"]
Channels = Literal["rgb", "bgr"]
PhotoPreset = Literal["torchvision", "detectron2", "mmdet"]
PhotoLayout = Literal["auto", "nchw", "nhwc", "chw", "hwc"]
Compression = Literal["none", "gzip", "lzf", "zstd"]
TableFormat = Literal["table", "json", "jsonl", "csv", "tsv", "md"]
SummaryForm = Literal["short", "full"]
Statistic = Literal["mean", "median", "p95", "max", "min"]
ComparedStatistic = Literal["elementwise", "max", "mean", "p99"]
Severity = Literal["error", "warning", "note"]
FindingFormat = Literal["table", "json", "github", "sarif", "junit"]
ListFormat = Literal["table", "json"]

SIZE_CLASSES = ("small", "medium", "large")
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

# The words of the rounding rules in words, for the help, which imports no NumPy; what they compute
# is in operators.rounding.
QUANTIZATION_MEANINGS: dict[Quantization, str] = {
    "caffe": "both edges rounded, the end cell inclusive",
    "floor": "start and size rounded down",
    "round": "both edges rounded, the end cell exclusive",
    "half-even": "as round, halves to the even cell (Chainer)",
    "hull": "every cell that the box touches",
    "mmcv": "no rounding, a pixel added at the end",
}
PARTITION_MEANINGS: dict[Partition, str] = {
    "overlap": "neighbours may share a cell",
    "disjoint": "each cell in one bin",
    "floor-size": "bins of one size, the tail dropped",
}
