"""``roicli export`` and ``--graph``: a graph as a file, run by ONNX Runtime alone, read back."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, ROIS, SCALE, refuse, run, succeed
from tests.strategies import ort

GRAPHS = [
    ("align",),
    ("align", "--no-aligned", "--sampling-ratio", "0"),
    ("align", "--mode", "max", "--output-size", "3x2"),
    ("align", "--sampling-grid", "thirds"),
    ("align", "--sampling-grid", "thirds", "--mode", "max", "--sampling-ratio", "3"),
    ("align", "--preset", "torchvision"),
    ("pool",),
    ("pool", "--output-size", "2x5"),
]


def result(*arguments: str) -> NDArray[Any]:
    """What roicli itself writes."""
    command, *options = arguments
    succeed(command, FEATURES, ROIS, *options, "-o", "out.npy", "--force", "-q")
    return np.asarray(np.load("out.npy"))


@pytest.mark.parametrize("arguments", GRAPHS, ids=" ".join)
def test_the_graph_alone_gives_the_same(inputs: Arrays, arguments: tuple[str, ...]) -> None:
    command, *options = arguments
    outcome = succeed("export", command, "graph.onnx", *SCALE, *options)
    assert outcome.out == b""
    assert "wrote graph.onnx" in outcome.err
    model = onnx.load("graph.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert 16 <= model.opset_import[0].version <= 21
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["operator"] == command
    assert metadata["spatial_scale"] == "0.25"
    session = ort.InferenceSession("graph.onnx", providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == ["features", "rois"]
    found = session.run(None, dict(zip(("features", "rois"), inputs, strict=True)))[0]
    assert np.allclose(found, result(command, *SCALE, *options), atol=1e-6)


def test_graph_option_runs_what_was_exported(inputs: Arrays) -> None:
    for command, *options in (("align", "--no-aligned", "--output-size", "3x2"), ("pool",)):
        succeed("export", command, "graph.onnx", *SCALE, *options, "--force")
        expected = result(command, *SCALE, *options)
        assert np.array_equal(result(command, "--graph", "graph.onnx"), expected)


def test_conflicts_with_a_graph(inputs: Arrays) -> None:
    succeed("export", "align", "graph.onnx", *SCALE)
    graph = ("align", FEATURES, ROIS, "--graph", "graph.onnx")
    refuse(*graph, "--spatial-scale", "1/8", words=("spatial scale", "0.125", "0.25"))
    refuse(*graph, "--output-size", "3", words=("output size", "3"))
    refuse(*graph, "--no-aligned", words=("aligned",))
    refuse(*graph, "--preset", "mmcv", words=("--graph", "--preset"))
    refuse("pool", FEATURES, ROIS, "--graph", "graph.onnx", words=("graph.onnx", "roicli align"))
    refuse("align", FEATURES, ROIS, "--graph", "graph.onnx::nobody", words=("nobody",))
    assert run(*graph, *SCALE, "--output-size", "7x7").code == 0


def test_graphs_that_are_none(inputs: Arrays) -> None:
    Path("text.onnx").write_text("hello")
    Path("empty.onnx").touch()
    Path("folder.onnx").mkdir()
    for name in ("text.onnx", "empty.onnx", "folder.onnx", "none.onnx", FEATURES):
        refuse("align", FEATURES, ROIS, "--graph", name, words=(name,))


def test_export_refuses(inputs: Arrays) -> None:
    Path("old.onnx").write_text("mine")
    refuse("export", "align", "old.onnx", *SCALE, words=("old.onnx", "exists", "--force"))
    refuse("export", "align", "graph.txt", *SCALE, words=("graph.txt", "ending", ".onnx"))
    refuse("export", "align", "none/graph.onnx", *SCALE, words=("folder none",))
    refuse("export", "align", "graph.onnx", *SCALE, "--output-size", "0", words=("output size",))
    refuse("export", "align", "graph.onnx", "--spatial-scale", "nan", words=("spatial scale",))
    adaptive = ("--mode", "max", "--sampling-ratio", "0")
    refuse("export", "align", "graph.onnx", *SCALE, *adaptive, words=("adaptive",))
    for rule in ("floor", "mmcv", "hull", "round"):
        arguments = ("export", "pool", "graph.onnx", *SCALE, "--quantization", rule)
        assert run(*arguments, "--force").code in (0, 2)
    assert Path("old.onnx").read_text() == "mine"


def test_export_does_not_replace_the_graph_it_reads(inputs: Arrays) -> None:
    succeed("export", "align", "graph.onnx", *SCALE)
    arguments = ("export", "align", "graph.onnx", "--graph", "graph.onnx", "--force")
    refuse(*arguments, words=("graph.onnx",))
