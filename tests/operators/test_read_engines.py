"""Engines whose code was read and not run: rows of the table against each one's own order of steps.

Every engine is written here once more, a number after another in single precision, as its source
(``libraries``) goes about it, and without a line of what is tested.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

import roicli
from roicli.operators.convention import EMPTY_VALUES, Convention
from roicli.operators.evaluate import evaluate
from roicli.operators.libraries import LibraryFunction
from roicli.operators.presets import functions_of
from roicli.operators.sampled_map import SampledMap, all_bins
from tests.options import some
from tests.strategies import normal_map

Plane = NDArray[np.float32]
Read = Callable[[Plane, np.float32, np.float32], np.float32]
Engine = Callable[[Plane, NDArray[np.float32], tuple[int, int]], NDArray[np.float64]]
SCALE, SIZE = np.float32(0.25), (3, 2)
MAPS = normal_map((1, 3, 11, 13))  # of an image of 44 x 52
INSIDE = np.float32([
    [4.3, 5.1, 31.7, 29.9], [9, 8, 10.5, 9.2], [1.2, 2.9, 44.9, 38.2], [20.4, 11.3, 39.3, 14.1],
    [12, 16, 28, 36], [2, 6, 6, 10], [17.9, 3.3, 24.1, 33.6],
])  # fmt: skip
ON_MAP = np.concatenate([INSIDE, np.float32([[0, 0, 52, 44], [40.3, 30.1, 51.2, 43.7]])])
ANYWHERE = np.concatenate([
    ON_MAP,
    np.float32([[-9, -6, 14, 21], [33, 29, 71, 66], [60, 50, 70, 60], [8, 8, 8, 8],
                [-3.1, 12, -1.9, 30]]),
])  # fmt: skip


def torch_like(plane: Plane, y: np.float32, x: np.float32) -> np.float32:
    """Bilinear: 0 more than a cell off the map, the last cell read alone."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return np.float32(0)
    return repeated(plane, y, x)


def repeated(plane: Plane, y: np.float32, x: np.float32) -> np.float32:
    """Bilinear, with the border's cells repeated however far."""
    return sum(w * value for w, value in _corners(plane, y, x))


def _corners(plane: Plane, y: np.float32, x: np.float32) -> list[tuple[np.float32, np.float32]]:
    (y0, y1, ly), (x0, x1, lx) = (_cells(at, n) for at, n in zip((y, x), plane.shape, strict=True))
    hy, hx = np.float32(1) - ly, np.float32(1) - lx
    return [(hy * hx, plane[y0, x0]), (hy * lx, plane[y0, x1]),
            (ly * hx, plane[y1, x0]), (ly * lx, plane[y1, x1])]  # fmt: skip


def _cells(at: np.float32, cells: int) -> tuple[int, int, np.float32]:
    at = max(at, np.float32(0))
    low = int(at)
    if low >= cells - 1:
        return cells - 1, cells - 1, np.float32(0)
    return low, low + 1, at - np.float32(low)


def weighted(plane: Plane, y: np.float32, x: np.float32) -> np.float32:
    """The greatest of the weighted corners, as ONNX's mode max has it."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return np.float32(0)
    return max(w * value for w, value in _corners(plane, y, x))


def grid(plane: Plane, lines: list[list[list[np.float32]]], reduce: str = "mean",
         read: Read = torch_like, empty: float = 0.0) -> NDArray[np.float64]:  # fmt: skip
    """Of ``lines`` (y, x) of the points of each bin, the bins' values."""
    out = np.empty((len(lines[0]), len(lines[1])))
    for i, rows in enumerate(lines[0]):
        for j, columns in enumerate(lines[1]):
            values = [read(plane, y, x) for y in rows for x in columns]
            found = (np.mean(values, dtype=np.float64) if reduce == "mean" else max(values)) if (
                values) else empty  # fmt: skip
            out[i, j] = found
    return out


def axes(box: NDArray[np.float32], size: tuple[int, int]) -> Iterator[tuple[np.float32, ...]]:
    """(low, high, bins) of y and of x, in cells."""
    for axis, bins in ((1, size[0]), (0, size[1])):
        yield box[axis] * SCALE, box[axis + 2] * SCALE, bins


