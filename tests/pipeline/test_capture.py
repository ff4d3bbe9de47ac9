"""What ``capture`` stores of models made here, against ONNX Runtime on the whole model."""

import os
import runpy
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import roicli
from roicli.core.exceptions import InputError, OutputError, ParameterError, ProviderError
from roicli.pipeline.capture.run import capture
from roicli.runtime.onnx_runtime import ort
from tests import models
from tests.log import logged

SAMPLES = Path(__file__).parents[2] / "sample_data"
DETECTOR = SAMPLES / "two_stage.onnx"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(path, name):
    with h5py.File(path) as file:
        return file[name][()]


def run_whole(path, given):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, given)


def compute_again(path, head):
    features, rois, options = head.arguments(path)
    operator = {"align": roicli.align, "pool": roicli.pool,
                "crop-and-resize": roicli.crop_and_resize}[head.operator]  # fmt: skip
    found = operator(features, rois, **options, **head.options, provider="cpu")
    return found.roi_features


def image(seed=0, size=(96, 128)):
    return np.random.default_rng(seed).integers(0, 256, (1, 3, *size)).astype(np.float32)


def test_the_sample_is_what_its_script_makes():
    made = runpy.run_path(str(SAMPLES / "make_two_stage.py"))["make_model"]()
    assert made.SerializeToString() == DETECTOR.read_bytes()
    assert DETECTOR.stat().st_size < 100_000


def test_a_pyramid_gives_its_nodes_bits_again():
    """Maps once, RoIs of both levels, and align on them as they are: equal bits."""
    found = capture(DETECTOR, "c.h5", input={"image": image()})
    (head,) = found.heads
    assert head.levels == ("p2", "p3")
    assert head.result_shape == (40, 16, 7, 7)
    levels = read("c.h5", "head0/levels")
    assert set(levels) == {2, 3}
    assert np.array_equal(compute_again("c.h5", head), read("c.h5", "head0/roi_features"))
    # The captured RoIs are the model's own boxes, in another order.
    boxes, _ = run_whole(str(DETECTOR), {"image": image()})
    rows = read("c.h5", "head0/rois")[:, 1:]
    assert {tuple(row) for row in rows} == {tuple(row) for row in boxes}


def test_images_of_one_size_are_one_map_and_of_others_a_map_each():
    given = np.concatenate([image(1), image(2)])
    capture(DETECTOR, "same.h5", input={"image": given})
    assert read("same.h5", "head0/p2").shape == (2, 16, 24, 32)
    assert list(np.unique(read("same.h5", "head0/rois")[:, 0])) == [0, 1]
    pytest.importorskip("PIL")
    photos = [str(SAMPLES / name) for name in ("image0.jpg", "image1.jpg")]
    from PIL import Image

    Image.open(photos[0]).resize((128, 96)).save("small.png")
    found = capture(DETECTOR, "two.h5", image=["small.png", photos[1]], channels="rgb")
    (head,) = found.heads
    assert head.per_image
    assert read("two.h5", "head0/0/p2").shape == (1, 16, 24, 32)
    assert read("two.h5", "head0/1/p2").shape == (1, 16, 128, 128)
    assert [name.decode() for name in read("two.h5", "image_ids")] == ["small.png", "image1.jpg"]
    assert np.array_equal(read("two.h5", "image_sizes")[:, 0], [[96, 128], [512, 512]])
    assert np.array_equal(compute_again("two.h5", head), read("two.h5", "head0/roi_features"))


def test_max_roi_pool_and_crop_and_resize():
    crop = models.node(
        "CropAndResize", ["x", "shares", "owners", "size"], ["z"], domain="com.microsoft",
        name="crop", extrapolation_value=0.25,
    )  # fmt: skip
    pool = models.node(
        "MaxRoiPool", ["x", "rows"], ["y"], pooled_shape=[2, 3], spatial_scale=0.5, name="pool"
    )
    inputs = [
        models.INPUTS[0],
        models.value("rows", shape=["K", 5]),
        models.value("shares", shape=["M", 4]),
        models.value("owners", TensorProto.INT32, ["M"]),
    ]
    size = models.constant("size", np.array([3, 4], np.int32))
    made = models.graph([pool, crop], ("y", "z"), inputs, [size])
    path = models.save_model("m.onnx", made, domains=["com.microsoft"])
    given = {
        "x": models.MAP,
        "rows": np.column_stack([models.IMAGES, models.BOXES]).astype(np.float32),
        "shares": np.array([[0.1, 0.2, 0.7, 0.9], [-0.2, 0, 1.1, 0.5]], np.float32),
        "owners": np.zeros(2, np.int32),
    }
    found = capture(path, "c.h5", input=given)
    whole = run_whole(path, given)
    assert [head.operator for head in found.heads] == ["pool", "crop-and-resize"]
    for head, own in zip(found.heads, whole, strict=True):
        assert np.array_equal(read("c.h5", f"{head.name}/roi_features"), own)
        again = compute_again("c.h5", head)
        if head.operator == "pool":
            assert np.array_equal(again, own)
        np.testing.assert_allclose(again, own, atol=1e-5)


