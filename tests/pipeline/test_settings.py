"""Options over a node or a preset, over the defaults."""

from typing import get_args

import pytest

from roicli.core.declaration import settle
from roicli.core.exceptions import ParameterError
from roicli.core.operator_table import Operator
from roicli.core.parse import as_size
from roicli.operators.libraries import ROWS
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.operators.table import operator_type
from roicli.pipeline.model_nodes import RoiNode
from roicli.pipeline.request import RunRequest
from roicli.pipeline.settings import DEFAULTS, resolve_setting

OPERATORS = ["align", "pool", "errors"]
ALIGN_NODE = RoiNode("roi", "align", 16, (3, 5), 0.1, 0, False)
POOL_NODE = RoiNode("roi", "pool", 16, (3, 5), 0.1)


def resolve(options, operator, node=None):
    request = settle(RunRequest, options)
    return resolve_setting(request, operator, node, request.spatial_scale, request.levels)


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_defaults_are_those_of_the_records(operator):
    setting = resolve({}, operator)
    assert (setting.align, setting.pool) == (AlignSpec(), PoolSpec())
    assert setting.pixel_model == "half-pixel"
    assert setting.preset is None


# aligned, sampling ratio (2 where there is no default), quantization, and the pixel model.
LIBRARIES = {
    "caffe": (False, 0, "caffe", "legacy"),
    "torchvision": (False, 0, "caffe", "legacy"),
    "detectron2": (True, 0, "caffe", "half-pixel"),
    "mmcv": (True, 0, "mmcv", "half-pixel"),
    "onnx10": (False, 0, "caffe", "legacy"),
    "onnx16": (True, 0, "caffe", "half-pixel"),
    "openvino": (False, 2, "caffe", "legacy"),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_alone_says_both_operators(operator, name):
    setting = resolve({"preset": name}, operator)
    align, pool = setting.align, setting.pool
    assert setting.preset == name
    assert (align.aligned, align.sampling_ratio, pool.quantization, setting.pixel_model) == (
        LIBRARIES[name]
    )
    assert pool.partition == "overlap"


def test_every_function_resolves_to_its_convention_or_is_refused_by_name():
    for row in ROWS:
        if row.operator not in get_args(Operator) or not row.runs:
            with pytest.raises(ParameterError, match="needs an operator that roicli cannot run"):
                resolve({"preset": row.name}, "align")
            continue
        spec = resolve({"preset": row.name}, row.operator).spec
        assert row.options().items() <= vars(spec).items()
        other = "pool" if row.operator != "pool" else "align"
        with pytest.raises(ParameterError, match="has no such operator") as caught:
            resolve({"preset": row.name}, other)
        assert row.name in caught.value.hint


# docs/semantics.md, 4: torchvision False, detectron2 and mmcv True, ONNX 10 legacy, 16 half_pixel.
@pytest.mark.parametrize(
    ("name", "aligned"),
    [
        ("torchvision", False), ("detectron2", True), ("mmcv", True), ("onnx10", False),
        ("onnx16", True), ("openvino", False), ("caffe", False),
    ],
)  # fmt: skip
def test_the_libraries_defaults_differ_in_aligned(name, aligned):
    assert resolve({"preset": name}, "align").align.aligned == aligned


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_option_overrides_a_preset(name):
    options = {
        "preset": name, "sampling_ratio": 3, "quantization": "hull", "partition": "disjoint",
        "pixel_model": "legacy", "output_size": (2, 3), "sampling_grid": "thirds", "mode": "max",
    }  # fmt: skip
    setting = resolve(options, "align")
    aligned = LIBRARIES[name][0]
    assert setting.align == AlignSpec((2, 3), 1.0, 3, aligned, "max", "thirds")
    assert setting.pool == PoolSpec((2, 3), 1.0, "hull", "disjoint")
    assert setting.pixel_model == "legacy"


def test_a_fill_that_is_the_librarys_own_is_said(caplog):
    """What roicli computes differs there, and nowhere else."""
    with caplog.at_level("INFO", "roicli"):
        resolve({"preset": "torchvision"}, "align")
        assert not caplog.messages
        resolve({"preset": "paddle.roi_align"}, "align")
    assert caplog.messages == ["paddle.roi_align has NaN for an empty bin; roicli has 0 for it"]


def test_an_explicit_zero_or_false_overrides_a_preset_too():
    setting = resolve({"preset": "detectron2", "aligned": False, "sampling_ratio": 0}, "align")
    assert (setting.align.aligned, setting.align.sampling_ratio) == (False, 0)


@pytest.mark.parametrize(("aligned", "model"), [(True, "half-pixel"), (False, "legacy")])
def test_align_takes_the_pixel_model_of_aligned_before_the_presets(aligned, model):
    for options in ({}, {"preset": "torchvision"}, {"preset": "onnx16"}):
        setting = resolve({**options, "aligned": aligned}, "align")
        assert setting.pixel_model == model


def test_pool_takes_half_pixel_without_a_preset():
    assert resolve({"aligned": False}, "pool").pixel_model == "half-pixel"


def test_mmcv_asked_for_over_a_preset_drops_no_partition_that_was_given():
    assert resolve({"preset": "caffe", "quantization": "mmcv"}, "pool").pool == PoolSpec(
        quantization="mmcv"
    )
    with pytest.raises(ParameterError, match="mmcv has bins of its own"):
        resolve({"preset": "mmcv", "partition": "disjoint"}, "pool")


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ParameterError, match=r"preset is 'keras'.*torchvision.*kornia.*directml"):
        resolve({"preset": "keras"}, "align")
    assert resolve({"preset": "PADDLE.ROI_Align"}, "align").preset == "PADDLE.ROI_Align"


