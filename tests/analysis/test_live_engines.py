"""Engines that are installed here, run live: each preset is named and has the engine's numbers.

``make test-all`` runs those that it finds; the others are skipped with the name of what is missing.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import roicli
from roicli.operators.presets import functions_of
from tests.strategies import normal_map

pytestmark = pytest.mark.full
SCALE, SIZE = 1 / 16, 7
IMAGE = np.float32([400, 608, 400, 608])  # height and width, twice
Values = NDArray[np.float32]


def inputs() -> tuple[Values, Values]:
    """Maps, and boxes inside them, over their border, without size and outside."""
    rng = np.random.default_rng(11)
    low, sides = rng.uniform(10, 300, (16, 2)), rng.uniform(30, 250, (16, 2))
    odd = [[-40, 30, 90, 120], [500, 300, 640, 420], [99, 99, 99, 99], [200, 50, 206, 260]]
    corners = np.concatenate([np.concatenate([low, low + sides], axis=1), odd])
    rois = np.column_stack([np.arange(20) % 2, corners]).astype(np.float32)
    return normal_map((2, 8, 25, 38)), rois[np.argsort(rois[:, 0], kind="stable")]


def engine(name: str) -> Any:
    """A module of an engine that is installed here."""
    return pytest.importorskip(name, reason=f"{name} is not installed")


def torchvision(function: str) -> Callable[[Values, Values, int], Values]:
    """One of ``torchvision.ops``."""

    def run(maps: Values, rois: Values, size: int) -> Values:
        torch, ops = engine("torch"), engine("torchvision.ops")
        features, boxes = torch.from_numpy(maps), torch.from_numpy(rois)
        return np.asarray(getattr(ops, function)(features, boxes, (size, size), SCALE))

    return run


def kornia(maps: Values, rois: Values, size: int) -> Values:
    """``crop_and_resize`` of the corners in cells, one RoI after another."""
    torch, transform = engine("torch"), engine("kornia.geometry.transform")
    found = []
    for image, *box in rois:
        x1, y1, x2, y2 = (float(edge) * SCALE for edge in box)
        corners = torch.tensor([[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]])
        one = torch.from_numpy(maps[int(image)][None])
        found.append(transform.crop_and_resize(one, corners, (size, size))[0].numpy())
    return np.array(found)


def grid_sample(maps: Values, rois: Values, size: int) -> Values:
    """The crops of the first PyTorch detectors, whose grids aligned corners: 2P, maximum."""
    torch, nn = engine("torch"), engine("torch.nn.functional")
    height, width = maps.shape[2:]
    found = []
    for image, *box in rois:
        x1, y1, x2, y2 = (float(edge) * SCALE for edge in box)
        theta = [
            [(x2 - x1) / (width - 1), 0, (x1 + x2 - width + 1) / (width - 1)],
            [0, (y2 - y1) / (height - 1), (y1 + y2 - height + 1) / (height - 1)],
        ]
        shape = (1, 1, 2 * size, 2 * size)
        grid = nn.affine_grid(torch.tensor([theta]), shape, align_corners=True)
        one = torch.from_numpy(maps[int(image)][None])
        found.append(nn.max_pool2d(nn.grid_sample(one, grid, align_corners=True), 2)[0].numpy())
    return np.array(found)


def tensorflow(
    ends: Callable[[Values], Values], points: int = 1
) -> Callable[[Values, Values, int], Values]:
    """``crop_and_resize`` of boxes y1, x1, y2, x2 made by ``ends``; of 2P points the maximum."""

    def run(maps: Values, rois: Values, size: int) -> Values:
        tf = engine("tensorflow")
        boxes = ends(rois[:, [2, 1, 4, 3]]).astype(np.float32)
        crop = tf.image.crop_and_resize(
            maps.transpose(0, 2, 3, 1), boxes, rois[:, 0].astype(np.int32), [size * points] * 2
        )
        if points == 2:
            crop = tf.nn.max_pool2d(crop, 2, 2, "SAME")
        return np.asarray(crop.numpy().transpose(0, 3, 1, 2))

    return run


def paddle(function: str) -> Callable[[Values, Values, int], Values]:
    """One of ``paddle.vision.ops``; RoIs lie image by image."""

    def run(maps: Values, rois: Values, size: int) -> Values:
        lib = engine("paddle")
        counts = lib.to_tensor(np.bincount(rois[:, 0].astype(int), minlength=2).astype(np.int32))
        operator = getattr(import_module("paddle.vision.ops"), function)
        found = operator(lib.to_tensor(maps), lib.to_tensor(rois[:, 1:]), counts, size, SCALE)
        return np.asarray(found.numpy())

    return run


def mindspore(maps: Values, rois: Values, size: int) -> Values:
    """``ROIAlign`` with its defaults: roi_end_mode 1."""
    lib = engine("mindspore")
    lib.set_context(device_target="CPU")
    operator = lib.ops.ROIAlign(size, size, SCALE, 2)
    return np.asarray(operator(lib.Tensor(maps), lib.Tensor(rois)).asnumpy())


def mindspore_crop(method: str = "bilinear") -> Callable[[Values, Values, int], Values]:
    """``crop_and_resize`` of boxes over the image's size."""

    def run(maps: Values, rois: Values, size: int) -> Values:
        lib = engine("mindspore")
        lib.set_context(device_target="CPU")
        found = lib.ops.crop_and_resize(
            lib.Tensor(np.ascontiguousarray(maps.transpose(0, 2, 3, 1))),
            lib.Tensor((rois[:, [2, 1, 4, 3]] / IMAGE).astype(np.float32)),
            lib.Tensor(rois[:, 0].astype(np.int32)), (size, size), method,
        )  # fmt: skip
        return np.asarray(found.asnumpy()).transpose(0, 3, 1, 2)

    return run


