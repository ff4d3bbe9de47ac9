"""``--dask``: a cluster gives one machine's result, bit for bit, and errors are one line."""

import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import OutputError, ParameterError
from roicli.pipeline.cluster import connection, tasks
from roicli.pipeline.cluster import result as whole_result
from roicli.pipeline.cluster import run as cluster_run
from roicli.pipeline.cluster.connection import parse_local
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, FPN, ROIS, SCALE, TEXT_ROIS, refuse, run, save, succeed
from tests.cli.test_merge import read_all
from tests.faults.cluster import pausing, wait_until_idle
from tests.options import some

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
PYRAMID = (FPN, TEXT_ROIS, "--levels", "p3,p4,p5")


CALLS = [
    ("align", ("--values", "--dtype", "float16")),
    ("pool", ("--quantization", "hull", "--compression", "gzip")),
    ("align", ("--provider", "native", "--level-rule", "detectron2", "--threads", "1")),
]


@some("command, options", CALLS, CALLS[0])
def test_a_cluster_gives_one_machines_result(
    dask: tuple[str, str], command: str, options: tuple[str, ...]
) -> None:
    shown = succeed(command, *PYRAMID, *options, "-o", "one.h5", "--format", "csv")
    outcome = succeed(command, *PYRAMID, *options, "-o", "many.h5", "--format", "csv", *dask)
    assert outcome.out == shown.out
    assert read_all("many.h5") == read_all("one.h5")
    with h5py.File("many.h5") as file:
        assert all(dataset.is_virtual for dataset in file.values())
    assert sorted(os.listdir(".")) == ["many.h5", "many.h5.parts", "one.h5"]
    assert len(os.listdir("many.h5.parts")) == 8


@pytest.mark.full
def test_a_virtual_result_is_read_as_any_other(dask: tuple[str, str], inputs: Arrays) -> None:
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "one.h5", "-q")
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "many.h5", "-q", *dask)
    compared = succeed("compare", "one.h5", "many.h5", "--atol", "0", "--rtol", "0")
    assert "Equal: 0 of" in compared.text
    assert "virtual" in succeed("inspect", "many.h5").text
    succeed("merge", "many.h5", "-o", "joined.h5", "-q")
    assert read_all("joined.h5") == read_all("one.h5")


@pytest.mark.full
def test_turned_rois_on_a_cluster(dask: tuple[str, str], inputs: Arrays) -> None:
    turned = np.column_stack([inputs[1], np.arange(5) * 40 - 75]).astype(np.float32)
    turned[:, 1:5] = [30, 22, 16, 9]
    np.save("turned.npy", turned)
    call = ("rotated-align", FEATURES, "turned.npy", *SCALE, "--no-table", "--verify")
    succeed(*call, "-o", "one.h5")
    assert "verified 5 of 5 RoIs" in succeed(*call, "-o", "many.h5", *dask).err
    assert read_all("many.h5") == read_all("one.h5")
    with h5py.File("many.h5") as file:
        np.testing.assert_array_equal(file["rois"], turned)


@pytest.mark.full
def test_offsets_and_image_sizes_on_a_cluster(dask: tuple[str, str], inputs: Arrays) -> None:
    offsets = np.random.default_rng(4).normal(size=(len(inputs[1]), 2, 2, 2)).astype(np.float32)
    np.save("offsets.npy", offsets)
    call = ("deform-pool", FEATURES, ROIS, *SCALE, "--output-size", "2", "--offsets", "offsets.npy")
    succeed(*call, "-o", "one.h5", "-q")
    succeed(*call, "-o", "many.h5", "-q", *dask)
    assert read_all("many.h5") == read_all("one.h5")
    crop = ("crop-and-resize", FEATURES, ROIS, *SCALE, "--image-size", "40x52", "--force", "-q")
    succeed(*crop, "-o", "one.h5")
    succeed(*crop, "-o", "many.h5", *dask)
    assert read_all("many.h5") == read_all("one.h5")


