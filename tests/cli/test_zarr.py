"""Commands on Zarr stores: the same results and errors as on .npy and .h5."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.cli.running import (
    FEATURES,
    FPN,
    PATIENCE,
    ROIS,
    SCALE,
    TEXT_ROIS,
    assert_refused,
    refuse,
    run,
    run_process,
    start,
    succeed,
)
from tests.options import some

zarr = pytest.importorskip("zarr", reason="the extra roicli[zarr] is not installed")
fsspec = pytest.importorskip("fsspec", reason="the extra roicli[zarr] is not installed")

pytestmark = pytest.mark.usefixtures("inputs")
EXACT = ("--atol", "0", "--rtol", "0")


def copy_of_samples(path: str) -> str:
    """The sample maps, RoIs and level numbers as a Zarr store, attributes too."""
    with h5py.File(FPN) as file:
        group = zarr.open_group(path, mode="w")
        for name in ("p3", "p4", "p5"):
            values = file[name][()]
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=(1, *values.shape[1:]),
                attributes={"spatial_scale": float(file[name].attrs["spatial_scale"])},
            )
            array[...] = values
    rois = np.load(TEXT_ROIS)
    group.create_array("rois", data=rois)
    group.create_array("levels", data=np.resize([3, 4, 5], len(rois)))
    return path


def test_maps_rois_and_level_numbers_from_a_store_give_the_same_bits() -> None:
    copy_of_samples("x.zarr")
    np.save("levels.npy", np.resize([3, 4, 5], len(np.load(TEXT_ROIS))))
    inside = ("x.zarr", "x.zarr::rois", "--levels", "p3,p4,p5", "--level-from", "x.zarr::levels")
    outside = (FPN, TEXT_ROIS, "--levels", "p3,p4,p5", "--level-from", "levels.npy")
    for command in ("align", "pool"):
        found = succeed(command, *inside, "-o", "-").out
        assert found == succeed(command, *outside, "-o", "-").out
    assert found[:6] == b"\x93NUMPY"


@some("operator, features", product(("align", "pool"), (f"{FPN}::p3", FPN)),
      ("align", FPN), ("pool", f"{FPN}::p3"))  # fmt: skip
def test_results_are_those_of_npy_and_h5_bit_for_bit(operator: str, features: str) -> None:
    levels = () if "::" in features else ("--levels", "p3,p4,p5")
    common = (operator, features, TEXT_ROIS, *levels, "-q")
    for output in ("o.npy", "o.h5", "o.zarr", "memory://cli/o.zarr"):
        succeed(*common, "-o", output, "--force")
    group = zarr.open_group("o.zarr", mode="r")
    expected = np.load("o.npy")
    assert group["roi_features"][:].tobytes() == expected.tobytes()
    with h5py.File("o.h5") as file:
        assert file["roi_features"][()].tobytes() == expected.tobytes()
        np.testing.assert_array_equal(group["rois"][:], file["rois"][()])
        for name, value in file.attrs.items():
            if name != "created_utc":
                assert group.attrs[name] == (value.tolist() if hasattr(value, "tolist") else value)
    for one in ("o.h5", "o.npy"):
        for other in ("o.zarr", "memory://cli/o.zarr"):
            assert json.loads(succeed("compare", one, other, *EXACT, "--format", "json").out)[
                "equal"
            ]
    assert sorted(os.listdir()) == sorted([FEATURES, ROIS, "o.h5", "o.npy", "o.zarr"])


def test_a_difference_in_a_store_is_found() -> None:
    succeed("align", f"{FPN}::p3", TEXT_ROIS, "-q", "-o", "a.zarr")
    shutil.copytree("a.zarr", "b.zarr")
    group = zarr.open_group("b.zarr")
    group["roi_features"][7, 3, 2, 1] += 1
    outcome = run("compare", "a.zarr", "b.zarr", "--format", "json")
    assert outcome.code == 1
    assert [roi["roi"] for roi in json.loads(outcome.out)["worst_rois"]] == [7]


def test_a_file_url_is_a_path() -> None:
    here = Path.cwd()
    succeed("align", f"file://{here}/{FEATURES}", f"file://{here}/{ROIS}", *SCALE, "-q",
            "-o", f"file://{here}/o.zarr")  # fmt: skip
    succeed("align", FEATURES, ROIS, *SCALE, "-q", "-o", "o.npy")
    succeed("compare", "o.npy", f"file://{here}/o.zarr", *EXACT)
    refuse(
        "align", FEATURES, ROIS, *SCALE, "-o", f"file://{here}/o.zarr", words=("exists already",)
    )


def test_a_trailing_slash_is_the_same_store() -> None:
    succeed("align", FEATURES, ROIS, *SCALE, "-q", "-o", "o.zarr/")
    succeed("compare", "o.zarr/", "o.zarr", *EXACT)
    refuse("align", FEATURES, "o.zarr/::rois", *SCALE, "-o", "o.zarr", "--force",
           words=("would overwrite",))  # fmt: skip


def test_a_result_is_an_input_again_by_roles() -> None:
    succeed("align", FEATURES, ROIS, *SCALE, "-q", "-o", "o.zarr")
    assert succeed("align", FEATURES, "o.zarr", *SCALE, "-q", "-o", "-").out == (
        succeed("align", FEATURES, ROIS, *SCALE, "-q", "-o", "-").out
    )


def test_the_default_name_of_a_result_is_a_file_here() -> None:
    copy_of_samples("x.zarr")
    store = fsspec.get_mapper("memory://cli-default/maps.zarr")
    for key, value in fsspec.get_mapper(f"{Path.cwd()}/x.zarr").items():
        store[key] = value
    outcome = succeed("align", "memory://cli-default/maps.zarr::p3", "x.zarr::rois", "--no-table")
    assert "wrote maps.align.h5" in outcome.err
    with h5py.File("maps.align.h5") as file:
        assert file.attrs["features_name"] == "memory://cli-default/maps.zarr"
        assert file.attrs["features_dataset"] == "/p3"
        assert file.attrs["rois_name"] == "x.zarr"


def test_inspect_shows_what_a_store_holds() -> None:
    copy_of_samples("x.zarr")
    text = succeed("inspect", "x.zarr", "--stats").text
    assert "x.zarr: zarr, 5 datasets" in text
    assert "chunks (1, 24, " in text
    assert "or make them a pyramid with --levels" in " ".join(text.split())
    succeed("pool", FEATURES, ROIS, *SCALE, "-q", "-o", "o.zarr", "--compression", "gzip")
    report = json.loads(succeed("inspect", "o.zarr", "--format", "json").out)
    datasets = {d["address"]: d for d in report["datasets"]}
    assert datasets["o.zarr::/roi_features"]["compression"] == "gzip 4, crc32c"
    assert datasets["o.zarr::/roi_features"]["stored_bytes"] == sum(
        path.stat().st_size for path in Path("o.zarr/roi_features").glob("c.*")
    )
    assert report["attributes"]["operator"] == "pool"
    assert report["rois"]["address"] == "o.zarr::/rois"


def test_check_diagnose_errors_and_explain_take_stores() -> None:
    copy_of_samples("x.zarr")
    common = ("x.zarr::p3", "x.zarr::rois")
    succeed("pool", *common, "-q", "-o", "o.zarr", "--quantization", "floor")
    assert "quantization floor" in succeed("diagnose", *common, "o.zarr").text
    found = json.loads(succeed("check", *common, "--format", "json").out)
    expected = json.loads(succeed("check", f"{FPN}::p3", TEXT_ROIS, "--format", "json").out)
    assert [f["rule"] for f in found["findings"]] == [f["rule"] for f in expected["findings"]]
    assert succeed("errors", *common, "--format", "csv").out == (
        succeed("errors", f"{FPN}::p3", TEXT_ROIS, "--format", "csv").out
    )
    succeed("align", *common, "-q", "-o", "a.zarr")
    succeed("explain", *common, "--roi", "37", "--result", "a.zarr")


def test_check_names_the_store_whose_only_array_is_of_a_wrong_shape() -> None:
    zarr.open_group("x.zarr", mode="w").create_array("flat", data=np.zeros((4, 4), np.float32))
    outcome = run("check", "x.zarr", ROIS, *SCALE, "--format", "json")
    assert outcome.code == 1
    assert "x.zarr::/flat" in outcome.text
    assert "R01" in outcome.text


def test_with_force_a_store_replaces_a_store() -> None:
    succeed("align", FEATURES, ROIS, *SCALE, "-q", "-o", "o.zarr")
    refuse("pool", FEATURES, ROIS, *SCALE, "-o", "o.zarr", words=("o.zarr: exists already",))
    succeed("pool", FEATURES, ROIS, *SCALE, "-q", "-o", "o.zarr", "--force")
    assert zarr.open_group("o.zarr", mode="r").attrs["operator"] == "pool"
    assert sorted(os.listdir()) == [FEATURES, "o.zarr", ROIS]


def test_a_folder_that_is_no_store_is_never_removed() -> None:
    Path("thesis.zarr").mkdir()
    Path("thesis.zarr/chapter1.tex").write_text("x")
    refuse("align", FEATURES, ROIS, *SCALE, "-o", "thesis.zarr", "--force",
           words=("exists and is no Zarr store",))  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gone.zarr", ROIS), ("gone.zarr: no such folder",)),
        (("memory://gone.zarr", ROIS), ("memory://gone.zarr: is no Zarr store",)),
        (("nowhere://x.zarr", ROIS), ("nowhere://x.zarr", "Protocol not known")),
        (("memory://x.npy", ROIS), ("a URL is read as a Zarr store",)),
        ((FEATURES, "gone.zarr::rois"), ("gone.zarr: no such folder",)),
        ((FEATURES, ROIS, "-o", "memory://x.h5"), ("unknown ending '.h5'", ".zarr")),
        ((FEATURES, ROIS, "-o", "gone/x.zarr"), ("the folder gone does not exist",)),
        ((FEATURES, ROIS, "-o", "x.zarr", "--compression", "lzf"), ("lzf is HDF5's",)),
        ((FEATURES, ROIS, "-o", "x.h5", "--compression", "zstd"), ("zstd is for .zarr",)),
        ((FEATURES, ROIS, "-o", "memory://x.zarr", "--resume"), ("--resume", "URL")),
    ],
)  # fmt: skip
def test_refused(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    refuse("align", *arguments, *SCALE, words=words)


def test_a_lost_chunk_ends_the_run_and_leaves_nothing() -> None:
    copy_of_samples("x.zarr")
    os.remove("x.zarr/p3/c/1/0/0/0")
    for output in ("o.h5", "o.zarr"):
        refuse("align", "x.zarr::p3", "x.zarr::rois", "-q", "-o", output,
               words=("x.zarr::/p3", "chunk p3/c/1/0/0/0 is not in the store"))  # fmt: skip


def test_a_missing_driver_is_named_by_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    outcome = run("align", "s3://bucket/x.zarr::p3", ROIS)
    assert_refused(outcome, "s3://bucket/x.zarr: Install s3fs", code=3)


def test_without_the_extra_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    outcome = run("align", FEATURES, ROIS, *SCALE, "-o", "x.zarr")
    assert_refused(outcome, "pip install 'roicli[zarr]'", code=3)


@pytest.mark.full
def test_a_run_without_a_store_imports_no_zarr() -> None:
    code = (
        "import sys, roicli; roicli.align('f.npy', 'r.npy', 'o.h5', spatial_scale=0.25); "
        "roicli.inspect('o.h5'); roicli.compare('o.h5', 'o.h5'); "
        "print([name for name in ('zarr', 'fsspec') if name in sys.modules])"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- interruptions -----------------------------------------------------------------------------


def large_inputs() -> Any:
    """A run of some seconds."""
    random = np.random.default_rng(0)
    np.save("big.npy", random.normal(size=(4, 64, 60, 60)).astype(np.float32))
    rois = np.sort(random.uniform(0, 59, size=(6000, 2, 2)), axis=1).reshape(-1, 4)
    np.save("many.npy", np.column_stack([np.repeat(np.arange(4), 1500), rois]).astype(np.float32))
    return ("align", "big.npy", "many.npy", "--spatial-scale", "1", "--sampling-ratio", "8")


def has_a_chunk() -> bool:
    """Whether the run has stored something."""
    return bool(list(Path().glob(".*/roi_features/c.*")))


def has_kept_rows() -> bool:
    """Whether the run's journal has a segment."""
    journal = Path(".o.zarr.roicli-part.journal")
    return journal.exists() and journal.read_bytes().count(b"\n") > 1