def onnx_node(maps: Values, rois: Values, size: int) -> tuple[Any, dict[str, Any]]:
    """A model of one RoiAlign-16, and what it takes."""
    onnx = engine("onnx")
    make = onnx.helper
    node = make.make_node("RoiAlign", ["x", "r", "b"], ["y"], output_height=size,
                          output_width=size, spatial_scale=SCALE, sampling_ratio=0)  # fmt: skip
    feeds = {"x": maps, "r": rois[:, 1:].copy(), "b": rois[:, 0].astype(np.int64)}
    graph = make.make_graph(
        [node], "g",
        [make.make_tensor_value_info(name, make.np_dtype_to_tensor_dtype(v.dtype), v.shape)
         for name, v in feeds.items()],
        [make.make_tensor_value_info("y", 1, [len(rois), maps.shape[1], size, size])],
    )  # fmt: skip
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 16)], ir_version=8), feeds


def onnx_reference(maps: Values, rois: Values, size: int) -> Values:
    """RoiAlign as ONNX's own evaluator has it."""
    model, feeds = onnx_node(maps, rois, size)
    evaluator = engine("onnx.reference").ReferenceEvaluator(model)
    return np.asarray(evaluator.run(None, feeds)[0])


def opencv(maps: Values, rois: Values, size: int) -> Values:
    """RoiAlign of ``cv2.dnn``, which has it since version 5."""
    lib = engine("cv2")
    if int(lib.__version__.partition(".")[0]) < 5:
        pytest.skip("OpenCV before 5 has no RoiAlign")
    model, feeds = onnx_node(maps, rois, size)
    net = lib.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
    for name, values in feeds.items():
        net.setInput(values, name)
    return np.asarray(net.forward())


def openvino(build: Callable[..., Any], ends: Any = 1.0) -> Callable[[Values, Values, int], Values]:
    """A graph of one node that ``build`` makes of the operators, features, boxes and images."""

    def run(maps: Values, rois: Values, size: int) -> Values:
        lib, operators = engine("openvino"), engine("openvino.opset9")
        features = operators.parameter(maps.shape, np.float32)
        boxes = operators.parameter([len(rois), 4], np.float32)
        batch = operators.parameter([len(rois)], np.int32)
        table = operators.parameter(rois.shape, np.float32)
        node = build(operators, features, boxes, batch, table, size)
        used = [one for one in (features, boxes, batch, table) if _is_read(one)]
        model = lib.Model([node], used)
        compiled = lib.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        corners = (rois[:, 1:] / ends).astype(np.float32)
        given = [
            maps,
            np.ascontiguousarray(corners),
            rois[:, 0].astype(np.int32),
            np.column_stack([rois[:, :1], corners]).astype(np.float32),
        ]
        feeds = [v for v, one in zip(given, (features, boxes, batch, table), strict=True)
                 if _is_read(one)]  # fmt: skip
        return np.array(compiled(feeds)[0])

    return run


def _is_read(parameter: Any) -> bool:
    return bool(parameter.output(0).get_target_inputs())


