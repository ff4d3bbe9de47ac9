"""What several test modules share: boxes to draw, awkward boxes to run, bare ONNX Runtime."""

from importlib import import_module
from typing import Any

import numpy as np
import onnx
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from roicli.operators.rounding import BOX_RULES

ort: Any = import_module("onnxruntime")  # ships no types

LONG_BOX = (920.11, 276.99, 1049.87, 322.0)  # docs/semantics.md W2-W7, scale 1/4
DOG_BOX = (296.0, 192.0, 496.0, 337.0)  # docs/semantics.md W8-W11, scale 1/32
RULES = [(name, partition) for name, rule in BOX_RULES.items() for partition in rule.partitions]
SCALES = (1.0, 0.5, 1 / 16, 0.1, 0.3)
ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": 7}

# Halves are where rounding rules differ; tiny sides are where sizes are clamped.
_coordinate = st.one_of(
    st.integers(-40, 120).map(lambda n: n / 2),
    st.floats(-300, 900, width=32),
    st.floats(-2, 2, width=32),
)
_side = st.one_of(
    st.integers(-20, 100).map(lambda n: n / 2),
    st.floats(0, 2, width=32),
    st.floats(-50, 400, width=32),
)


def examples(count: int, **options: Any) -> settings:
    """Settings for ``count`` examples where a profile has 50, and in proportion elsewhere."""
    return settings(max_examples=max(1, count * settings().max_examples // 50), **options)


@st.composite
def boxes(draw: Any, min_size: int = 1, max_size: int = 5) -> NDArray[np.float32]:
    """(K, 4) float32 in image pixels: ordinary, crossed, negative, tiny, on halves."""
    count = draw(st.integers(min_size, max_size))
    rows = []
    for _ in range(count):
        x, y, w, h = draw(_coordinate), draw(_coordinate), draw(_side), draw(_side)
        rows.append([x, y, x + w, y + h])
    return np.array(rows, np.float32).reshape(count, 4)


def with_batch(corners: Any, batch: int = 0) -> NDArray[np.float64]:
    """(K, 5) RoIs of one image from (K, 4) corners."""
    corners = np.asarray(corners, np.float64).reshape(-1, 4)
    return np.column_stack([np.full(len(corners), batch), corners])


# What a command says of awkward corners and refuses to run: crossed ones, those outside, and those
# of a few pixels, which look normalized, and those of zeros, which look like padding.
AWKWARD = "R04,R05,R08,R19"


def awkward_corners(
    map_size: tuple[int, int], scale: float, count: int, seed: int, dtype: Any = np.float32
) -> NDArray[Any]:
    """(count, 4) corners in image pixels, count >= 24: random ones, then eight kinds of nasty."""
    rng = np.random.default_rng(seed)
    extent = np.array(map_size[::-1]) / scale
    corner = rng.uniform(-0.3, 1.0, (count, 2)) * extent
    other = corner + rng.uniform(0, 0.8, (count, 2)) * extent
    other[:3] = corner[:3] + rng.uniform(0, 0.5, (3, 2)) / scale  # tiny
    other[3:6] = corner[3:6] - rng.uniform(0, 0.5, (3, 2)) * extent  # crossed
    other[6:8, 0] = corner[6:8, 0] - 0.6 * extent[0]  # crossed on one axis
    corner[8:10], other[8:10] = 2 * extent, 3 * extent  # wholly outside
    corner[10:12], other[10:12] = -2 * extent, -1.2 * extent
    corner[12:18] = np.round(corner[12:18] * scale * 2) / 2 / scale  # on halves of cells
    other[12:18] = np.round(other[12:18] * scale * 2) / 2 / scale
    other[18] = corner[18]  # no size
    corner[19], other[19] = 0, extent  # the whole map
    return np.concatenate([corner, other], axis=1).astype(dtype)


def normal_map(shape: tuple[int, ...], seed: int = 0, dtype: Any = np.float32) -> NDArray[Any]:
    """Features of order 1 and both signs."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def run_model(
    nodes: list[Any], feeds: dict[str, NDArray[Any]], output: str, opset: int = 16
) -> NDArray[Any]:
    """A graph made with onnx.helper, on bare ONNX Runtime's CPU provider."""
    kind = ELEMENT_TYPES[str(next(iter(feeds.values())).dtype)]
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info(n, ELEMENT_TYPES[str(v.dtype)], v.shape)
         for n, v in feeds.items()],
        [helper.make_tensor_value_info(output, kind, list("KCYX"))],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], feeds)[0])


def ort_roi_align(features: Any, rois: Any, output_size: Any, **attributes: Any) -> NDArray[Any]:
    """Bare RoiAlign-16 on features (N, C, H, W) and rois (K, 5)."""
    node = helper.make_node(
        "RoiAlign", ["x", "rois", "batch"], ["out"], output_height=output_size[0],
        output_width=output_size[1], **attributes,
    )  # fmt: skip
    corners = np.ascontiguousarray(rois[:, 1:], features.dtype)
    feeds = {"x": features, "rois": corners, "batch": rois[:, 0].astype(np.int64)}
    return run_model([node], feeds, "out")


def ort_max_roi_pool(features: Any, rois: Any, output_size: Any, scale: float) -> NDArray[Any]:
    """Bare MaxRoiPool-1 on features (N, C, H, W) and rois (K, 5)."""
    node = helper.make_node(
        "MaxRoiPool", ["x", "rois"], ["out"], pooled_shape=list(output_size), spatial_scale=scale
    )
    return run_model([node], {"x": features, "rois": rois.astype(np.float32)}, "out")
