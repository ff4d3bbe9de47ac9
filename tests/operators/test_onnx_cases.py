"""ONNX's own conformance cases of RoiAlign, which the ``onnx`` package ships (of MaxRoiPool there
are none).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import roicli
from roicli.operators.convention import ALIGN, HALF_PIXEL, LEGACY
from roicli.operators.evaluate import evaluate
from roicli.operators.sampled_map import SampledMap, all_bins


@pytest.fixture(scope="module")
def cases() -> dict[str, tuple[Any, Any, Any]]:
    """(attributes, inputs, expected) by name."""
    roialign = pytest.importorskip("onnx.backend.test.case.node.roialign")
    found: dict[str, tuple[Any, Any, Any]] = {}

    def collect(node: Any, inputs: Any, outputs: Any, name: str, **_: Any) -> None:
        attributes = {a.name: a.s.decode() or a.i or a.f for a in node.attribute}
        found[name] = attributes, inputs, outputs[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roialign, "expect", collect)
        for name in dir(roialign.RoiAlign):
            if name.startswith("export"):
                getattr(roialign.RoiAlign, name)()
    return found


@pytest.mark.parametrize("name", ["aligned_false", "aligned_true", "mode_max"])
def test_roialign(cases: Any, name: str) -> None:
    """The evaluator, and the operator itself where it is a mean: ONNX's max is no maximum."""
    attributes, (features, corners, images), expected = cases[f"test_roialign_{name}"]
    aligned = attributes["coordinate_transformation_mode"] == "half_pixel"
    is_mean = "mode" not in attributes
    rule = replace(
        ALIGN,
        box=HALF_PIXEL if aligned else LEGACY,
        sampling_ratio=attributes["sampling_ratio"],
        reduction="mean" if is_mean else "max-weighted-corners",
    )
    one = SampledMap(features[0].astype(np.float64), corners, attributes["spatial_scale"])
    size = attributes["output_height"], attributes["output_width"]
    # Four digits are written down.
    np.testing.assert_allclose(evaluate(rule, one, all_bins(size)), expected, atol=1e-4)
    if is_mean:
        rois = np.column_stack([images, corners]).astype(np.float32)
        found = roicli.align(
            features, rois, output_size=size, spatial_scale=attributes["spatial_scale"],
            sampling_ratio=attributes["sampling_ratio"], aligned=aligned,
        )  # fmt: skip
        np.testing.assert_allclose(found.roi_features, expected, atol=1e-4)