def mnn(function: str) -> Callable[[Values, Values, int], Values]:
    """One of MNN's expressions."""

    def run(maps: Values, rois: Values, size: int) -> Values:
        expr = engine("MNN").expr
        features, boxes = (
            expr.const(values, values.shape, expr.NCHW, expr.float) for values in (maps, rois)
        )
        features = expr.convert(features, expr.NC4HW4)
        if function == "roi_align":
            found = expr.roi_align(
                features, boxes, size, size, SCALE, 0, False, expr.Pooling_Mode.AVEPOOL
            )
        else:
            found = expr.roi_pooling(features, boxes, size, size, SCALE)
        return np.array(expr.convert(found, expr.NCHW).read())

    return run


def ncnn(layer: str) -> Callable[[Values, Values, int], Values]:
    """One layer, one RoI after another, as it takes them."""

    def run(maps: Values, rois: Values, size: int) -> Values:
        lib = engine("ncnn")
        net = lib.Net()
        with TemporaryDirectory() as folder:
            graph, weights = Path(folder) / "roi.param", Path(folder) / "roi.bin"
            graph.write_text(
                "7767517\n3 3\nInput data 0 1 data\nInput box 0 1 box\n"
                f"{layer.format(size=size, channels=maps.shape[1])}\n"
            )
            weights.write_bytes(b"")
            assert net.load_param(str(graph)) == net.load_model(str(weights)) == 0
        found = []
        for image, *box in rois:
            extractor = net.create_extractor()
            extractor.input("data", lib.Mat(maps[int(image)]).clone())
            extractor.input("box", lib.Mat(np.array(box, np.float32)).clone())
            found.append(np.array(extractor.extract("out")[1]))
        return np.array(found)

    return run


def tvm(function: str) -> Callable[[Values, Values, int], Values]:
    """A relax function of one operator, compiled by LLVM."""

    def run(maps: Values, rois: Values, size: int) -> Values:
        lib, relax = engine("tvm"), engine("tvm.relax")
        features, boxes = (
            relax.Var(name, relax.TensorType(values.shape, "float32"))
            for name, values in (("x", maps), ("rois", rois))
        )
        builder = relax.BlockBuilder()
        with builder.function("main", [features, boxes]):
            operator = getattr(relax.op.vision, function)
            builder.emit_func_output(builder.emit(operator(features, boxes, (size, size), SCALE)))
        machine = relax.VirtualMachine(lib.compile(builder.get(), "llvm"), lib.cpu())
        return np.asarray(machine["main"](*map(lib.runtime.tensor, (maps, rois))).numpy())

    return run


def onnxruntime(maps: Values, rois: Values, size: int) -> Values:
    """com.microsoft CropAndResize, boxes over the image's size."""
    onnx, ort = engine("onnx"), engine("onnxruntime")
    make = onnx.helper
    node = make.make_node("CropAndResize", ["x", "b", "i", "s"], ["y"], domain="com.microsoft",
                          mode="bilinear", extrapolation_value=0.0)  # fmt: skip
    feeds = {
        "x": maps,
        "b": (rois[:, [2, 1, 4, 3]] / IMAGE).astype(np.float32),
        "i": rois[:, 0].astype(np.int32),
        "s": np.array([size, size], np.int32),
    }
    model = make.make_model(
        make.make_graph(
            [node], "g",
            [make.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(v.dtype),
                                         v.shape) for name, v in feeds.items()],
            [make.make_tensor_value_info("y", 1, None)],
        ), opset_imports=[make.make_opsetid("", 18), make.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )  # fmt: skip
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