def test_how_images_were_resized_is_known_before_there_are_blocks(dask: tuple[str, str]) -> None:
    """Of the RoIs of the second image alone nobody could know in which pixels they are."""
    sizes = np.array([[[64, 96], [32, 48]], [[48, 96], [32, 48]]])
    maps = np.random.default_rng(3).normal(size=(2, 2, 8, 12)).astype(np.float32)
    with h5py.File("m.h5", "w") as file:
        file["maps"], file["image_sizes"] = maps, sizes
    rois = [[0, 30, 20, 90, 60], [0, 2, 2, 40, 30], [1, 4, 4, 40, 28], [1, 8, 8, 30, 20]]
    save("r.npy", np.array(rois, np.float32))
    for options in (("-o", "one.h5"), ("-o", "many.h5", *dask)):
        succeed("align", "m.h5::maps", "r.npy", *SCALE, "-q", *options)
    assert read_all("many.h5") == read_all("one.h5")
    with h5py.File("one.h5") as file:
        assert file.attrs["roi_scale_dataset"] == "/image_sizes"
        np.testing.assert_allclose(file["rois"][3, 1:], [4, 8 * 32 / 48, 15, 20 * 32 / 48])


def test_npy_has_one_machines_bytes(dask: tuple[str, str], inputs: Arrays) -> None:
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "one.npy")
    outcome = succeed("align", FEATURES, ROIS, *SCALE, "-o", "many.npy", *dask)
    assert "wrote many.npy (5, 3, 7, 7) float32" in outcome.err
    assert Path("many.npy").read_bytes() == Path("one.npy").read_bytes()
    assert sorted(os.listdir(".")) == [FEATURES, "many.npy", "one.npy", ROIS]


@pytest.mark.full
def test_zarr_in(dask: tuple[str, str], inputs: Arrays) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.save_array("maps.zarr", inputs[0])
    succeed("pool", "maps.zarr", ROIS, *SCALE, "-o", "one.h5", "-q")
    succeed("pool", "maps.zarr", ROIS, *SCALE, "-o", "many.h5", "-q", *dask)
    assert read_all("many.h5") == read_all("one.h5")


@pytest.mark.full
def test_rois_in_no_order_levels_from_a_file_and_text(dask: tuple[str, str]) -> None:
    rois = np.load(TEXT_ROIS)
    order = np.random.default_rng(3).permutation(len(rois))
    save("levels.npy", np.random.default_rng(4).integers(3, 6, len(rois)))
    np.savetxt("rois.csv", rois[order], delimiter=",", fmt="%.9g")
    arguments = (FPN, "rois.csv", "--levels", "p3,p4,p5", "--level-from", "levels.npy", "--values")
    succeed("align", *arguments, "-o", "one.h5", "-q")
    succeed("align", *arguments, "-o", "many.h5", "-q", *dask)
    assert read_all("many.h5") == read_all("one.h5")


@pytest.mark.full
def test_rois_too_finely_strewn_for_a_virtual_result(
    dask: tuple[str, str], inputs: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_result, "MOST_RUNS", 4)
    arguments = ("align", FEATURES, ROIS, *SCALE, "--compression", "lzf", "-q")
    succeed(*arguments, "-o", "one.h5")
    succeed(*arguments, "-o", "many.h5", *dask)
    assert read_all("many.h5") == read_all("one.h5")
    with h5py.File("many.h5") as file:
        assert file["roi_features"].compression == "lzf"
    assert sorted(os.listdir(".")) == [FEATURES, "many.h5", "one.h5", ROIS]


@pytest.mark.full
def test_a_graphs_node_on_a_cluster(dask: tuple[str, str], inputs: Arrays) -> None:
    succeed("export", "align", "model.onnx", "--spatial-scale", "1/4", "--sampling-ratio", "3")
    arguments = (FEATURES, ROIS, "--graph", "model.onnx", "-q")
    succeed("align", *arguments, "-o", "one.h5")
    succeed("align", *arguments, "-o", "many.h5", *dask)
    assert read_all("many.h5") == read_all("one.h5")


def test_no_rois(dask: tuple[str, str], inputs: Arrays) -> None:
    save("none.npy", np.empty((0, 5), np.float32))
    succeed("align", FEATURES, "none.npy", *SCALE, "-o", "one.h5", "-q")
    succeed("align", FEATURES, "none.npy", *SCALE, "-o", "many.h5", "-q", *dask)
    assert read_all("many.h5") == read_all("one.h5")