def sampled(plane, box, size, *, offset=0.0, least=None, ratio=0, fewest=0, late=False, **how):
    """RoI Align of the family: Paddle-Lite, oneflow, BigDL, ppl.nn, TNN, Glow, OpenCV."""
    lines, shift = [], np.float32(offset)
    for low, high, bins in axes(box, size):
        start, end = (low, high) if late else (low - shift, high - shift)
        extent = end - start if least is None else max(end - start, np.float32(least))
        step = extent / np.float32(bins)
        n = ratio or max(int(np.ceil(step)), fewest)
        lines.append([
            [start + np.float32(p) * step + np.float32(i + 0.5) * step / np.float32(n)
             - (shift if late else np.float32(0)) for i in range(n)]
            for p in range(bins)
        ])  # fmt: skip
    return grid(plane, lines, **how)


def nnapi_align(plane, box, size):
    """Points are added up from the start of a bin to its end."""
    lines = []
    for low, high, bins in axes(box, size):
        step = max(high - low, np.float32(1)) / np.float32(bins)
        n = np.ceil(step)
        one, line = step / n, []
        for p in range(bins):
            at, end = step * np.float32(p) + low + one / 2, step * np.float32(p + 1) + low
            points = []
            while at < end:
                points.append(at)
                at = at + one
            line.append(points)
        lines.append(line)
    return grid(plane, lines, read=repeated)


def clipped_align(plane, box, size, *, whole=False):
    """Tengine; and Arm's Compute Library, which counts the points of the ``whole`` bin."""
    lines = []
    for (low, high, bins), cells in zip(axes(box, size), plane.shape, strict=True):
        step, line = max(high - low, np.float32(1)) / np.float32(bins), []
        for p in range(bins):
            start, end = (
                min(max(low + np.float32(q) * step, np.float32(0)), np.float32(cells))
                for q in (p, p + 1)
            )
            n = int(np.ceil(step if whole else end - start)) if end > start else 0
            line.append([start + np.float32(i + 0.5) * step / np.float32(n) for i in range(n)])
        lines.append(line)
    return grid(plane, lines, read=repeated)


def pyramid(plane, box, size, *, shift=0.5):
    """TensorRT's PyramidROIAlign: a point at least, no point off the map."""
    lines = []
    for (low, high, bins), cells in zip(axes(box, size), plane.shape, strict=True):
        start, end = low - np.float32(shift), high - np.float32(shift)
        step = (end - start) / np.float32(bins)
        n = max(1, int(np.ceil((end - start) / np.float32(bins))))
        last = np.float32(cells - 1)
        lines.append([
            [min(max(start + step * np.float32(p) + step * np.float32(i + 0.5) / np.float32(n),
                     np.float32(0)), last) for i in range(n)]
            for p in range(bins)
        ])  # fmt: skip
    return grid(plane, lines, read=repeated)


def halfway(plane, box, size):
    """TensorRT's MultilevelCropAndResize."""
    lines = [
        [[min(max(low + (high - low) / np.float32(bins) * np.float32(p + 0.5), np.float32(0)),
              np.float32(cells - 1))] for p in range(bins)]
        for (low, high, bins), cells in zip(axes(box, size), plane.shape, strict=True)
    ]  # fmt: skip
    return grid(plane, lines, read=repeated)


def cropped(plane, box, size, *, first=None, read=None):
    """TensorFlow's steps, of shares of the map's size that ``first`` makes."""
    lines = []
    for (low, high, bins), cells in zip(axes(box, size), plane.shape, strict=True):
        one, last = np.float32(1), np.float32(cells - 1)
        a, b = (low / np.float32(cells), high / np.float32(cells))
        if first is not None:
            a, b = first(low, high, bins, cells)
        scale = (b - a) * last / (np.float32(bins) - one)
        lines.append([[a * last + np.float32(p) * scale] for p in range(bins)])
    return grid(plane, lines, read=read or off_map_is_0)


def off_map_is_0(plane, y, x):
    """Nothing past the centres of the border's cells."""
    inside = 0 <= y <= plane.shape[0] - 1 and 0 <= x <= plane.shape[1] - 1
    return repeated(plane, y, x) if inside else np.float32(0)


def fpcoor(low, high, bins, cells):
    """RoIAlign.pytorch's corners, that crop_and_resize reads the middle of bins."""
    spacing, last = (high - low) / np.float32(bins), np.float32(cells - 1)
    start = (low + spacing / 2 - np.float32(0.5)) / last
    return start, start + spacing * np.float32(bins - 1) / last


