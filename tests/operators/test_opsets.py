"""Every operator's exported graph at every opset that it can be written in."""

import numpy as np
import onnx
import pytest

import roicli
from roicli.core.exceptions import ParameterError
from roicli.operators.export import build_export_graph
from roicli.operators.onnx_protobuf import IR_VERSIONS
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from tests.operators.test_taps import SPECS as TAPS
from tests.operators.test_taps import as_inputs, some_rois
from tests.strategies import normal_map, ort

MAPS = normal_map((1, 8, 9, 12))
SPECS = {
    "align": AlignSpec((3, 2), 0.25),
    "align, maximum of thirds": AlignSpec((3, 2), 0.25, mode="max", sampling_grid="thirds"),
    "align, mean of thirds": AlignSpec((3, 2), 0.25, sampling_grid="thirds"),
    "pool": PoolSpec((3, 2), 0.25),
    "pool, windows": PoolSpec((3, 2), 0.25, "mmcv"),
    **TAPS,
}
# The reductions' axes became an input at 18, and 19 and 21 have newer formats.
FEW = (16, 21)
ROIS = len(range(0, 40, 7))


def run(spec, opset):
    graph = build_export_graph(spec, np.dtype(np.float32), {}, opset)
    model = onnx.load_from_string(graph.model)
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", opset)]
    session = ort.InferenceSession(graph.model, providers=["CPUExecutionProvider"])
    feeds = as_inputs(spec, np.zeros(ROIS), rois(spec))
    return session.run(None, {"features": MAPS, **feeds})[0]


def rois(spec):
    return some_rois(spec, 40, seed=3)[::7]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.full if "," in name else ()) for name in SPECS]
    + ["pool, windows", "rule, weighted corners"],
)
def test_it_is_the_same_graph_at_every_opset(name):
    spec = SPECS[name]
    expected = run(spec, 18)
    for opset in FEW:
        np.testing.assert_array_equal(run(spec, opset), expected)


@pytest.mark.full
@pytest.mark.parametrize("opset", [17, 19, 20])
def test_the_opsets_between(opset):
    for spec in SPECS.values():
        np.testing.assert_array_equal(run(spec, opset), run(spec, 18))


def test_the_option(tmp_path):
    found = roicli.export("rotated-align", tmp_path / "x.onnx", opset=16)
    assert found["opset"] == 16
    model = onnx.load(tmp_path / "x.onnx")
    assert model.opset_import[0].version == 16
    assert set(IR_VERSIONS) == set(range(16, 22))
    for opset in (15, 22):
        with pytest.raises(ParameterError, match=f"opset is {opset}, expected 16 to 21"):
            roicli.export("align", tmp_path / "y.onnx", opset=opset)
    assert not (tmp_path / "y.onnx").exists()
