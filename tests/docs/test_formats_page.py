"""The table of docs/formats.md says what the package's own tables say."""

import re
from pathlib import Path

from roicli.error_table.arrow import ARROW_ENDINGS
from roicli.error_table.writers import FORMAT_OF_ENDING as TABLE_ENDINGS
from roicli.storage.formats import FORMAT_OF_ENDING, FORMATS
from roicli.storage.roi_columns import BOX_NAMES, KNOWN_NAMES, is_image_name, plain_name

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
HEAD = ["format", "endings", "maps", "RoIs", "result", "error table", "pipe", "example"]
ROWS = [
    dict(zip(HEAD, (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]), strict=True))
    for line in PAGE.partition("## ")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| format")
]


def endings_of(text):
    return tuple(re.findall(r"\.\w+", text))


def test_every_format_has_its_row():
    assert [row["format"] for row in ROWS] == [one.name for one in FORMATS]


def test_a_row_says_what_the_format_can():
    for row, one in zip(ROWS, FORMATS, strict=True):
        if one.of_folder is None or one.endings:
            assert endings_of(row["endings"])[: len(one.endings)] == one.endings, row
        assert (row["maps"] == "yes") == (one.holds != "table"), row
        assert (row["result"] == "yes") == bool(one.written), row
        assert (row["pipe"] == "yes") == one.streams, row
        writes_table = {*TABLE_ENDINGS, *ARROW_ENDINGS} & set(one.endings)
        assert (row["error table"] == "yes") == bool(writes_table), row
        assert row["RoIs"] != "-", row


def test_an_example_is_of_its_format():
    for row, one in zip(ROWS, FORMATS, strict=True):
        command = row["example"].strip("`")
        assert "roicli " in command, row
        names = [ending for ending in endings_of(command) if ending in FORMAT_OF_ENDING]
        assert (
            one.of_folder or one.beginning or one in [FORMAT_OF_ENDING[ending] for ending in names]
        ), row


def test_names_on_the_page_are_known():
    table = PAGE.partition("| meaning |")[2].partition("\n\n")[0]
    names = [name for part in re.findall(r"`([^`]+)`", table) for name in part.split(", ")]
    assert len(names) > 40
    for name in names:
        plain = plain_name(name)
        assert plain in KNOWN_NAMES or is_image_name(plain) or plain in BOX_NAMES, name
