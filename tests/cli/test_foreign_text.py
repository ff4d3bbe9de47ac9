"""Names and attributes of files steer no terminal, no log and no page, whatever prints them."""

import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest

from tests.cli.running import Outcome, run, run_process, succeed
from tests.options import some

# ESC and OSC with BEL, C1, a line break before a command, a bidirectional override, rich markup,
# HTML, Markdown, mathematics, and a command in the middle.
NAST = "p3\x1b[31m\x1b]0;own\x07\x9b2J\n::error file=x::own\r\u202e[red]x<b>|`$a$ ##[error]y"
NASTY_FILE = NAST.replace("/", "_").replace("::", ":")  # what follows :: names a dataset
BYTES = b"caf\xe9\x1b[2J"
SCALE = ("--spatial-scale", "1/4")


def assert_safe(text: str, commands: bool = False) -> None:
    """Nothing but letters and line ends, no line that a CI system obeys, no markup of rich."""
    for character in text:
        assert character == "\n" or unicodedata.category(character)[0] != "C", repr(text)
        assert unicodedata.category(character) not in ("Zl", "Zp"), repr(text)
    if not commands:
        assert not [line for line in text.splitlines() if line.lstrip().startswith("::")], text
    assert "##[" not in text


@pytest.fixture
def files(folder: Path) -> dict[str, str]:
    """Files whose own names, and the names and attributes in them, are nasty."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 3, 12, 16)).astype(np.float32)
    rois = np.array([[0, 0, 0, 20, 20], [1, 3, 4, 40, 30], [0, 8, 8, 55, 40]], np.float32)
    names = {kind: f"{NASTY_FILE}.{kind}" for kind in ("h5", "npy", "csv", "onnx")}
    np.save(names["npy"], rois)
    Path(names["csv"]).write_text(
        "batch_index,x1,y1,x2,y2\n" + "\n".join(",".join(map(str, row)) for row in rois)
    )
    with h5py.File(names["h5"], "w") as file:
        file.attrs[NAST] = NAST
        file.attrs["texts"] = np.array([NAST, "b"], h5py.string_dtype())
        file[NASTY_FILE] = maps
        dataset = file[NASTY_FILE]
        dataset.attrs["spatial_scale"] = 0.25
        dataset.attrs[NAST] = NAST
        h5py.h5a.create(dataset.id, BYTES, h5py.h5t.NATIVE_INT32, h5py.h5s.create(h5py.h5s.SCALAR))
    with h5py.File("bytes.h5", "w") as file:
        dataset = file.create_dataset(BYTES, data=maps)
        dataset.attrs["spatial_scale"] = 0.25
    node = onnx.helper.make_node(
        "RoiAlign", ["x", NAST, "b"], [NAST], NAST, output_height=7, output_width=7,
        spatial_scale=0.25, sampling_ratio=2, **{NAST: NAST},
    )  # fmt: skip
    custom = onnx.helper.make_node("RoI" + NAST, [NAST], ["z"], NAST, domain=NAST)
    graph = onnx.helper.make_graph([node, custom], NAST, [], [])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.producer_name = NAST
    onnx.save(model, names["onnx"])
    return names


def outputs(*args: str) -> str:
    """All that a command printed, or an error's code."""
    outcome = run(*args)
    assert outcome.code in (0, 1, 2), outcome.err
    assert_safe(outcome.err)
    return outcome.out.decode()


@pytest.mark.parametrize("columns", ["40", "80", "200"])
@pytest.mark.parametrize("kind", ["h5", "npy", "csv", "onnx"])
def test_inspect(files: dict[str, str], kind: str, columns: str) -> None:
    outcome = succeed("inspect", files[kind], COLUMNS=columns)
    assert_safe(outcome.text)
    assert "\\x1b[31m" in outcome.text


@pytest.mark.parametrize("kind", ["h5", "npy", "csv", "onnx"])
def test_json_has_the_names_as_they_are(files: dict[str, str], kind: str) -> None:
    text = succeed("inspect", files[kind], "--format", "json").text
    assert_safe(text)
    found = json.loads(text)
    assert found["file"] == files[kind]
    if kind == "h5":
        assert found["attributes"][NAST] == NAST
        assert found["datasets"][0]["address"] == f"{files['h5']}::/{NASTY_FILE}"
        assert "caf\\xe9\\x1b[2J" in found["datasets"][0]["attributes"]
    if kind == "onnx":
        assert found["nodes"][0]["name"] == NAST