def interrupt(number: int, ready: Callable[[], bool], *arguments: str) -> int:
    """Signal the run when it is ``ready``; gives its exit code."""
    process = start(*arguments)
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate()
    return process.returncode


@pytest.mark.full
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_behind(number: int, code: int) -> None:
    arguments = large_inputs()
    before = sorted(os.listdir())
    assert interrupt(number, has_a_chunk, *arguments, "-q", "-o", "o.zarr") == code
    assert sorted(os.listdir()) == before


@pytest.mark.full
def test_what_a_killed_run_left_is_cleared_by_the_next() -> None:
    arguments = large_inputs()
    before = sorted(os.listdir())
    interrupt(signal.SIGKILL, has_a_chunk, *arguments, "-q", "-o", "o.zarr")
    assert not Path("o.zarr").exists()
    assert run_process(*arguments, "-q", "-o", "o.zarr").code == 0
    assert sorted(os.listdir()) == sorted([*before, "o.zarr"])


@pytest.mark.full
def test_a_killed_run_is_resumed_to_the_same_bits() -> None:
    arguments = large_inputs()
    interrupt(signal.SIGKILL, has_kept_rows, *arguments, "-q", "-o", "o.zarr", "--resume")
    outcome = run_process(*arguments, "-o", "o.zarr", "--resume", "--no-table")
    assert outcome.code == 0
    assert "going on from" in outcome.err
    assert run_process(*arguments, "-q", "-o", "o.npy").code == 0
    assert zarr.open_group("o.zarr", mode="r")["roi_features"][:].tobytes() == (
        np.load("o.npy").tobytes()
    )
    assert not list(Path().glob(".*"))