def test_nodes_in_an_if():
    path = models.if_model("m.onnx")
    given = models.GIVEN | {"taken": np.array(True)}
    found = capture(path, "c.h5", input=given)
    (head,) = found.heads
    assert head.inside == ("If choose then_branch",)
    assert np.array_equal(read("c.h5", "head0/roi_features"), run_whole(path, given)[0])
    with pytest.raises(InputError, match="no RoI node was reached on any image"):
        capture(path, "d.h5", input=given | {"taken": np.array(False)})
    assert not os.path.exists("d.h5")
    np.save("taken.npy", np.array([1, 0], np.uint8)[:1].reshape(()))


def test_nodes_in_a_loop_give_every_turn():
    path = models.loop_model("m.onnx")
    found = capture(path, "c.h5", input=models.GIVEN)
    (head,) = found.heads
    assert head.rois == 3  # one, then two
    rows = read("c.h5", "head0/rois")
    assert rows[:, 0].tolist() == [0, 1, 1]
    assert np.array_equal(rows[:, 1:], models.BOXES[[0, 0, 1]])
    assert np.array_equal(read("c.h5", "head0/p1"), np.repeat(models.MAP * 2, 2, axis=0))
    assert np.array_equal(compute_again("c.h5", head), read("c.h5", "head0/roi_features"))
    with pytest.raises(InputError, match="node y_node cannot be captured: a Loop of opset 11"):
        capture(models.loop_model("old.onnx", 11), "d.h5", input=models.GIVEN)


def test_nodes_in_a_function_and_of_opset_22():
    body = [models.align("a", "b", "c")]
    function = helper.make_function(
        "own", "Pooler", ["a", "b", "c"], ["y"], body, [helper.make_opsetid("", 16)]
    )
    call = models.node("Pooler", ["x", "boxes", "images"], ["out"], domain="own", name="call")
    path = models.save_model(
        "f.onnx", models.graph([call], ("out",)), domains=["own"], functions=[function]
    )
    assert capture(path, "f.h5", input=models.GIVEN).heads[0].rois == 3
    path = models.save_model("new.onnx", models.graph([models.align()]), opset=22)
    with logged() as notes:
        found = capture(path, "new.h5", input=models.GIVEN)
    assert "run as opset 21, which computes the same" in notes[0]
    assert np.array_equal(
        compute_again("new.h5", found.heads[0]), read("new.h5", "head0/roi_features")
    )


def test_tensors_by_name():
    made = models.graph([models.node("Relu", ["x"], ["/neck/p3:0"])], ("/neck/p3:0",),
                        models.INPUTS[:1])  # fmt: skip
    path = models.save_model("m.onnx", made)
    capture(path, "c.h5", input={"x": models.MAP}, outputs="/neck/p3:0,x")
    assert np.array_equal(read("c.h5", "outputs/neck_p3_0"), np.maximum(models.MAP, 0))
    assert np.array_equal(read("c.h5", "outputs/x"), models.MAP)
    with h5py.File("c.h5") as file:
        assert file["outputs/neck_p3_0"].attrs["tensor"] == "/neck/p3:0"
    with pytest.raises(InputError, match=r"has no tensor /neck/p4:0.*did you mean /neck/p3:0"):
        capture(path, "d.h5", input={"x": models.MAP}, outputs="/neck/p4:0")


def external(path, location, length=None):
    """A convolution whose weights are in another file."""
    weight = onnx.TensorProto(name="w", data_type=1, dims=[3, 3, 1, 1], data_location=1)
    for key, said in {"location": location, "length": length or 36}.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, str(said)
    nodes = [models.node("Conv", ["x", "w"], ["features"]), models.align("features")]
    return models.save_model(path, models.graph(nodes, initializers=[weight]))