def resized(plane, box, size, *, mode):
    """Core ML's SamplingMode, in the words of its specification: N points of [0, X - 1]."""
    lines = []
    for low, high, n in axes(box, size):
        end = float(high) - float(low)
        x = end + 1
        match mode:
            case "DEFAULT":
                points = np.minimum(end, np.linspace(0, x - x / n, n))
            case "OFFSET_CORNERS":
                spacing = max(1, end) / n
                points = np.linspace(0.5 * spacing, 0.5 * spacing + (n - 1) * spacing, n)
                points = np.minimum(end, points)
            case "UNALIGN_CORNERS":
                spacing = x / n
                points = np.clip([i * spacing + 0.5 * spacing - 0.5 for i in range(n)], 0, end)
        lines.append([[np.float32(low + point)] for point in points])
    return grid(plane, lines, read=off_map_is_0)


def shared_edges(plane, box, size, *, reduce="mean"):
    """faster-rcnn.pytorch: a point more than bins, of which each bin takes two an axis."""
    points = []
    for axis, bins in ((1, size[0]), (0, size[1])):
        start, end = box[axis] * SCALE, box[axis + 2] * SCALE
        step = max(end - start + np.float32(1), np.float32(0)) / np.float32(bins)
        points.append([np.float32(p) * step + start for p in range(bins + 1)])
    lines = [[list(pair) for pair in pairwise(line)] for line in points]
    return grid(plane, lines, reduce, off_map_is_0)


def padded(plane, box, size):
    """coremltools' RoI Align at ratio 1: a ring of zeros, and nothing behind it."""
    ring = np.pad(plane, 1)

    def read(_, y, x):
        inside = -1 <= y <= plane.shape[0] and -1 <= x <= plane.shape[1]
        return repeated(ring, y + np.float32(1), x + np.float32(1)) if inside else np.float32(0)

    return sampled(plane, box, size, offset=0.5, ratio=1, read=read)


def away(value):
    """C's round."""
    return int(np.trunc(value + np.copysign(0.5, value)))


def half_up(value):
    """Java's round."""
    return int(np.floor(np.float64(value) + 0.5))


def pooled(plane, box, size, *, to_whole=away, sized=False, join=None):
    """The maximum of cells, whose ``join`` of a start and an edge says which."""
    spans = []
    for (low, high, bins), cells in zip(axes(box, size), plane.shape, strict=True):
        start = to_whole(low)
        n = to_whole(high - low) if sized else to_whole(high) - start + 1
        n = max(n, 1)
        edges = [join(start, n, p, bins) for p in range(bins)] if join else [
            (start + int(np.floor(np.float32(p) * (np.float32(n) / np.float32(bins)))),
             start + int(np.ceil(np.float32(p + 1) * (np.float32(n) / np.float32(bins)))))
            for p in range(bins)
        ]  # fmt: skip
        spans.append([[min(max(edge, 0), cells) for edge in pair] for pair in edges])
    return np.array([
        [plane[y0:y1, x0:x1].max(initial=-np.inf) if y1 > y0 and x1 > x0 else 0.0
         for x0, x1 in spans[1]] for y0, y1 in spans[0]
    ])  # fmt: skip


def on_the_map(start, n, p, bins):
    """NNAPI's edges: the start is added before they are rounded."""
    step = np.float32(n) / np.float32(bins)
    first, last = (step * np.float32(q) + np.float32(start) for q in (p, p + 1))
    return int(np.floor(first)), int(np.ceil(last))


def shared(start, n, p, bins):
    """Arm's edges: the share of the bin, then its cells."""
    first, last = (
        int(np.floor(np.float32(q) / np.float32(bins) * np.float32(n))) for q in (p, p + 1)
    )
    return start + first, start + last


