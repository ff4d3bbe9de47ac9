"""Results of other engines are named: each with the convention that its source says."""

from typing import Any

import numpy as np
import pytest

from roicli.analysis.diagnose.run import Diagnosis, diagnose
from roicli.operators.convention import CROP
from tests.operators import engines
from tests.operators.engines import NOT_IMITATED, SCALE
from tests.options import some

# The library's functions, by the name of an entry.
ROWS = {
    "megengine-roi_align-aligned-average-sr2": "megengine.roi_align",
    "chainer-roi_max_align_2d-sr0": "chainer.roi_max_align_2d",
    "openvino-ROIAlign9-half_pixel-avg-sr0": "openvino.ROIAlign",
    "mmcv-roi_align-aligned-max-sr0": "mmcv.RoIAlign",
    "tvm-roi_align-aligned-avg-sr2": "tvm.roi_align",
    "ncnn-ROIAlign-v0-legacy-sr0": "ncnn.ROIAlign-0",
    "tf-crop_and_resize-matterport": "tensorflow.matterport",
    "mxnet-PSROIPooling-group1": "mxnet.PSROIPooling",
    "torchvision-ps_roi_pool-1x1": "torchvision.ps_roi_pool",
    "mmcv-roi_align_rotated-angle30-legacy-sr2": "mmcv.RoIAlignRotated",
    "mmcv-roi_align_rotated-angle0-legacy-sr2": "mmcv.RoIAlignRotated",
    "openvino-ROIAlignRotated-angle0-sr0": "openvino.ROIAlignRotated",
}
IMITATED = [name for name in engines.entries() if name not in NOT_IMITATED]


def find(name: str) -> Diagnosis:
    """The diagnosis of an entry; zero-size boxes and those outside are wanted here."""
    entry = engines.entries()[name]
    options: dict[str, Any] = {"angle": entry.angle} if entry.angle else {}
    return diagnose(
        engines.features(), entry.rois, entry.result, spatial_scale=SCALE, sample=None, **options
    )


@some("name", [(name,) for name in IMITATED],
      ("megengine-roi_align-aligned-average-sr2",), ("chainer-roi_max_align_2d-sr0",),
      ("torchvision-ps_roi_pool-1x1",), ("mmcv-roi_align_rotated-angle30-legacy-sr2",)
     )  # fmt: skip
def test_every_engine_is_named(name: str) -> None:
    found = find(name)
    assert found.match is not None
    assert found.match.distance < 1e-5
    assert found.rois_compared == len(engines.entries()[name].rois)
    assert np.isfinite(found.match.max_difference)
    if name in ROWS:
        assert ROWS[name] in [row.name for row in found.libraries]
    expected = engines.entries()[name].convention
    same = [c.convention for c in (found.match.candidate, *found.synonyms)]
    # An angle of 0 is no turn, groups of 1 are all channels, and a fill that no RoI meets is none.
    keys = ("reduction", "grid", "interpolation", "normalization", "pixel_rounding", "rounding",
            "inclusive", "shift_cells", "start_px", "end_px", "cut")  # fmt: skip
    wanted = expected.parameters()
    assert any(all(c.parameters()[key] == wanted[key] for key in keys) for c in same)


@pytest.mark.full
def test_a_rule_of_the_compilers_explains_a_part() -> None:
    """ncnn's RoI Pool: some bins start a cell early."""
    found = find("ncnn-ROIPooling-default")
    assert found.match is None
    assert found.partial is not None
    assert len(found.partial.rows) == 18
    assert "ncnn.ROIPooling" in [row.name for row in found.partial.libraries]


@pytest.mark.full
def test_one_point_a_bin_is_crop_and_resize() -> None:
    """OpenVINO's bilinear PSROIPooling with one bin and one point."""
    found = find("openvino-PSROIPooling-bilinear-group1-bins1")
    assert found.match is not None
    assert found.match.candidate.convention == CROP.placed(normalization="image")
