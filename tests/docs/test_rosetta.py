"""docs/rosetta.md has every row of the table of libraries."""

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

from roicli.operators.libraries import ROWS

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_rosetta.py"
_spec = importlib.util.spec_from_file_location("make_rosetta", SCRIPT)
rosetta = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rosetta)


def test_the_page_has_every_function_once_and_what_is_left_to_chance():
    page = rosetta.PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE) == [row.name for row in ROWS]
    assert all(row.undefined in page for row in ROWS)
    assert re.findall(r"^\| `([^`]+)` \|", rosetta.write_page(), re.MULTILINE) == [
        row.name for row in ROWS
    ]


def test_the_picture_has_the_points_of_every_family():
    """Four points a bin for RoI Align, one for crop_and_resize, none where cells are read."""
    root = ElementTree.fromstring(rosetta.PICTURE.read_text(encoding="utf-8"))
    kinds = [child.tag.rpartition("}")[2] for child in root]
    assert kinds.count("text") == len(rosetta.FAMILIES)
    assert kinds.count("circle") == 16 + 16 + 4
    assert rosetta.write_picture() == rosetta.PICTURE.read_text(encoding="utf-8")