def test_external_weights_beside_the_model_are_read():
    os.mkdir("model")
    np.eye(3, dtype=np.float32).tofile("model/w.bin")
    path = external("model/m.onnx", "w.bin")
    found = capture(path, "c.h5", input=models.GIVEN)
    np.testing.assert_allclose(read("c.h5", "head0/p1"), models.MAP, rtol=1e-6)
    assert np.array_equal(compute_again("c.h5", found.heads[0]), read("c.h5", "head0/roi_features"))
    assert sorted(os.listdir("model")) == ["m.onnx", "w.bin"]


@pytest.mark.parametrize(
    ("location", "length", "words"),
    [
        ("../w.bin", 36, "outside the model's folder"),
        ("/etc/passwd", 36, "outside the model's folder"),
        ("link.bin", 36, "outside the model's folder"),
        ("none.bin", 36, "cannot be read"),
        ("short.bin", 36, "which has 8"),
        ("w.bin", 32, "takes 36 bytes, and the file has 32"),
    ],
)
def test_external_weights_elsewhere_are_refused(location, length, words):
    os.mkdir("model")
    np.eye(3, dtype=np.float32).tofile("w.bin")
    np.eye(3, dtype=np.float32).tofile("model/w.bin")
    Path("model/short.bin").write_bytes(b"x" * 8)
    os.symlink("../w.bin", "model/link.bin")
    path = external("model/m.onnx", location, length)
    with pytest.raises(InputError, match=words):
        capture(path, "c.h5", input=models.GIVEN)
    if location == "link.bin":
        capture(path, "c.h5", input=models.GIVEN, allow_external=True)


def without(name):
    return {key: values for key, values in models.GIVEN.items() if key != name}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (without("boxes"), "input boxes float32 .K, 4. is not given; add --input boxes=FILE"),
        (models.GIVEN | {"x": models.MAP[0, 0]}, "shape is .16, 16., and the model's input is x"),
        (models.GIVEN | {"x": models.MAP.astype(np.float64)}, "dtype is float64"),
        (models.GIVEN | {"q": models.MAP}, "has no input q"),
    ],
)
def test_wrong_inputs_are_refused(given, words):
    path = models.save_model("m.onnx", models.graph([models.align()]))
    with pytest.raises((InputError, ParameterError), match=words):
        capture(path, "c.h5", input=given)
    assert os.listdir() == ["m.onnx"]


def custom(name, domain):
    nodes = [models.node(name, ["x"], ["features"], domain=domain), models.align("features")]
    return models.save_model("m.onnx", models.graph(nodes), domains=[domain])


def test_models_that_cannot_be_captured_are_refused():
    with pytest.raises(InputError, match="odd::Weird is an operator of a custom domain"):
        capture(custom("Weird", "odd"), "c.h5", input=models.GIVEN)
    alone = models.node("MyRoiAlign", ["x"], ["y"], domain="mmcv", name="own")
    path = models.save_model("m.onnx", models.graph([alone]), domains=["mmcv"])
    with pytest.raises(InputError, match=r"custom operators.*MyRoiAlign own"):
        capture(path, "c.h5", input=models.GIVEN)
    plugin = models.node("ROIAlign_TRT", ["x"], ["y"], name="plugin")
    path = models.save_model("m.onnx", models.graph([plugin]))
    with pytest.raises(InputError, match=r"custom operators.*ROIAlign_TRT plugin"):
        capture(path, "c.h5", input=models.GIVEN)
    assert capture(path, "x.h5", input=models.GIVEN, outputs="x").outputs == ("x",)
    os.remove("x.h5")
    path = models.save_model("m.onnx", models.graph([models.node("Relu", ["x"], ["y"])]))
    with pytest.raises(InputError, match="no RoiAlign, MaxRoiPool or CropAndResize node"):
        capture(path, "c.h5", input=models.GIVEN)
    Path("bad.onnx").write_bytes(Path(path).read_bytes()[:40])
    with pytest.raises(InputError, match="cannot be read as an ONNX model"):
        capture("bad.onnx", "c.h5")
    assert sorted(os.listdir()) == ["bad.onnx", "m.onnx"]


def endless(path):
    """A loop that does not end before the RoI node."""
    body = helper.make_graph(
        [models.node("Identity", ["go"], ["go_on"]), models.node("Identity", ["held"], ["same"])],
        "body",
        [models.value("turn", TensorProto.INT64, []), models.value("go", TensorProto.BOOL, []),
         models.value("held")],
        [models.value("go_on", TensorProto.BOOL, []), models.value("same")],
    )  # fmt: skip
    nodes = [models.node("Loop", ["", "yes", "x"], ["features"], body=body),
             models.align("features")]  # fmt: skip
    yes = models.constant("yes", True)
    return models.save_model(path, models.graph(nodes, initializers=[yes]))


