"""Options and outputs that are refused before anything is computed."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.running import FEATURES, FPN, ROIS, SCALE, TEXT_ROIS, refuse, save, succeed

pytestmark = pytest.mark.usefixtures("inputs")
RUN = ("align", FEATURES, ROIS, *SCALE)

SIZES = [
    "0",
    "7x",
    "x7",
    "7x7x7",
    "1000000",
    "-1",
    "7x0",
    "0x7",
    "seven",
    "",
    "7.5",
    "1x1025",
]
SCALES = ["0", "-1", "-1/16", "nan", "inf", "1/0", "0/16", "1/", "/16", "sixteen", "", "1/2/4"]
SCALES += ["1e-60", "1e60", "1,", "1/4,1/8", "1/inf", "1/1e-310"]
OPTIONS: list[tuple[str, ...]] = [
    ("--sampling-ratio=-1", "sampling ratio", "-1", "0"),
    ("--sampling-ratio=257", "sampling ratio", "257"),
    ("--threads=0", "threads", "0", "at least 1"),
    ("--threads=-4", "threads", "-4"),
    ("--rows=-1", "rows", "'-1'", "all"),
    ("--rows=many", "rows", "'many'", "all"),
    ("--rows=1.5", "rows", "'1.5'"),
    ("--rows=", "rows", "''"),
    ("--preset=keras", "'keras'", "roicli presets"),
    ("--sort=nonsense", "'nonsense'", "roicli columns"),
    ("--sort=value_cosine", "'value_cosine'", "--values"),
    ("--columns=roi,nonsense", "'nonsense'", "roicli columns"),
    ("--columns=roi,,iou", "'roi,,iou'", "commas"),
    ("--columns=share_stage1", "'share_stage1'", "--values"),
    ("--fail-over=iou", "'iou'", "COLUMN=VALUE"),
    ("--fail-over=iou=", "'iou='", "COLUMN=VALUE"),
    ("--fail-over=iou=half", "'iou=half'", "COLUMN=VALUE"),
    ("--fail-over=iou=nan", "'iou=nan'", "COLUMN=VALUE"),
    ("--fail-over==1", "column", "''"),
    ("--fail-over=nonsense=1", "'nonsense'"),
    ("--fail-under=p50:iou=1", "'p50'", "median"),
    ("--fail-under=:iou=1", "':iou=1'"),
    ("--fail-under=size_class=1", "size_class"),
    ("--fail-under=value_cosine=1", "--values"),
    ("--levels=p2,p3", "hdf5"),
    ("--normalized", "--image-size"),
    ("--image-size=12", "--normalized"),
    ("--errors-out=errors.xlsx", "errors.xlsx", "ending", ".csv"),
    ("--errors-out=none/errors.csv", "none/errors.csv", "folder none does not exist"),
    (f"--errors-out={ROIS}", ROIS, "ending"),
    ("--graph=none.onnx", "none.onnx", "no such file"),
    ("--output=out.txt", "out.txt", "ending", ".npy"),
    ("--output=out", "out", "ending"),
    ("--output=none/out.h5", "none/out.h5", "folder none does not exist"),
    ("--output=.", "."),
]


@pytest.mark.parametrize("size", SIZES)
def test_output_size(size: str) -> None:
    for command in ("align", "pool"):
        arguments = (command, FEATURES, ROIS, *SCALE, f"--output-size={size}")
        refuse(*arguments, words=("output size", size[:7]))


@pytest.mark.parametrize("scale", SCALES)
def test_spatial_scale(scale: str) -> None:
    refuse("pool", FEATURES, ROIS, f"--spatial-scale={scale}", words=("spatial scale",))
    refuse("errors", ROIS, f"--spatial-scale={scale}", words=("spatial scale",))


@pytest.mark.parametrize("option", OPTIONS, ids=[option[0] for option in OPTIONS])
def test_option(option: tuple[str, ...]) -> None:
    refuse(*RUN, option[0], words=option[1:])


USAGE: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((*RUN, "--mode", "mean"), ("mode is 'mean'", "one of: avg, max")),
    ((*RUN, "--format", "xml"), ("format is 'xml'", "one of: table")),
    ((*RUN, "--provider", "nativ"), ("provider is 'nativ'", "did you mean native?")),
    ((*RUN, "--sampling-ratio", "two"), ("sampling ratio is 'two'", "a whole number")),
    ((*RUN, "--sampling-ratio", "1_0"), ("sampling ratio is '1_0'", "a whole number")),
    ((*RUN, "--canonical-size", "big"), ("canonical size is 'big'", "a number")),
    ((*RUN, "--no-such-option"), ("roicli align has no option --no-such-option", "see roicli")),
    ((*RUN, "--spatial-scal", "1"), ("no option --spatial-scal", "did you mean --spatial-scale")),
    ((*RUN, "--rows"), ("'--rows' requires an argument", "see roicli align --help")),
    (("pool", FEATURES, ROIS, "--mode", "max"), ("roicli pool has no option --mode",)),
    (("export", "pool", "g.onnx", "--gamma", "3"), ("--gamma is no option of pool",)),
    (("explain", FEATURES, ROIS, *SCALE, "--roi", "0", "--border", "zero"), ("--border", "align")),
    (("align", FEATURES), ("argument ROIS is missing", "roicli align --help")),
    (("report", FEATURES, ROIS), ("option --output is missing", "roicli report --help")),
    (("align", FEATURES, ROIS, "3.npy"), ("extra argument (3.npy)", "roicli align --help")),
    (("fold", FEATURES, ROIS), ("no command 'fold'", "roicli --help")),
    (("alin", FEATURES, ROIS), ("no command 'alin'", "did you mean align")),
    (("--colour",), ("roicli has no option --colour",)),
    (("draw", FEATURES, ROIS, "--roi", "0-3"), ("roi is '0-3'", "one at a time, like 0")),
    (("draw", FEATURES, ROIS, "--roi", "1,2"), ("roi is '1,2'", "like 1")),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=str)
def test_usage(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    outcome = refuse(*arguments, words=words)
    assert "Input should" not in outcome.err


def test_mmcv_has_no_partition() -> None:
    rule = ("--quantization", "mmcv", "--partition", "disjoint")
    refuse("pool", FEATURES, ROIS, *SCALE, *rule, words=("mmcv", "disjoint", "overlap"))


def test_errors_takes_one_or_two_inputs() -> None:
    refuse("errors", FEATURES, ROIS, "x.npy", *SCALE, words=("3 inputs", "FEATURES ROIS"))
    words = ("map size",)
    refuse("errors", FEATURES, ROIS, *SCALE, "--map-size", "9x9", words=words)
    refuse("errors", ROIS, *SCALE, "--map-size", "0x9", words=words)
    refuse("errors", ROIS, "--spatial-scale", "1/4,1/8", words=("2 spatial scales",))


def spell_input() -> list[str]:
    """The same file under other names."""
    Path("folder").mkdir()
    os.symlink(Path(FEATURES).resolve(), "symbolic.npy")
    os.symlink("symbolic.npy", "twice.npy")
    os.symlink(".", "here")
    os.link(FEATURES, "hard.npy")
    spelled = ["symbolic.npy", "twice.npy", "hard.npy", f"./{FEATURES}", f"folder/../{FEATURES}"]
    return [*spelled, FEATURES, f"here/{FEATURES}", str(Path(FEATURES).resolve())]


def test_output_over_an_input_by_any_spelling() -> None:
    for name in spell_input():
        for force in ((), ("--force",)):
            refuse(*RUN, "-o", name, *force, words=(name, "would overwrite", FEATURES))
            refuse("pool", name, ROIS, *SCALE, "-o", FEATURES, *force, words=(FEATURES, name))
    refuse(*RUN, "-o", ROIS, "--force", words=(ROIS, "would overwrite"))


def test_output_over_a_pyramid_or_its_level_numbers() -> None:
    Path("fpn.h5").write_bytes(Path(FPN).read_bytes())
    os.link("fpn.h5", "same.h5")
    save("levels.npy", np.full(102, 3))
    rois = (TEXT_ROIS, "--level-from", "levels.npy")
    pyramid = ("fpn.h5", *rois, "--levels", "p3,p4")
    for name in ("fpn.h5", "same.h5"):
        refuse("align", *pyramid, "-o", name, "--force", words=(name, "would overwrite"))
        arguments = ("pool", "fpn.h5::p3,fpn.h5::p4", *rois, "-o", name, "--force")
        refuse(*arguments, words=(name, "would overwrite"))
    refuse(
        "align", *pyramid, "-o", "levels.npy", "--force", words=("levels.npy", "would overwrite")
    )


def test_errors_out_over_an_input_or_the_output() -> None:
    lines = "\n".join(",".join(map(str, row)) for row in np.load(ROIS).tolist())
    Path("r.csv").write_text(lines)
    arguments = ("align", FEATURES, "r.csv", *SCALE)
    refuse(*arguments, "--errors-out", "./r.csv", "--force", words=("r.csv", "would overwrite"))
    refuse("errors", "r.csv", *SCALE, "--errors-out", "r.csv", words=("r.csv", "would overwrite"))
    Path("e.csv").touch()
    os.link("e.csv", "o.h5")
    both = ("-o", "o.h5", "--errors-out", "e.csv", "--force")
    refuse(*RUN, *both, words=("e.csv", "o.h5"))


@pytest.mark.parametrize("name", ["out.h5", "out.npy", "f.align.h5"])
def test_existing_output(name: str) -> None:
    Path(name).write_text("mine")
    option = () if name == "f.align.h5" else ("-o", name)
    refuse(*RUN, *option, words=(name, "exists", "--force"))
    succeed(*RUN, *option, "--force")
    assert Path(name).stat().st_size > 100


def test_existing_errors_out() -> None:
    Path("e.csv").write_text("mine")
    refuse(*RUN, "--errors-out", "e.csv", words=("e.csv", "exists", "--force"))
    refuse("errors", ROIS, *SCALE, "--errors-out", "e.csv", words=("e.csv", "exists"))
    succeed("errors", ROIS, *SCALE, "--errors-out", "e.csv", "--force")
    assert Path("e.csv").read_text().startswith("roi,")


def test_output_on_what_is_no_file() -> None:
    Path("out.h5").mkdir()
    os.mkfifo("pipe.npy")
    os.symlink("nowhere.h5", "dangling.h5")
    refuse(*RUN, "-o", "out.h5", "--force", words=("out.h5", "is a folder"))
    refuse(*RUN, "-o", "pipe.npy", "--force", words=("pipe.npy", "not a regular file"))
    refuse(*RUN, "-o", "dangling.h5", words=("dangling.h5", "exists"))
    refuse(*RUN, "-o", f"{FEATURES}/out.h5", words=("out.h5", "does not exist"))
    refuse(*RUN, "-o", "", words=("expected",))


def test_the_default_output_is_checked_too() -> None:
    save("f.align.npy", np.load(FEATURES))
    Path("f.align.align.h5").touch()
    words = ("f.align.align.h5", "exists")
    refuse("align", "f.align.npy", ROIS, *SCALE, words=words)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where nobody may write")
def test_read_only_folder() -> None:
    Path("locked").mkdir(mode=0o500)
    refuse(*RUN, "-o", "locked/out.h5", words=("locked", "cannot be written"))


def test_adaptive_grid_that_explodes() -> None:
    rois = save("big.npy", np.array([[0, 0, 0, 9, 9], [0, 0, 0, 60_000, 60_000]], np.float32))
    adaptive = ("align", FEATURES, rois, *SCALE, "--sampling-ratio", "0")
    words: tuple[Any, ...] = ("big.npy", "row 1", "MiB", "--sampling-ratio 2")
    refuse(*adaptive, words=words)
    refuse(*adaptive, "--mode", "max", words=words)
    refuse("errors", FEATURES, rois, *SCALE, "--sampling-ratio", "0", words=words)
    succeed("align", FEATURES, rois, *SCALE)


def test_a_refusal_is_one_line_even_where_there_was_a_note() -> None:
    refuse("align", FEATURES, "none.npy", words=("none.npy",))
    rois = np.load(ROIS)
    rois[0, 3] = np.nan
    save("bad.npy", rois)
    refuse("align", FEATURES, "bad.npy", words=("bad.npy", "row 0"))
    refuse("align", FEATURES, ROIS, "-o", FEATURES, words=(FEATURES, "would overwrite"))
    refuse("errors", "bad.npy", words=("bad.npy", "row 0"))