@pytest.mark.full
def test_every_block_is_verified(dask: tuple[str, str]) -> None:
    outcome = succeed("align", *PYRAMID, "-o", "o.h5", "--verify", "--no-table", *dask)
    assert "verified 102 of 102 RoIs" in outcome.err
    outcome = succeed("align", *PYRAMID, "-o", "p.h5", "--verify", "--shard", "2/2", "--no-table")
    assert "of 51 RoIs" in outcome.err


def test_errors_of_a_cluster(dask: tuple[str, str]) -> None:
    options = ("--format", "json", "--errors-out", "e.csv", "--force")
    one = succeed("errors", *PYRAMID, *options, SOURCE_DATE_EPOCH="0")
    table = Path("e.csv").read_bytes()
    many = succeed("errors", *PYRAMID, *options, *dask, SOURCE_DATE_EPOCH="0")
    assert many.out == one.out
    assert Path("e.csv").read_bytes() == table
    assert os.listdir(".") == ["e.csv"]


@some("dtype", [(np.float32,), (np.float64,), (np.int16,)], (np.int16,))
def test_findings_of_a_cluster(dask: tuple[str, str], inputs: Arrays, dtype: Any) -> None:
    features, rois = inputs
    bad = np.concatenate([features * 100] * 4).astype(dtype)
    bad[1] = 3
    bad[:, 2] = 0
    if dtype != np.int16:
        bad[5, 0, 0, 0] = np.nan
    rois[0, 3] = -5
    arguments = (save("bad.npy", bad), save("rois.npy", rois), *SCALE, "--format", "json")
    one, many = run("check", *arguments), run("check", *arguments, *dask)
    assert many.out == one.out
    assert many.code == one.code
    assert b"hold the same values" in one.out


def test_findings_of_a_pyramid(dask: tuple[str, str]) -> None:
    one = run("check", *PYRAMID, "--format", "json")
    many = run("check", *PYRAMID, "--format", "json", *dask)
    assert (many.code, many.out) == (one.code, one.out)


@pytest.mark.full
def test_processes_of_this_machine(inputs: Arrays) -> None:
    """They work without a warning, and nobody hears of a dashboard."""
    succeed("pool", FEATURES, ROIS, *SCALE, "-o", "one.h5", "-q")
    command = ["pool", FEATURES, ROIS, *SCALE, "-o", "many.h5", "--dask", "local:2", "--no-table"]
    done = subprocess.run([sys.executable, "-W", "error", "-m", "roicli", *command],
                          capture_output=True, check=False, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_all("many.h5") == read_all("one.h5")
    for word in ("Warning", "dashboard"):
        assert word not in done.stderr


@pytest.mark.full
def test_force_replaces_a_virtual_result_and_its_parts(
    dask: tuple[str, str], inputs: Arrays
) -> None:
    arguments = ("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", *dask)
    succeed(*arguments, "--sampling-ratio", "3")
    refuse(*arguments, words=("o.h5", "exists already", "--force"))
    succeed(*arguments, "--force")
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "one.h5", "-q")
    assert read_all("o.h5") == read_all("one.h5")
    os.unlink("o.h5")
    refuse(*arguments, words=("o.h5.parts", "exists already"))
    assert sorted(os.listdir(".")) == [FEATURES, "o.h5.parts", "one.h5", ROIS]


@pytest.mark.full
@some("taken, output", product(("result", "table"), ("o.h5", "o.npy", "o.zarr")),
      ("result", "o.h5"), ("result", "o.zarr"), ("table", "o.npy"))  # fmt: skip
def test_of_a_run_that_is_refused_nothing_appears(
    dask: tuple[str, str], inputs: Arrays, output: str, taken: str
) -> None:
    """The one or the other name is taken while the run goes on."""
    if output == "o.zarr":
        pytest.importorskip("zarr", reason="the extra roicli[zarr] is not installed")
    name = {"result": output, "table": "e.csv"}[taken]

    def take(done: int, total: int, size: int) -> None:
        Path(name).write_text("another program's")

    options: Any = {"spatial_scale": 0.25, "errors_out": "e.csv", "dask": dask[1]}
    with pytest.raises(OutputError, match=f"{name}: another run wrote it meanwhile"):
        roicli.align(FEATURES, ROIS, output, **options, progress=take)
    assert sorted(os.listdir(".")) == sorted([FEATURES, name, ROIS])
    assert Path(name).read_text() == "another program's"