def test_a_model_that_takes_too_much_is_ended():
    shape = models.constant("shape", np.array([1, 3, 100_000, 100_000]))
    zeros = models.node("ConstantOfShape", ["shape"], ["zeros"])
    nodes = [zeros, models.node("Add", ["zeros", "x"], ["features"]), models.align("features")]
    path = models.save_model("big.onnx", models.graph(nodes, initializers=[shape]))
    with pytest.raises(ProviderError, match="takes more memory than it may; raise --max-memory"):
        capture(path, "c.h5", input=models.GIVEN, max_memory="1G")
    path = endless("long.onnx")
    with pytest.raises(ProviderError, match=r"did not come to an end in 0\.2 seconds"):
        capture(path, "c.h5", input=models.GIVEN, max_seconds=0.2)
    assert sorted(os.listdir()) == ["big.onnx", "long.onnx"]


def test_an_interrupted_capture_goes_on(monkeypatch):
    given = np.concatenate([image(seed) for seed in range(3)])
    np.save("images.npy", given)
    options = {"input": ["image=images.npy"]}
    capture(DETECTOR, "whole.h5", **options)

    def stop(done, total, size):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture(DETECTOR, "c.h5", resume=True, progress=stop, **options)
    assert not os.path.exists("c.h5")
    with pytest.raises(OutputError, match="an interrupted run has kept 2 images; add --resume"):
        capture(DETECTOR, "c.h5", **options)
    with pytest.raises(OutputError, match="the interrupted run differs: provider_requested"):
        capture(DETECTOR, "c.h5", resume=True, provider="cpu", **options)
    seen = []
    with logged() as notes:
        capture(DETECTOR, "c.h5", resume=True, progress=lambda *told: seen.append(told[0]),
                **options)  # fmt: skip
    assert seen == [3]
    assert "going on after 2 images" in notes[0]
    for name in ("head0/p2", "head0/rois", "head0/levels", "head0/roi_features", "image_sizes"):
        assert np.array_equal(read("c.h5", name), read("whole.h5", name))
    assert sorted(os.listdir()) == ["c.h5", "images.npy", "whole.h5"]


def test_photos_are_prepared_as_the_presets_say():
    pytest.importorskip("PIL")
    from PIL import Image

    pixels = np.random.default_rng(3).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    Image.fromarray(pixels).save("a.png")
    made = models.graph([models.node("Identity", ["image"], ["y"])], ("y",),
                        [models.value("image", shape=[1, 3, "H", "W"])])  # fmt: skip
    path = models.save_model("m.onnx", made)

    def prepare(**options):
        capture(path, "c.h5", image=["a.png"], outputs="y", force=True, **options)
        return read("c.h5", "outputs/y")[0]

    plain = pixels.transpose(2, 0, 1).astype(np.float32)
    with logged() as notes:
        assert np.array_equal(prepare(), plain)
    assert "pixels from 0 to 255 as RGB" in notes[0]
    assert np.array_equal(prepare(photo_preset="torchvision"), plain / np.float32(255))
    assert np.array_equal(prepare(channels="bgr", pad=32)[:, :60, :90], plain[::-1])
    assert prepare(channels="bgr", pad=32).shape == (3, 64, 96)
    assert prepare(photo_preset="detectron2").shape == (3, 800, 1200)
    found = prepare(photo_preset="mmdet", resize="60")
    assert found.shape == (3, 64, 96)
    first = (plain[:, 0, 0] - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    np.testing.assert_allclose(found[:, 0, 0], first, rtol=1e-6)
    assert prepare(resize="64:80").shape == (3, 53, 80)
    made.input[0].CopyFrom(models.value("image", shape=[1, 50, 70, 3]))
    path = models.save_model("m.onnx", made)
    with pytest.raises(InputError, match="add --resize HEIGHTxWIDTH"):
        prepare()
    assert prepare(resize="50x70", channels="rgb").shape == (50, 70, 3)


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are seen in /proc")
def test_a_signal_ends_the_model_and_leaves_nothing():
    """The child that runs the model goes with the run."""
    from tests.cli.running import start

    path = endless("long.onnx")
    given = []
    for name, values in models.GIVEN.items():
        np.save(f"{name}.npy", values)
        given += ["--input", f"{name}={name}.npy"]
    process = start("capture", path, *given, "-o", "c.h5", "-q")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and not (found := children.read_text().split()):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 130, said
    assert not any(Path(f"/proc/{child}").exists() for child in found)
    assert not [name for name in os.listdir() if "c.h5" in name]