@pytest.mark.parametrize("table_format", ["table", "md", "json", "jsonl", "csv", "tsv"])
@pytest.mark.parametrize("command", ["align", "pool", "errors"])
def test_tables(files: dict[str, str], command: str, table_format: str) -> None:
    extra = () if command == "errors" else ("-o", f"{NASTY_FILE}.out.h5", "-v", "--force")
    text = outputs(command, files["h5"], files["npy"], "--format", table_format, *extra)
    assert_safe(text.replace("\t", " "))
    if table_format == "json":
        assert json.loads(text)["parameters"]["rois_name"] == files["npy"]


@pytest.mark.parametrize("finding_format", ["table", "json", "github"])
def test_check(files: dict[str, str], finding_format: str) -> None:
    with h5py.File(files["h5"], "r+") as file:
        file[NASTY_FILE][0, 0] = np.nan
    text = outputs("check", files["h5"], files["npy"], "--format", finding_format)
    assert "NaN" in text
    assert_safe(text, commands=finding_format == "github")
    if finding_format == "github":
        assert all(re.match(r"::(error|warning|notice) file=", line) for line in text.splitlines())


@pytest.mark.parametrize("explain_format", ["table", "md", "json"])
def test_explain(files: dict[str, str], explain_format: str) -> None:
    stored = f"{NASTY_FILE}.out.h5"
    succeed("align", files["h5"], files["npy"], "-o", stored, "-q")
    args = ("explain", files["h5"], files["npy"], "--roi", "0", "--result", stored)
    text = outputs(*args, "--format", explain_format)
    assert_safe(text)
    assert "\\x1b" in text or "\\u001b" in text
    if explain_format == "md":
        assert "<b>" not in text.replace("\\<b\\>", "")