LEAST = {"offset": 0.0, "least": 1}
HALF = {"offset": 0.5}
# By the function: the engine with its defaults, and RoIs for which its row stands.
ENGINES: dict[str, tuple[Engine, NDArray[np.float32]]] = {
    "maskrcnn-benchmark.ROIAlign": (partial(sampled, **LEAST), ANYWHERE),
    "roialign-pytorch.RoIAlign": (partial(cropped, first=fpcoor), ANYWHERE),
    "roialign-pytorch.CropAndResize": (cropped, ANYWHERE),
    "dl4j.crop_and_resize": (cropped, ANYWHERE),
    "paddle-lite.roi_align": (partial(sampled, **HALF), ANYWHERE),
    "oneflow.roi_align": (partial(sampled, **HALF), ANYWHERE),
    "mindspore-lite.ROIPooling": (pooled, ANYWHERE),
    "bigdl.RoiAlign": (partial(sampled, **HALF), ANYWHERE),
    "bigdl.RoiPooling": (partial(pooled, to_whole=half_up), ANYWHERE),
    "cntk.ROIPooling": (partial(pooled, sized=True), ANYWHERE),
    "glow.ROIAlign": (partial(sampled, **LEAST), ANYWHERE),
    "migraphx.RoiAlign": (partial(sampled, offset=0.5, least=1, late=True), ANYWHERE),
    "openppl.RoiAlign": (partial(sampled, **LEAST), ANYWHERE),
    "tnn.RoiAlign": (partial(sampled, **LEAST), ANYWHERE),
    "opencv.RoiAlign": (partial(sampled, **HALF, fewest=1), ANYWHERE),
    "onnx-tf.RoiAlign": (partial(sampled, ratio=2, read=off_map_is_0), ANYWHERE),
    "onnx2tf.RoiAlign": (partial(sampled, ratio=2, read=off_map_is_0), ANYWHERE),
    "faster-rcnn-pytorch.RoIAlignAvg": (shared_edges, INSIDE),
    "faster-rcnn-pytorch.RoIAlignMax": (partial(shared_edges, reduce="max"), INSIDE),
    "nnapi.ROI_ALIGN": (nnapi_align, ON_MAP),
    "nnapi.ROI_POOLING": (partial(pooled, join=on_the_map), ON_MAP),
    "arm.ROIAlignLayer": (partial(clipped_align, whole=True), INSIDE),
    "arm.ROIPoolingLayer": (partial(pooled, sized=True, join=shared), np.round(ON_MAP)),
    "tengine.ROIAlign": (clipped_align, ON_MAP),
    "tengine.ROIPooling": (pooled, ANYWHERE),
    "tensorrt.PyramidROIAlign": (pyramid, ON_MAP),
    "tensorrt.MultilevelCropAndResize": (halfway, ON_MAP),
    "tensorrt.CropAndResize": (cropped, ANYWHERE),
    "tensorrt.RPROI": (pooled, ANYWHERE),
    "coreml.crop_resize": (partial(resized, mode="DEFAULT"), ON_MAP),
    "coreml.roi_align": (padded, ANYWHERE),
}
# What their options reach: the convention's number in ``also``, and the engine set so.
SET_OTHERWISE: dict[tuple[str, int], tuple[Engine, NDArray[np.float32]]] = {
    ("bigdl.RoiAlign", 2): (
        partial(sampled, **HALF, reduce="max", empty=EMPTY_VALUES["-flt-max"]), ANYWHERE),
    ("glow.ROIAlign", 0): (partial(sampled, **HALF, empty=np.nan), ANYWHERE),
    ("migraphx.RoiAlign", 1): (
        partial(sampled, offset=0.5, least=1, late=True, reduce="max", read=weighted), ANYWHERE),
    ("migraphx.RoiAlign", 2): (partial(sampled, **LEAST), ANYWHERE),
    ("openppl.RoiAlign", 1): (partial(sampled, **LEAST, reduce="max", read=weighted), ANYWHERE),
    ("opencv.RoiAlign", 2): (
        partial(sampled, **HALF, fewest=1, reduce="max", read=weighted), ANYWHERE),
    ("onnx2tf.RoiAlign", 6): (
        partial(sampled, ratio=3, read=off_map_is_0, reduce="max"), ANYWHERE),
    ("tensorrt.PyramidROIAlign", 1): (partial(pyramid, shift=0), ON_MAP),
    ("tensorrt.ROIAlign", 2): (partial(sampled, **HALF, reduce="max", read=weighted), ANYWHERE),
    ("coreml.crop_resize", 2): (partial(resized, mode="OFFSET_CORNERS"), ON_MAP),
    ("coreml.crop_resize", 3): (partial(resized, mode="UNALIGN_CORNERS"), ON_MAP),
}  # fmt: skip


def row_of(name: str) -> LibraryFunction:
    """The only function of that name."""
    (row,) = functions_of(name)
    return row


@cache
def _rows(engine: Engine, rois: bytes) -> NDArray[np.float64]:
    boxes = np.frombuffer(rois, np.float32).reshape(-1, 4)
    return np.array([[engine(plane, box, SIZE) for plane in MAPS[0]] for box in boxes])


