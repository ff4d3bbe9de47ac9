"""``roicli capture`` as a user runs it: what it lists, prints and refuses."""

import json
import shlex

import numpy as np
import pytest

from tests import models
from tests.cli.running import SAMPLES, refuse, save, succeed

DETECTOR = str(SAMPLES / "two_stage.onnx")


def test_the_list_shows_inputs_heads_and_nodes():
    text = succeed("capture", DETECTOR, "--list").text
    for word in ("image float32 (1, 3, height, width)", "class_scores", "head0", "p2", "p3"):
        assert word in text
    found = json.loads(succeed("capture", DETECTOR, "--list", "--format", "json").text)
    (head,) = found["heads"]
    assert [node["level"] for node in head["nodes"]] == ["p2", "p3"]
    assert head["nodes"][0]["attributes"]["sampling_ratio"] == 2
    path = models.loop_model("loop.onnx")
    found = json.loads(succeed("capture", path, "--list", "--format", "json").text)
    assert found["heads"][0]["nodes"][0]["inside"] == ["Loop again body"]


def test_the_command_that_is_printed_gives_the_same_bits():
    photo = np.random.default_rng(0).integers(0, 256, (1, 3, 96, 128)).astype(np.float32)
    given = ("--input", f"image={save('photo.npy', photo)}", "-o", "c.h5")
    found = json.loads(succeed("capture", DETECTOR, *given, "--format", "json").text)
    (head,) = found["heads"]
    assert head["shape"] == [40, 16, 7, 7]
    program, *words = shlex.split(head["command"])
    assert program == "roicli"
    succeed(*words, "--provider", "cpu", "--no-table", "-o", "again.h5")
    succeed("compare", "again.h5", "c.h5::head0/roi_features", "--atol", "0", "--rtol", "0")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), ("output is not given", "--list")),
        (("-o", "c.h5"), ("input image float32", "is not given", "--image PHOTO")),
        (("--image", "none.jpg", "-o", "c.h5"), ("none.jpg: no such file",)),
        (("none.jpg", "-o", "c.h5"), ("none.jpg: no such file",)),
        (("--input", "image=none.npy", "-o", "c.h5"), ("none.npy: no such file",)),
        (("--input", "image", "-o", "c.h5"), ("NAME=FILE",)),
        (("--image", "a.jpg", "--resize", "10y", "-o", "c.h5"), ("resize is '10y'",)),
        (("--image", "a.jpg", "--std", "0", "-o", "c.h5"), ("std is", "positive")),
        (("--input", "image=i.npy", "-o", "c.npy"), ("c.npy: unknown ending '.npy'",)),
        (("--input", "image=i.npy", "--provider", "native", "-o", "c.h5"), ("native",)),
        (("--input", "image=i.npy", "--outputs", "boxs", "-o", "c.h5"), ("did you mean boxes",)),
    ],
)
def test_wrong_calls_are_one_line(given, words):
    save("i.npy", np.zeros((1, 3, 96, 128), np.float32))
    refuse("capture", DETECTOR, *given, words=words)


def test_photos_that_are_none_are_one_line(folder):
    pytest.importorskip("PIL")
    (folder / "bad.jpg").write_text("hello")
    (folder / "cut.jpg").write_bytes((SAMPLES / "image1.jpg").read_bytes()[:9000])
    for name in ("bad.jpg", "cut.jpg"):
        refuse("capture", DETECTOR, "--image", name, "-o", "c.h5",
               words=(f"{name}: cannot be read as a photo",))  # fmt: skip
    photo = str(SAMPLES / "image1.jpg")
    refuse("capture", DETECTOR, "--image", photo, "--resize", "300000x300000", "-o", "c.h5",
           words=("bytes for the photo",))  # fmt: skip