@pytest.mark.full
def test_pictures_and_pages(files: dict[str, str]) -> None:
    args = (files["h5"], files["npy"])
    assert_safe(outputs("draw", *args, "--roi", "0"))
    for ending in ("svg", "png", "pdf"):
        outputs("draw", *args, "--roi", "0", "-o", f"{NASTY_FILE}.{ending}")
        assert Path(f"{NASTY_FILE}.{ending}").exists()
    outputs("report", *args, "-o", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert_safe(page)
    assert "\\x1b[31m" in page
    assert "<b>" not in page


@some("list_format", [("table",), ("json",)], ("table",))
def test_what_compares_and_measures(files: dict[str, str], list_format: str) -> None:
    one, other = f"{NASTY_FILE}.1.h5", f"{NASTY_FILE}.2.h5"
    succeed("align", files["h5"], files["npy"], "-o", one, "-q")
    succeed("pool", files["h5"], files["csv"], "-o", other, "-q")
    with h5py.File(one, "r+") as file:
        file.attrs[NAST] = NAST
    for args in (
        ("compare", one, other),
        ("diagnose", files["h5"], files["npy"], one, "--sample", "2"),
        ("sweep", files["h5"], files["npy"]),
        ("bench", "align", files["h5"], files["npy"], "--runs", "1"),
        ("providers",),
        ("presets",),
    ):
        assert_safe(outputs(*args, "--format", list_format))


def test_what_is_written(files: dict[str, str]) -> None:
    part = f"{NASTY_FILE}.1.h5"
    args = ("align", files["h5"], files["npy"], "--shard", "1/1", "-o", part)
    for shown in (
        outputs(*args),
        outputs("merge", part, "-o", f"{NASTY_FILE}.whole.h5"),
        outputs("export", "align", f"{NASTY_FILE}.graph.onnx"),
    ):
        assert_safe(shown)
    assert Path(f"{NASTY_FILE}.graph.onnx").exists()


@pytest.mark.parametrize(
    "args",
    [
        ("align", "{h5}::nothing", "{npy}"),
        ("align", "{h5}", "{npy}", "--graph", "{onnx}::nothing"),
        ("pool", "{h5}", "{npy}", "--graph", "{onnx}"),
        ("align", NASTY_FILE, "{npy}"),
        ("errors", "{h5}", "{h5}"),
        ("align", "{h5}", "{npy}", "--provider", NAST),
        ("align", "{h5}", "{npy}", "--dask", NAST),
        ("align", "{h5}", "{npy}", "--output-size", NAST),
        ("align", "{h5}", "{npy}", "--rows", NAST),
        ("align", "{h5}", "{npy}", "--max-memory", NAST),
        ("check", "{h5}", "{npy}", "--select", NAST),
        ("inspect", f"-{NAST}"),
        (f"-{NAST}",),
        (NAST,),
        ("merge", "{npy}", "-o", NAST),
    ],
)
def test_refusals(files: dict[str, str], args: tuple[str, ...]) -> None:
    given = [arg.format(**files) if "{" in arg else arg for arg in args]
    outcome = run(*given)
    assert outcome.code == 2, outcome.err
    assert_safe(outcome.err)
    assert_safe(outcome.text)


@pytest.mark.parametrize("header", [f"{NAST.splitlines()[0]},x1,y1,x2", f"x1,y1,{NAST[:12]}"])
def test_a_table_whose_columns_have_nasty_names(header: str) -> None:
    Path("bad.csv").write_text(f"{header}\n0,1,2,3\n", encoding="utf-8")
    outcome = run("errors", "bad.csv", *SCALE)
    assert outcome.code == 2
    assert_safe(outcome.err)


def test_a_refused_name_is_an_error_in_python_that_is_safe_to_print(files: dict[str, str]) -> None:
    import roicli

    with pytest.raises(roicli.RoicliError) as caught:
        roicli.align(f"{files['h5']}::{NAST}", files["npy"])
    assert_safe(str(caught.value))
    assert_safe(caught.value.message)


def test_shown_addresses_open_what_they_name(files: dict[str, str]) -> None:
    """What ``inspect`` returns can be given to another call."""
    import roicli

    found = roicli.inspect(files["h5"])
    assert_safe(found.datasets[0].stored.address)
    assert len(roicli.align(found.datasets[0].stored.address, files["npy"]).errors) == 3


MAPS, ROIS = os.fsdecode(b"f\xe9.h5"), os.fsdecode(b"r\xe9.npy")


@pytest.fixture
def bytes_files(files: dict[str, str]) -> None:
    """MAPS and ROIS, whose names are not UTF-8, and a dataset that is not either."""
    Path(files["npy"]).rename(ROIS)
    Path("bytes.h5").rename(MAPS)


def assert_runs_and_is_safe(*command: str, runner: Any = run) -> Outcome:
    outcome = runner(*command)
    assert outcome.code == 0, (command, outcome.err)
    assert_safe(outcome.text)
    assert_safe(outcome.err)
    return outcome


@pytest.mark.usefixtures("bytes_files")
@pytest.mark.parametrize(
    ("ending", "runner"),
    [("h5", run_process), ("npy", run), ("zarr", run)],
    ids=["h5", "npy", "zarr"],
)
def test_names_that_are_not_utf8(ending: str, runner: Any) -> None:
    """They are in the result's provenance, as escaped text; the run is not lost."""
    out = os.fsdecode(b"o\xe9.") + ending
    args = ("align", f"{MAPS}::{os.fsdecode(BYTES)}", ROIS)
    beside = ("--errors-out", os.fsdecode(b"e\xe9.json"), "--format", "json")
    done = assert_runs_and_is_safe(*args, "-o", out, *beside, runner=runner)
    parameters = json.loads(done.text)["parameters"]
    assert parameters["rois_name"] == "r\\xe9.npy"
    assert parameters["features_dataset"] == ["/caf\\xe9\\x1b[2J"]
    assert json.loads(Path(beside[1]).read_text())["parameters"] == parameters
    if ending == "h5":
        with h5py.File(out) as file:
            assert file.attrs["rois_name"] == "r\\xe9.npy"
    if ending == "zarr":
        assert "r\\\\xe9.npy" in Path(out, "zarr.json").read_text()
    for shown in (
        ("inspect", out),
        ("compare", out, out),
        ("explain", MAPS, ROIS, "--roi", "0", "--result", out),
        ("align", MAPS, ROIS, "--resume", "-o", os.fsdecode(b"again\xe9.") + ending),
    ):
        assert_runs_and_is_safe(*shown)


@pytest.mark.usefixtures("bytes_files")
def test_commands_on_names_that_are_not_utf8() -> None:
    for shown in (
        ("inspect", MAPS),
        ("check", MAPS, ROIS),
        ("draw", MAPS, ROIS, "--roi", "0", "-o", os.fsdecode(b"d\xe9.svg")),
        ("report", MAPS, ROIS, "-o", os.fsdecode(b"p\xe9.html")),
        ("align", MAPS, ROIS, "--shard", "1/1", "-o", os.fsdecode(b"part\xe9.h5")),
        ("merge", os.fsdecode(b"part\xe9.h5"), "-o", os.fsdecode(b"whole\xe9.h5")),
        ("export", "pool", os.fsdecode(b"g\xe9.onnx")),
    ):
        assert_runs_and_is_safe(*shown)


def test_node_names_that_are_not_utf8(files: dict[str, str]) -> None:
    raw = Path(files["onnx"]).read_bytes()
    Path("bytes.onnx").write_bytes(raw.replace(b"p3\x1b", b"p3\xe9"))
    outcome = succeed("inspect", "bytes.onnx")
    assert_safe(outcome.text)
    assert "p3\\xe9[31m" in outcome.text
    json.loads(succeed("inspect", "bytes.onnx", "--format", "json").text)
