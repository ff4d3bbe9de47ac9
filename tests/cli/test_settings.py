"""``roicli.toml``, ``[tool.roicli]``, ``ROICLI_*`` variables, and what they do not say."""

import json
import os
import re
from pathlib import Path

import pytest

from roicli.cli.commands import COMMANDS, options_of
from roicli.cli.settings import LARGEST_FILE, key_of, variable_of
from roicli.core.declaration import Opt
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, ROIS, SCALE, refuse, run, succeed

ERRORS = ("errors", ROIS, *SCALE)


def write(text: str, name: str = "roicli.toml") -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def shown_rows(*arguments: str, **environment: str) -> int:
    """How many RoIs the table says that it shows."""
    text = succeed(*ERRORS, *arguments, **environment).text
    found = re.search(r"(\d) of 5 RoIs, ", text)
    assert found
    return int(found[1])


def test_the_command_line_is_asked_first_then_the_environment_then_the_file(inputs: Arrays) -> None:
    assert shown_rows() == 5
    write("rows = 1")
    assert shown_rows() == 1
    write("rows = 1\n[errors]\nrows = 2\n[check]\nrows = 9")
    assert shown_rows() == 2
    assert shown_rows(ROICLI_ROWS="3") == 3
    assert shown_rows("--rows", "4", ROICLI_ROWS="3") == 4
    assert shown_rows(ROICLI_ROWS="") == 2
    assert shown_rows(ROICLI_CONFIG="") == 5


def test_every_kind_of_value(inputs: Arrays) -> None:
    write('spatial-scale = "1/4"\naligned = false\nfail-over = ["iou=2"]\ncolumns = ["roi", "iou"]')
    arguments = ("align", FEATURES, ROIS, "-o", "a.npy", "--force", "--format", "json")
    outcome = succeed(*arguments)
    parameters = json.loads(outcome.text)["parameters"]
    assert (parameters["aligned"], parameters["spatial_scale"]) == (False, [0.25])
    write("spatial_scale = 0.25\nfail-under = 'iou=2'")
    assert run("errors", ROIS).code == 1
    outcome = run("errors", ROIS, ROICLI_FAIL_UNDER="iou=0 iou=2", ROICLI_CONFIG="")
    assert outcome.code == 1
    assert "roicli: finding: iou under 2" in outcome.err
    environment = {"ROICLI_ALIGNED": "no", "ROICLI_FORMAT": "json", "ROICLI_CONFIG": ""}
    text = succeed(*arguments[:-2], *SCALE, **environment).text
    assert json.loads(text)["parameters"]["aligned"] is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("spatial-scal = 1", ("roicli.toml: ", "'spatial-scal'", "did you mean spatial-scale")),
        ("[errors]\nmode = 'max'", ("roicli.toml: errors: ", "no option 'mode'")),
        ("[error]\nrows = 1", ("roicli.toml: ", "no command 'error'", "did you mean errors")),
        ("rows = 1.5", ("roicli.toml: ", "rows is '1.5'")),
        ("rows = true", ("roicli.toml: ", "rows is True", "text or a number")),
        ("rows = 1979-05-27", ("roicli.toml: ", "rows", "text or a number")),
        ("aligned = 1", ("roicli.toml: ", "aligned is 1", "true or false")),
        ("format = 'jsn'", ("roicli.toml: ", "'jsn'", "did you mean json")),
        ("[errors]\nprovider = 'gpu'", ("roicli.toml: errors: ", "'gpu'")),
        ("sampling-ratio = 300", ("sampling ratio is 300", "--sampling-ratio is from roicli.toml")),
        ("levels = ['p3']", ("levels", "--levels is from roicli.toml")),
        ("rows = ", ("roicli.toml: is no TOML",)),
        ("rows = " + "[" * 100_000, ("roicli.toml: is no TOML",)),
        ("#" * (LARGEST_FILE + 1), ("roicli.toml: is larger",)),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused(inputs: Arrays, text: str, words: tuple[str, ...]) -> None:
    write(text)
    refuse(*ERRORS, words=words)
    assert "Usage" in succeed("errors", "--help").text


def test_a_file_says_nothing_of_what_is_read_or_written(inputs: Arrays) -> None:
    """It may be a stranger's, which came with a folder of data."""
    known = {key_of(one): one for name in COMMANDS for one in options_of(name).values()}
    outward = {key for key, one in known.items() if one.opt.outward}  # type: ignore[union-attr]
    assert {"output", "force", "dask", "allow-external", "errors-out", "graph"} <= outward
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    text = page.read_text(encoding="utf-8")
    assert [key for key in sorted(outward) if f"`{key}`" not in text] == []
    for one in known.values():
        assert isinstance(one.opt, Opt)
        leads_away = {"FILE", "ADDRESS", "PHOTO", "LIST", "MODEL"} & set(
            (one.opt.metavar or "").replace("[", "|").replace(":", "|").replace(",", "|").split("|")
        )
        assert not leads_away or one.opt.outward, one.name
    for key in ("output", "force", "dask", "allow-external", "errors-out", "graph"):
        write(f'{key} = "x.h5"')
        hint = variable_of(key)
        refuse("align", FEATURES, ROIS, *SCALE, words=("roicli.toml: ", key, "stranger", hint))
    os.remove("roicli.toml")
    succeed("align", FEATURES, ROIS, *SCALE, "-q", ROICLI_OUTPUT="here.npy")
    assert Path("here.npy").exists()