CELLS = np.float32([24, 37, 24, 37])  # of the map, less one
LIVE: dict[str, Callable[[Values, Values, int], Values]] = {
    "torchvision.roi_align": torchvision("roi_align"),
    "torchvision.roi_pool": torchvision("roi_pool"),
    "torchvision.ps_roi_align": torchvision("ps_roi_align"),
    "torchvision.ps_roi_pool": torchvision("ps_roi_pool"),
    "kornia.crop_and_resize": kornia,
    "faster-rcnn-pytorch.crop_pool_layer": grid_sample,
    "tensorflow.crop_and_resize": tensorflow(lambda ends: ends / IMAGE),
    "tensorflow.matterport": tensorflow(
        lambda ends: (ends - np.float32([0, 0, 1, 1])) / (IMAGE - 1)
    ),
    "tensorflow.object_detection": tensorflow(lambda ends: ends / IMAGE, 2),
    "tensorflow.tf-faster-rcnn": tensorflow(lambda ends: ends / (CELLS * 16), 2),
    "paddle.roi_align": paddle("roi_align"),
    "paddle.roi_pool": paddle("roi_pool"),
    "paddle.psroi_pool": paddle("psroi_pool"),
    "mindspore.ROIAlign": mindspore,
    "mindspore.crop_and_resize": mindspore_crop(),
    "onnx-reference.RoiAlign": onnx_reference,
    "opencv.RoiAlign": opencv,
    "openvino.ROIAlign": openvino(
        lambda ops, f, r, b, t, n: ops.roi_align(f, r, b, n, n, 0, SCALE, "avg", "asymmetric")
    ),
    "openvino.ROIPooling": openvino(
        lambda ops, f, r, b, t, n: ops.roi_pooling(f, t, [n, n], SCALE, "max")
    ),
    "openvino.ROIPooling-bilinear": openvino(
        lambda ops, f, r, b, t, n: ops.roi_pooling(f, t, [n, n], 1.0, "bilinear"),
        np.roll(IMAGE, 1),
    ),
    "openvino.PSROIPooling": openvino(
        lambda ops, f, r, b, t, n: ops.psroi_pooling(f, t, f.shape[1], 1, SCALE, 1, 1, "average")
    ),
    "mnn.roi_align": mnn("roi_align"),
    "mnn.roi_pooling": mnn("roi_pooling"),
    "ncnn.ROIAlign-1": ncnn(
        f"ROIAlign l 2 1 data box out 0={{size}} 1={{size}} 2={SCALE} 3=0 4=0 5=1"
    ),
    "ncnn.PSROIPooling": ncnn(
        f"PSROIPooling l 2 1 data box out 0={{size}} 1={{size}} 2={SCALE} 3={{channels}}"
    ),
    "tvm.roi_align": tvm("roi_align"),
    "tvm.roi_pool": tvm("roi_pool"),
    "onnxruntime.CropAndResize": onnxruntime,
}
# Their layers have as many groups as bins, or one of each.
ONE_BIN = {"openvino.PSROIPooling": 1, "ncnn.PSROIPooling": 1}
# Of options that a library's function has no default for.
CHOSEN: dict[str, dict[str, Any]] = {"openvino.ROIAlign": {"sampling_ratio": 0}}


@pytest.mark.parametrize("preset", LIVE)
def test_a_preset_is_the_engine(preset: str) -> None:
    """The engine's result is named, and roicli's own is equal to it where that is a number.

    What the engine has for a box without size may be NaN, where roicli has 0.
    """
    maps, rois = inputs()
    operator = functions_of(preset)[0].operator
    size = ONE_BIN.get(preset, {"ps-align": 2, "ps-pool": 2}.get(operator, SIZE))
    # A box without size is NaN by a singular homography, and has a point of its own.
    if preset in ("kornia.crop_and_resize", "opencv.RoiAlign"):
        rois = rois[(rois[:, 3:] > rois[:, 1:3]).all(axis=1)]
    result = LIVE[preset](maps, rois, size)
    found = roicli.diagnose(maps, rois, result, spatial_scale=SCALE, sample=None)
    assert found.match is not None
    assert preset in [row.name for row in found.libraries]
    run = getattr(roicli, operator.replace("-", "_"))
    own = run(
        maps, rois, preset=preset, spatial_scale=SCALE, output_size=size, provider="cpu",
        ignore="R04,R05", **CHOSEN.get(preset, {}),
    )  # fmt: skip
    known = np.isfinite(result)
    assert known.mean() > 0.9
    # kornia's points go through a homography in single precision.
    largest = 5e-5 if preset.startswith("kornia") else 2e-5
    np.testing.assert_allclose(own.roi_features[known], result[known], atol=largest, rtol=0)


OPENVINO = {
    "ROIAlign max": ("max", "half_pixel_for_nn"),
    "ROIAlign half_pixel": ("avg", "half_pixel"),
}


@pytest.mark.parametrize("name", OPENVINO)
def test_what_openvino_can_be_set_to(name: str) -> None:
    mode, aligned = OPENVINO[name]
    maps, rois = inputs()
    result = openvino(
        lambda ops, f, r, b, t, n: ops.roi_align(f, r, b, n, n, 2, SCALE, mode, aligned)
    )(maps, rois, SIZE)
    found = roicli.diagnose(maps, rois, result, spatial_scale=SCALE, sample=None)
    assert "openvino.ROIAlign" in [row.name for row in found.libraries]