def result_of(engine: Engine, rois: NDArray[np.float32]) -> NDArray[np.float64]:
    """(k, C, r, c) of an engine."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _rows(engine, rois.astype(np.float32).tobytes())


def computed(convention: Convention, rois: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same of a convention."""
    one = SampledMap(MAPS[0].astype(np.float64), rois.astype(np.float32), float(SCALE))
    return evaluate(convention, one, all_bins(SIZE))


def test_every_row_is_the_engine_step_by_step() -> None:
    for name, (engine, rois) in ENGINES.items():
        expected = result_of(engine, rois)
        found = computed(row_of(name).convention, rois)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=name)
    for (name, number), (engine, rois) in SET_OTHERWISE.items():
        found = computed(row_of(name).also[number], rois)
        np.testing.assert_allclose(
            found, result_of(engine, rois), rtol=1e-5, atol=1e-5, err_msg=f"{name} {number}"
        )


def named(result: NDArray[np.float64], rois: NDArray[np.float32]) -> list[str]:
    """Whose numbers a diagnosis says that they are; none where there is no match."""
    table = np.column_stack([np.zeros(len(rois)), rois]).astype(np.float32)
    found = roicli.diagnose(
        MAPS, table, result.astype(np.float32), spatial_scale=float(SCALE), sample=None
    )
    return [row.name for row in found.libraries] if found.match else []


@some("name", [(name,) for name in ENGINES], ("cntk.ROIPooling",), ("coreml.crop_resize",))
def test_a_diagnosis_names_it(name: str) -> None:
    engine, rois = ENGINES[name]
    assert name in named(result_of(engine, rois), rois)


LIMITED = [row for name in ENGINES for row in [row_of(name)] if row.only]


def test_beyond_its_limits_a_function_is_not_named() -> None:
    """Others' numbers off the map, at its border and without size are not those of who differs."""
    names = {row.name for row in LIMITED}
    assert len(names) == 7
    everywhere = named(
        computed(row_of("maskrcnn-benchmark.ROIAlign").convention, ANYWHERE), ANYWHERE
    )
    assert "torchvision.roi_align" in everywhere
    assert not names.intersection(everywhere)
    on_map = named(result_of(nnapi_align, ON_MAP), ON_MAP)
    assert names.intersection(on_map) == {"nnapi.ROI_ALIGN"}
    inside = named(result_of(nnapi_align, INSIDE), INSIDE)
    assert names.intersection(inside) == {"nnapi.ROI_ALIGN", "arm.ROIAlignLayer"}


@pytest.mark.full
def test_off_the_map_they_do_differ() -> None:
    """So the limits are needed."""
    for name in ("tensorrt.PyramidROIAlign", "arm.ROIAlignLayer", "nnapi.ROI_ALIGN"):
        expected = result_of(ENGINES[name][0], ANYWHERE)
        assert np.abs(computed(row_of(name).convention, ANYWHERE) - expected).max() > 0.01


def test_core_mls_own_numbers() -> None:
    """The values of its tests (coremltools, test_image_resizing.py) for a box of a whole map."""
    ramp = np.array([[[0.0, 1.0]]])
    one = SampledMap(ramp, np.float32([[0, 0, 1, 0]]), 1.0)
    points = ((0, 0.25, 0.5, 0.75, 1), (0, 0.4, 0.8, 1, 1), (0.1, 0.3, 0.5, 0.7, 0.9),
              (0, 0.1, 0.5, 0.9, 1))  # fmt: skip
    for number, expected in enumerate(points):
        rule = row_of("coreml.crop_resize").also[number]
        found = evaluate(rule, one, all_bins((1, 5)))
        np.testing.assert_allclose(found[0, 0, 0], expected, atol=1e-6)
    square = np.arange(1.0, 17).reshape(1, 4, 4)
    corners = np.float32([[0.3, 0.1, 1.0, 1.3], [1.8, 0.5, 0.3, 1.0], [0.4, 0.0, 0.7, 0.6]]) * 3
    rule = row_of("coreml.crop_resize").also[0]
    found = evaluate(rule, SampledMap(square, corners, 1.0), all_bins((2, 2)))
    expected = [[3.1, 5.2, 0, 0], [0, 7.9, 0, 13.9], [2.2, 3.1, 9.4, 10.3]]
    np.testing.assert_allclose(found.reshape(3, 4), expected, atol=2e-3)