def test_what_the_environment_says_is_named_where_it_is_wrong(inputs: Arrays) -> None:
    for variable, value, words in (
        ("ROICLI_ROWS", "many", ("ROICLI_ROWS: ", "rows is 'many'")),
        ("ROICLI_PROVIDER", "nativ", ("ROICLI_PROVIDER: ", "did you mean native")),
        ("ROICLI_ALIGNED", "maybe", ("ROICLI_ALIGNED: ", "true or false")),
        ("ROICLI_OUTPUT_SIZE", "2000", ("--output-size is from ROICLI_OUTPUT_SIZE",)),
        ("ROICLI_CONFIG", "none.toml", ("none.toml: cannot be read",)),
    ):
        outcome = run(*ERRORS, **{variable: value})
        assert outcome.code == 2
        (line,) = outcome.errors
        assert all(word in line for word in words), line


def test_a_variable_that_is_no_setting_is_noted(inputs: Arrays) -> None:
    outcome = succeed(*ERRORS, ROICLI_PROVDER="native", ROICLI_CONTAIN_HDF5="1")
    (line,) = outcome.errors
    assert "ROICLI_PROVDER is no setting; did you mean ROICLI_PROVIDER" in line
    assert succeed(*ERRORS, "-q", ROICLI_PROVDER="native").err == ""


def test_what_a_file_gives_is_noted(inputs: Arrays) -> None:
    write("rows = 1\naligned = false")
    (line,) = succeed(*ERRORS, "--aligned").errors
    assert line == "roicli: note: roicli.toml gives --rows 1"
    assert succeed(*ERRORS, "-q").err == ""


def test_the_nearest_file_is_taken(inputs: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    write("rows = 1")
    write("[project]\nname = 'x'\ndescription = 'uses roicli = 1'", "deep/pyproject.toml")
    write("[tool.roicli]\nrows = 2\n[tool.roicli.errors]\nrows = 3", "deep/er/pyproject.toml")
    Path("deep/er/still").mkdir()
    found = {}
    for folder in (".", "deep", "deep/er", "deep/er/still"):
        with monkeypatch.context() as there:
            there.chdir(folder)
            found[folder] = json.loads(succeed("config", "errors", "--format", "json").text)
    files = [one["file"] for one in found.values()]
    up = os.path.join("..", "")
    assert files == ["roicli.toml", f"{up}roicli.toml", "pyproject.toml", f"{up}pyproject.toml"]
    rows = [next(r for r in one["config"] if r["option"] == "rows") for one in found.values()]
    assert [row["value"] for row in rows] == ["1", "1", "3", "3"]
    assert rows[2]["from"] == "pyproject.toml [tool.roicli]: errors"
    # A repository is a house of its own.
    Path("deep/.git").mkdir()
    monkeypatch.chdir("deep")
    assert json.loads(succeed("config", "--format", "json").text)["file"] is None


def test_a_project_of_others_stops_nobody(inputs: Arrays) -> None:
    write("#" * (LARGEST_FILE + 1), "pyproject.toml")
    assert shown_rows() == 5
    write("[tool.roicli2]\nrows = 'x'", "pyproject.toml")
    assert shown_rows() == 5


def test_config_shows_each_value_and_where_it_is_from(inputs: Arrays) -> None:
    write("rows = 1\nsampling-ratio = 4\n[align]\nrows = 'all'")
    found = json.loads(succeed("config", "align", "--format", "json", ROICLI_DTYPE="float16").text)[
        "config"
    ]
    by_option = {row["option"]: (row["value"], row["from"]) for row in found}
    assert by_option["rows"] == ("all", "roicli.toml: align")
    assert by_option["sampling-ratio"] == ("4", "roicli.toml")
    assert by_option["dtype"] == ("float16", "ROICLI_DTYPE")
    assert by_option["mode"] == ("avg", "default")
    assert len(found) == len(options_of("align"))
    text = succeed("config", COLUMNS="200").text
    assert "settings file: roicli.toml" in text
    assert "align" in text
    write("[draw]\nrols = 1")
    refuse("config", words=("roicli.toml: draw", "'rols'"))
    refuse("config", "aling", words=("'aling'", "did you mean align"))


def test_every_option_has_a_variable_of_its_own() -> None:
    for name in COMMANDS:
        keys = [key_of(one) for one in options_of(name).values()]
        assert len(set(map(variable_of, keys))) == len(keys)
        assert all(variable_of(key).isidentifier() for key in keys)