def keep_parts(dask: tuple[str, str], monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """A resumable run that is interrupted with some of its parts there."""
    monkeypatch.setattr(whole_result, "BLOCKS_A_THREAD", 3)
    monkeypatch.setattr(tasks, "POLL_S", 0.001)

    def stop(done: int, total: int, size: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        roicli.align(
            FPN, TEXT_ROIS, "o.h5", levels="p3,p4", values=True, dask=dask[1], progress=stop,
            resume=True, **options,
        )  # fmt: skip
    wait_until_idle(dask[1])
    assert "o.h5" not in os.listdir(".")


RESUMED = ("align", FPN, TEXT_ROIS, "--levels", "p3,p4", "--values", "-o", "o.h5")


@pytest.mark.full
def test_parts_are_kept_verified_and_gone_on_with(
    dask: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_parts(dask, monkeypatch)
    kept = sorted(name for name in os.listdir(".o.h5.parts") if name[0] == "0")
    assert kept
    damaged = Path(".o.h5.parts", kept[0])
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(data)
    refuse(*RESUMED, *dask, words=("an interrupted run has kept", "--resume", "--force"))
    words = ("the interrupted run differs", "sampling_ratio was 2, is 3")
    refuse(*RESUMED, "--resume", "--sampling-ratio", "3", *dask, words=words)
    outcome = succeed(*RESUMED, "--resume", *dask, "--no-table")
    if len(kept) > 1:
        assert f"{len(kept) - 1} of 6 parts were there and whole" in outcome.err
    succeed(*RESUMED[:-1], "one.h5", "-q")
    assert read_all("o.h5") == read_all("one.h5")
    assert sorted(os.listdir(".")) == ["o.h5", "o.h5.parts", "one.h5"]


@pytest.mark.full
def test_kept_parts_are_thrown_away_with_force(
    dask: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_parts(dask, monkeypatch)
    outcome = succeed(*RESUMED, "--force", *dask, "--no-table")
    assert "were there" not in outcome.err
    assert sorted(os.listdir(".")) == ["o.h5", "o.h5.parts"]


def test_an_input_that_changed_is_not_gone_on_with(
    dask: tuple[str, str], inputs: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int, size: int) -> None:
        if done:
            raise KeyboardInterrupt

    options: Any = {"spatial_scale": 0.25, "dask": dask[1], "resume": True}
    with pytest.raises(KeyboardInterrupt):
        roicli.align(FEATURES, ROIS, "o.h5", progress=stop, **options)
    wait_until_idle(dask[1])
    save(FEATURES, inputs[0] + 1)
    arguments = ("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--resume", *dask)
    refuse(*arguments, words=("the interrupted run differs", FEATURES))


def test_a_part_that_is_missing_is_named(dask: tuple[str, str], inputs: Arrays) -> None:
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", "-q", *dask)
    names = sorted(os.listdir("o.h5.parts"))
    os.unlink(f"o.h5.parts/{names[1]}")
    refuse("merge", "o.h5", "-o", "x.h5", words=(names[1], "no such file"))
    refuse("compare", "o.h5", "o.h5", words=(names[1], "is missing"))


@pytest.fixture
def taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features go while the run's tasks are made."""
    make_tasks = cluster_run.make_tasks

    def take_away(*arguments: Any) -> Any:
        shutil.move(FEATURES, "away.npy")
        return make_tasks(*arguments)

    monkeypatch.setattr(cluster_run, "make_tasks", take_away)


def test_storage_that_stays_away(
    dask: tuple[str, str], inputs: Arrays, monkeypatch: pytest.MonkeyPatch, taken_away: None
) -> None:
    monkeypatch.setattr(tasks, "ATTEMPTS", 2)
    with pausing(dask[1], 0.01):
        outcome = run("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", *dask)
    assert outcome.code == 2
    assert outcome.errors[-1].startswith("roicli: error: ")
    assert "f.npy: no such file" in outcome.errors[-1]
    assert sorted(os.listdir(".")) == ["away.npy", ROIS]


@pytest.mark.full
def test_storage_that_comes_back(dask: tuple[str, str], inputs: Arrays, taken_away: None) -> None:
    """Every task fails of it at least once."""
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "one.h5", "-q")
    ticks = []

    def bring_back(done: int, total: int, size: int) -> None:
        ticks.append(done)
        if len(ticks) == 10:
            os.rename("away.npy", FEATURES)

    with pausing(dask[1], 1.0):
        roicli.align(
            FEATURES, ROIS, "many.h5", spatial_scale=0.25, dask=dask[1], progress=bring_back
        )
    assert ticks[9] == 0
    assert read_all("many.h5") == read_all("one.h5")
    assert sorted(os.listdir(".")) == sorted([FEATURES, "many.h5", "many.h5.parts", "one.h5", ROIS])


def test_other_versions_are_an_error_that_names_the_worker(
    dask: tuple[str, str], inputs: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = connection.Cluster._ask

    def older(self: connection.Cluster, function: Any, *given: Any) -> dict[str, Any]:
        found = ask(self, function, *given)
        return {worker: {**versions, "numpy": "0.1", "roicli": "9"} for worker, versions in
                found.items()}  # fmt: skip

    monkeypatch.setattr(connection.Cluster, "_ask", older)
    words = ("tcp://127.0.0.1:", "numpy 0.1 (here ", "roicli 9 (here ")
    refuse("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", *dask, words=words, code=3)


def test_providers_that_workers_lack(dask: tuple[str, str], inputs: Arrays) -> None:
    words = ("tcp://127.0.0.1:", "provider cuda")
    arguments = ("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--provider", "cuda")
    refuse(*arguments, *dask, words=words, code=3)


def test_where_no_scheduler_answers(inputs: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.3)
    arguments = ("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--dask")
    words = ("tcp://127.0.0.1:1", "no Dask scheduler answers", "dask scheduler")
    refuse(*arguments, "tcp://127.0.0.1:1", words=words, code=3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "-"), ("writes to shared storage",)),
        (("-o", "o.h5", "--shard", "1/2"), ("--shard and --dask",)),
        (("-o", "o.csv"), ("unknown ending",)),
        (("-o", "o.h5", "--verify-inputs"), ("--verify-inputs",)),
        (("-o", "no/o.h5"), ("does not exist",)),
    ],
)
def test_what_does_not_go_with_a_cluster(inputs: Arrays, arguments: Any, words: Any) -> None:
    address = ("--dask", "tcp://127.0.0.1:1")
    refuse("align", FEATURES, ROIS, *SCALE, *arguments, *address, words=words)


@pytest.mark.parametrize("address", ["local:0", "local:x", "", "host", "foo://x", "tcp://", "a b"])
def test_what_is_no_address(inputs: Arrays, address: str) -> None:
    refuse("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--dask", address, words=("dask is",))


def test_inputs_that_workers_cannot_read(inputs: Arrays) -> None:
    features, rois = inputs
    options: Any = {"spatial_scale": 0.25, "dask": "tcp://127.0.0.1:1"}
    for given in ((features, ROIS), (FEATURES, rois), ("-", ROIS), (FEATURES, "-")):
        with pytest.raises(ParameterError, match="--dask"):
            roicli.align(*given, "o.h5", **options)
    for given in (features, "-"):
        with pytest.raises(ParameterError, match="--dask"):
            roicli.check(given, ROIS, **options)
    with pytest.raises(ParameterError, match="no features"):
        roicli.errors(None, ROIS, **options)
    with pytest.raises(ParameterError, match="writes to shared storage"):
        roicli.align(FEATURES, ROIS, **options)


def test_local_counts() -> None:
    assert parse_local("local:3") == (3, False)
    assert parse_local("local") == (connection.usable_cores(), False)
    assert parse_local("tcp://host:8786") is None