@pytest.mark.parametrize("size", [7, "7", (7, 7), [7, 7], "7x7"])
def test_output_size_in_every_spelling(size):
    assert resolve({"output_size": size}, "pool").pool.output_size == (7, 7)


# --- a node of the user's model ---------------------------------------------------------------


def test_a_node_gives_all_parameters_of_its_operator():
    setting = resolve({}, "align", ALIGN_NODE)
    assert setting.align == AlignSpec((3, 5), 1.0, 0, False)
    assert setting.pixel_model == "legacy"
    assert resolve({}, "pool", POOL_NODE).pool == PoolSpec((3, 5))


@pytest.mark.parametrize(
    "options",
    [
        {"output_size": "3x5"}, {"output_size": (3, 5)}, {"spatial_scale": "1/10"},
        {"spatial_scale": 0.1}, {"sampling_ratio": 0}, {"aligned": False}, {"mode": "avg"},
        {"sampling_grid": "quarters"}, {"sampling_ratio": None},
    ],
)  # fmt: skip
def test_an_option_equal_to_the_nodes_is_fine(options):
    node_alone = resolve({}, "align", ALIGN_NODE)
    assert resolve(options, "align", ALIGN_NODE) == node_alone


@pytest.mark.parametrize(
    ("options", "node"),
    [
        ({"output_size": 7}, ALIGN_NODE), ({"output_size": (5, 3)}, ALIGN_NODE),
        ({"spatial_scale": 0.2}, ALIGN_NODE), ({"spatial_scale": "1/16"}, ALIGN_NODE),
        ({"sampling_ratio": 2}, ALIGN_NODE), ({"aligned": True}, ALIGN_NODE),
        ({"mode": "max"}, ALIGN_NODE), ({"sampling_grid": "thirds"}, ALIGN_NODE),
        ({"quantization": "hull"}, POOL_NODE), ({"partition": "disjoint"}, POOL_NODE),
    ],
)  # fmt: skip
def test_an_option_that_says_otherwise_is_an_error(options, node):
    (name,) = options
    with pytest.raises(ParameterError, match=name.replace("_", " ") + " is .*but node roi has"):
        resolve(options, node.operator, node)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"preset": "caffe"}, "--preset both set"), ({"levels": "p3,p4"}, "not --levels")],
)
def test_a_node_goes_with_no_preset_and_no_pyramid(options, message):
    with pytest.raises(ParameterError, match=message):
        resolve(options, "align", ALIGN_NODE)


def test_pooling_options_stay_beside_an_align_node():
    setting = resolve({"quantization": "round"}, "align", ALIGN_NODE)
    assert setting.pool == PoolSpec((3, 5), 1.0, "round")


@pytest.mark.parametrize("operator", get_args(Operator))
def test_the_help_shows_the_default_that_the_operator_has(operator):
    """Its fields are its options, and what is declared of them is what a run takes."""
    for name, default in operator_type(operator).defaults().items():
        # The image's size is said of the inputs, and an operator may need it too.
        shown = {**DEFAULTS, "image_size": None}[name]
        assert (as_size(shown, name) if name == "output_size" else shown) == default
