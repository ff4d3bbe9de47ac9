"""Pictures of the operators that read cells with weights: their own bins and points."""

import numpy as np
import pytest

import roicli
from roicli.core.exceptions import ParameterError
from tests.cli.running import succeed
from tests.strategies import normal_map

MAPS = normal_map((1, 4, 9, 12))
ROIS = np.float32([[0, 8, 4, 40, 28]])
TURNED = np.float32([[0, 24, 16, 16, 8, 90]])
OPTIONS = {"roi": 0, "spatial_scale": 0.25, "output_size": 2, "sampling_ratio": 1}


def places(picture):
    """Points in cells, cell i centred at i."""
    return np.array(picture.points) - picture.point_offset


def test_a_crop_has_its_points_at_the_ends_of_the_box():
    found = roicli.draw(MAPS, ROIS, operator="crop-and-resize", normalization="cells", **OPTIONS)
    assert places(found).tolist() == [[2, 1], [10, 1], [2, 7], [10, 7]]
    assert found.operator == "crop and resize"
    lines = np.array(found.lines) - found.point_offset
    assert [[2, 1], [10, 1]] in lines.tolist()
    assert [[2, 1], [2, 7]] in lines.tolist()


def test_means_of_cells_have_windows_and_no_points():
    found = roicli.draw(MAPS, ROIS, operator="average-pool", **OPTIONS)
    assert found.points == ()
    # Cells 2 to 10 and 1 to 7: bins share the middle cell.
    xs = sorted({x for line in found.lines for x, _ in line})
    assert xs == [2, 6, 7, 11]
    assert xs == sorted({edge for one in found.pool_x for edge in one})


def test_position_sensitive_bins_are_roi_aligns():
    found = roicli.draw(MAPS, ROIS, operator="ps-align", **OPTIONS)
    plain = roicli.draw(MAPS, ROIS, **OPTIONS)
    expected = [(x, y) for y in plain.points_y for x in plain.points_x]
    np.testing.assert_allclose(found.points, expected, atol=1e-5)
    xs = sorted({round(x, 4) for line in found.lines for x, _ in line})
    np.testing.assert_allclose(xs, plain.align_x, atol=1e-4)


@pytest.mark.parametrize("said", [{"operator": "rotated-align"},
                                  {"roi_columns": "image,cx,cy,w,h,angle"}])  # fmt: skip
def test_a_turned_grid_is_drawn_turned(said):
    found = roicli.draw(MAPS, TURNED, aligned=False, **said, **OPTIONS)
    # A quarter turn counter-clockwise: the centre is at (6, 4), sides of 4 and 2 cells.
    np.testing.assert_allclose(places(found), [[5.5, 5], [5.5, 3], [6.5, 5], [6.5, 3]], atol=1e-5)
    corner = np.array(found.lines) - found.point_offset
    np.testing.assert_allclose(corner[0], [[5, 6], [5, 2]], atol=1e-5)
    np.testing.assert_allclose(found.real, (5, 2, 7, 6), atol=1e-5)
    assert found.box_name == "enclosing box"


def test_it_is_written_and_shown(tmp_path):
    np.save(tmp_path / "f.npy", MAPS)
    np.save(tmp_path / "r.npy", TURNED)
    call = ["draw", str(tmp_path / "f.npy"), str(tmp_path / "r.npy"), "--roi", "0",
            "--spatial-scale", "1/4", "--operator", "rotated-align"]  # fmt: skip
    assert "rotated RoI Align bins" in succeed(*call).text
    succeed(*call, "-o", str(tmp_path / "x.svg"))
    assert "rotated RoI Align bins" in (tmp_path / "x.svg").read_text()


def test_what_is_another_operators_is_refused():
    with pytest.raises(ParameterError, match="a close-up and panels are RoI Align's"):
        roicli.draw(MAPS, ROIS, operator="average-pool", bin_index=(0, 0), **OPTIONS)
    with pytest.raises(ParameterError, match="RoI Pool is drawn without --operator"):
        roicli.draw(MAPS, ROIS, operator="pool", **OPTIONS)
