"""``--dask`` with a Zarr output: workers write chunks, in a folder or at a URL, and share none."""

import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import roicli
from roicli.pipeline.cluster import result as whole_result
from roicli.pipeline.cluster import tasks
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, FPN, ROIS, SCALE, TEXT_ROIS, refuse, run, save, succeed
from tests.faults.cluster import wait_until_idle
from tests.options import some
from tests.zarr_stores import fsspec, zarr

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
PYRAMID = (FPN, TEXT_ROIS, "--levels", "p3,p4,p5")
RESUMED = ("align", FPN, TEXT_ROIS, "--levels", "p3,p4", "--values")


@pytest.fixture(autouse=True)
def local_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """``local://`` is a URL that all of them see, where folders come into being as in a bucket."""
    monkeypatch.setitem(fsspec.config.conf, "local", {"auto_mkdir": True})


@pytest.fixture(params=["folder", "url"])
def target(request: pytest.FixtureRequest) -> str:
    """Where the store goes, which is ``many.zarr`` here."""
    return "many.zarr" if request.param == "folder" else f"local://{os.getcwd()}/many.zarr"


def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one chunk for a block of the sample's RoIs."""
    from roicli.storage.formats.zarr import write as draft

    monkeypatch.setattr(draft, "CHUNK_BYTES", 1 << 13)


def files_of(path: str) -> dict[str, bytes]:
    """Every file of a store, without the group's metadata, which says when it was made."""
    found = [p for p in Path(path).rglob("*") if p.is_file() and p != Path(path, "zarr.json")]
    return {str(p.relative_to(path)): p.read_bytes() for p in found}


def attributes_of(path: str) -> dict[str, Any]:
    found = dict(zarr.open_group(path, mode="r").attrs)
    del found["created_utc"]
    return found


CALLS = [
    "align --values --dtype float16",
    "pool --quantization hull --compression zstd",
    "align --provider native --level-rule detectron2 --threads 1",
]


@some("call, target", product(CALLS, ("folder", "url")),
      (CALLS[1], "url"), indirect=["target"])  # fmt: skip
def test_a_store_is_one_machines_byte_for_byte(
    dask: tuple[str, str], target: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, *options = call.split()
    small_chunks(monkeypatch)
    shown = succeed(command, *PYRAMID, *options, "-o", "one.zarr", "--format", "csv")
    outcome = succeed(command, *PYRAMID, *options, "-o", target, "--format", "csv", *dask)
    assert outcome.out == shown.out
    one = files_of("one.zarr")
    assert files_of("many.zarr") == one
    assert len([name for name in one if name.startswith("roi_features/c.")]) > 8
    assert attributes_of("many.zarr") == attributes_of("one.zarr")
    assert sorted(os.listdir(".")) == ["many.zarr", "one.zarr"]


@pytest.mark.full
@some("target", [("folder",), ("url",)], ("url",), indirect=True)
def test_rois_in_no_order_are_said(
    dask: tuple[str, str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks(monkeypatch)
    rng = np.random.default_rng(3)
    save("maps.npy", rng.normal(size=(20, 64, 6, 6)).astype(np.float32))
    images = rng.permutation(np.arange(160) % 20)
    rois = np.column_stack([images, np.tile([0, 1, 20, 18], (160, 1))])
    save("rois.npy", rois.astype(np.float32))
    arguments = ("pool", "maps.npy", "rois.npy", *SCALE, "-q")
    succeed(*arguments, "-o", "one.zarr")
    outcome = succeed(*arguments[:-1], "--no-table", "-o", target, *dask)
    assert "the RoIs are not in the images' order: 8 blocks read 1" in outcome.err
    assert ", 20 in order" in outcome.err
    assert files_of("many.zarr") == files_of("one.zarr")
    save("rois.npy", rois[np.argsort(rois[:, 0])].astype(np.float32))
    outcome = succeed(*arguments[:-1], "--no-table", "-o", target, "--force", *dask)
    assert "in order" not in outcome.err


@some("target", [("folder",), ("url",)], ("folder",), indirect=True)
def test_no_rois(dask: tuple[str, str], inputs: Arrays, target: str) -> None:
    save("none.npy", np.empty((0, 5), np.float32))
    succeed("align", FEATURES, "none.npy", *SCALE, "-o", "one.zarr", "-q")
    succeed("align", FEATURES, "none.npy", *SCALE, "-o", target, "-q", *dask)
    assert files_of("many.zarr") == files_of("one.zarr")


@pytest.mark.full
@some("target", [("folder",), ("url",)], ("folder",), indirect=True)
def test_every_block_is_verified(
    dask: tuple[str, str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks(monkeypatch)
    outcome = succeed("align", *PYRAMID, "-o", target, "--verify", "--no-table", *dask)
    assert "verified 102 of 102 RoIs" in outcome.err


def interrupt(
    dask: tuple[str, str], monkeypatch: pytest.MonkeyPatch, target: str, resume: bool
) -> None:
    """A run that is interrupted when some of its parts are there."""
    small_chunks(monkeypatch)
    monkeypatch.setattr(whole_result, "BLOCKS_A_THREAD", 3)
    monkeypatch.setattr(tasks, "POLL_S", 0.001)

    def stop(done: int, total: int, size: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        roicli.align(
            FPN, TEXT_ROIS, target, levels="p3,p4", values=True, dask=dask[1], progress=stop,
            resume=resume,
        )  # fmt: skip


def growing(target: str) -> Path:
    return Path(".many.zarr.parts" if target == "many.zarr" else "many.zarr")


def records(target: str) -> list[Path]:
    return sorted(growing(target).glob(".roicli/[0-9]*"))


@some("target", [("folder",), ("url",)], ("folder",), indirect=True)
def test_an_interruption_leaves_nothing(
    dask: tuple[str, str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(dask, monkeypatch, target, resume=False)
    wait_until_idle(dask[1])  # a task that ran meanwhile clears up when it notices
    assert os.listdir(".") == []


@pytest.mark.full
@some("target", [("folder",), ("url",)], ("url",), indirect=True)
def test_parts_are_kept_verified_and_gone_on_with(
    dask: tuple[str, str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(dask, monkeypatch, target, resume=True)
    wait_until_idle(dask[1])
    kept = records(target)
    assert kept
    with np.load(kept[0]) as record:
        chunk = growing(target) / str(record["chunks"][0])
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 0xFF
    chunk.write_bytes(data)
    if len(kept) > 2:
        kept[1].write_bytes(b"no record")
    arguments = (*RESUMED, "-o", target)
    refuse(*arguments, *dask, words=("an interrupted run has kept", "--resume", "--force"))
    for option, words in (
        (("--sampling-ratio", "3"), "sampling_ratio was 2, is 3"),
        (("--compression", "gzip"), "compression was none, is gzip"),
    ):
        refuse(*arguments, "--resume", *option, *dask, words=("the interrupted run differs", words))
    outcome = succeed(*arguments, "--resume", *dask, "--no-table")
    whole = len(kept) - (2 if len(kept) > 2 else 1)
    if whole:
        assert f"{whole} of 6 parts were there and whole" in outcome.err
    succeed(*RESUMED, "-o", "one.zarr", "-q")
    assert files_of("many.zarr") == files_of("one.zarr")
    assert sorted(os.listdir(".")) == ["many.zarr", "one.zarr"]


@pytest.mark.full
@some("target", [("folder",), ("url",)], ("url",), indirect=True)
def test_kept_parts_are_thrown_away_with_force(
    dask: tuple[str, str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(dask, monkeypatch, target, resume=True)
    outcome = succeed(*RESUMED, "-o", target, "--force", *dask, "--no-table")
    assert "were there" not in outcome.err
    wait_until_idle(dask[1])
    assert sorted(os.listdir(".")) == ["many.zarr"]
    assert not Path("many.zarr", ".roicli").exists()


def test_a_place_that_another_run_uses_at_a_url(
    dask: tuple[str, str], inputs: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"local://{os.getcwd()}/many.zarr"
    os.makedirs("many.zarr/roi_features")
    Path("many.zarr/roi_features/c.0.0.0.0").write_text("x")
    arguments = ("align", FEATURES, ROIS, *SCALE, "-o", url, "-q")
    words = ("another run is writing it, or was killed", "--force")
    refuse(*arguments, words=words)
    refuse(*arguments, *dask, words=words)
    succeed(*arguments, *dask, "--force")
    succeed(*arguments[:-2], "one.zarr", "-q")
    assert files_of("many.zarr") == files_of("one.zarr")
    refuse(*arguments, *dask, words=("exists already", "--force"))


def test_a_url_that_only_the_client_sees(dask: tuple[str, str], inputs: Arrays) -> None:
    url = "memory://only-here/x.zarr"
    outcome = run("align", FEATURES, ROIS, *SCALE, "-o", url, *dask)
    assert (outcome.code, outcome.out) == (2, b"")
    assert f"{url}: tcp://127.0.0.1:" in outcome.errors[-1]
    assert "give -o a place that every worker sees alike" in outcome.errors[-1]
