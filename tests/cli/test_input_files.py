"""Every file that is read is an input: never an output, and watched while it is read."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.declaration import settle
from roicli.pipeline.inputs import open_inputs
from roicli.pipeline.request import Reading, RunRequest
from roicli.storage.array import RawArray
from tests.cli.running import (
    FEATURES,
    PATIENCE,
    ROIS,
    SCALE,
    assert_refused,
    refuse,
    run,
    save,
    succeed,
)

ALLOW = "--allow-external"
SOURCE = "source.h5"


@pytest.fixture
def maps(inputs: Any) -> Any:
    """The maps of f.npy, also in source.h5::/maps and as raw values in source.h5.bin."""
    with h5py.File(SOURCE, "w") as file:
        file["maps"] = inputs[0]
    return inputs[0]


def by_link(maps: Any) -> list[str]:
    with h5py.File("x.h5", "w") as file:
        file["link"] = h5py.ExternalLink(SOURCE, "/maps")
    return ["x.h5::link", SOURCE]


def by_two_links(maps: Any) -> list[str]:
    with h5py.File("middle.h5", "w") as file:
        file["on"] = h5py.ExternalLink(SOURCE, "/")
        file["soft"] = h5py.SoftLink("/on/maps")
    with h5py.File("x.h5", "w") as file:
        file["link"] = h5py.ExternalLink("middle.h5", "/soft")
    return ["x.h5::link", "middle.h5", SOURCE]


def by_storage(maps: Any) -> list[str]:
    maps.tofile("raw.h5")
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("maps", maps.shape, "f4", external=[("raw.h5", 0, maps.nbytes)])
    return ["x.h5::maps", "raw.h5"]


def make_virtual(path: str, source: str, name: str, shape: Any) -> None:
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource(source, name, shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("maps", layout)


def by_source(maps: Any) -> list[str]:
    make_virtual("x.h5", SOURCE, "maps", maps.shape)
    return ["x.h5", SOURCE]


def by_nested_sources(maps: Any) -> list[str]:
    """A virtual dataset over a link to a virtual dataset over external storage in folders."""
    os.makedirs("one/two")
    maps.tofile("raw.h5")
    with h5py.File("one/two/stored.h5", "w") as file:
        file.create_dataset("maps", maps.shape, "f4", external=[("raw.h5", 0, maps.nbytes)])
    make_virtual("one/inner.h5", "two/stored.h5", "maps", maps.shape)
    with h5py.File("one/link.h5", "w") as file:
        file["on"] = h5py.ExternalLink("inner.h5", "/maps")
    make_virtual("x.h5", "one/link.h5", "on", maps.shape)
    return ["x.h5", "one/link.h5", "one/inner.h5", "one/two/stored.h5", "raw.h5"]


def by_numbered_sources(maps: Any) -> list[str]:
    for index, image in enumerate(maps):
        with h5py.File(f"block-{index}.h5", "w") as file:
            file.create_dataset("maps", data=image[None], maxshape=(None, *image.shape))
    space = h5py.h5s.create_simple((2, *maps.shape[1:]), (h5py.h5s.UNLIMITED, *maps.shape[1:]))
    start, size = (0, 0, 0, 0), (1, *maps.shape[1:])
    space.select_hyperslab(start, (h5py.h5s.UNLIMITED, 1, 1, 1), size, size)
    source = h5py.h5s.create_simple(size)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_virtual(space, b"block-%b.h5", b"maps", source)
    with h5py.File("x.h5", "w", libver="latest") as file:
        shape = h5py.h5s.create_simple((2, *maps.shape[1:]), (h5py.h5s.UNLIMITED, *maps.shape[1:]))
        h5py.h5d.create(file.id, b"maps", h5py.h5t.IEEE_F32LE, shape, properties)
    return ["x.h5::maps", "block-0.h5", "block-1.h5"]


WAYS = [
    by_link, by_two_links, by_storage, by_source, by_nested_sources, by_numbered_sources,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_opening_returns_every_file_that_is_read(maps: Any, way: Any) -> None:
    address, *others = way(maps)
    inputs = open_inputs(
        address, ROIS, settle(Reading, {"allow_external": True, "spatial_scale": 0.25})
    )
    inputs.close()
    assert set(inputs.files) == {"x.h5", *others, ROIS}
    assert all(state.size == os.path.getsize(path) for path, state in inputs.files.items())


def every_output(target: str) -> list[tuple[str, ...]]:
    """A command for each kind of output; ``{}`` is the features."""
    given = ("{}", ROIS, *SCALE[:2], ALLOW, "--force")
    commands = [
        ("align", *given, "-o", target),
        ("pool", *given, "-o", target),
        ("align", *given, "-o", target, "--shard", "1/2"),
    ]
    return commands if target.endswith(".h5") else []


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_file_behind_the_features_is_an_output(maps: Any, way: Any) -> None:
    address, *others = way(maps)
    for other in others:
        before = Path(other).read_bytes()
        for command in every_output(other):
            words = [address if word == "{}" else word for word in command]
            refuse(*words, words=(other, "would overwrite"))
        assert Path(other).read_bytes() == before


def test_outputs_of_every_kind_are_compared_with_every_input(maps: Any) -> None:
    """A file that RoIs lead to, under the endings of tables, pages, pictures and graphs."""
    rois = np.load(ROIS)
    for ending in (".csv", ".json", ".html", ".svg"):
        other = f"raw{ending}"
        rois.tofile(other)
        with h5py.File("r.h5", "w") as file:
            file.create_dataset("rois", rois.shape, "f4", external=[(other, 0, rois.nbytes)])
        given = (FEATURES, "r.h5", *SCALE, ALLOW, "--force")
        for command in {
            ".csv": [("align", *given, "-o", "o.npy", "--errors-out", other),
                     ("errors", *given, "--errors-out", other)],
            ".json": [("errors", *given[1:], "--errors-out", other)],
            ".html": [("report", *given, "-o", other)],
            ".svg": [("draw", *given, "--roi", "0", "-o", other)],
        }[ending]:  # fmt: skip
            refuse(*command, words=(other, "would overwrite"))
        assert Path(other).read_bytes() == rois.tobytes()
    assert not os.path.exists("o.npy")


def test_parts_of_a_result_are_inputs(maps: Any) -> None:
    os.makedirs("r.h5.parts")
    for index in range(2):
        with h5py.File(f"r.h5.parts/part-{index}.h5", "w") as file:
            file["maps"] = maps[index : index + 1]
    layout = h5py.VirtualLayout(maps.shape, "f4")
    for index in range(2):
        source = h5py.VirtualSource(f"r.h5.parts/part-{index}.h5", "maps", (1, *maps.shape[1:]))
        layout[index : index + 1] = source
    with h5py.File("r.h5", "w") as file:
        file.create_virtual_dataset("maps", layout)
    for output in ("r.h5", "r.h5.parts/part-1.h5"):
        refuse("align", "r.h5", ROIS, *SCALE, "-o", output, "--force",
               words=(output, "would overwrite"))  # fmt: skip
    # The parts go where the whole is replaced.
    first = save("one.npy", np.load(ROIS)[:1])
    refuse("align", "r.h5.parts/part-0.h5", first, *SCALE, "-o", "r.h5", "--force",
           words=("would overwrite", "part-0.h5"))  # fmt: skip


def test_a_file_that_the_run_keeps_beside_its_output_is_no_input(inputs: Any) -> None:
    os.rename(FEATURES, ".o.npy.roicli-part.npy")
    refuse("align", ".o.npy.roicli-part.npy", ROIS, *SCALE, "-o", "o.npy",
           words=("would overwrite",))  # fmt: skip
    assert os.path.getsize(".o.npy.roicli-part.npy") > 0


def test_nothing_is_written_into_a_store_that_is_read(inputs: Any) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.save_array("m.zarr", inputs[0], zarr_format=3)
    given = ("m.zarr", ROIS, *SCALE, "--force")
    before = Path("m.zarr/zarr.json").read_bytes()
    refuse("errors", *given, "--errors-out", "m.zarr/zarr.json", words=("would overwrite",))
    refuse("align", *given, "-o", "m.zarr/r.npy", words=("would overwrite",))
    assert Path("m.zarr/zarr.json").read_bytes() == before


def test_the_model_of_a_graph_is_an_input(inputs: Any) -> None:
    succeed("export", "align", "m.onnx", *SCALE, "-q")
    os.link("m.onnx", "m.h5")
    refuse("align", FEATURES, ROIS, "--graph", "m.onnx", "-o", "m.h5", "--force",
           words=("m.h5", "would overwrite", "m.onnx"))  # fmt: skip


# --- changes --------------------------------------------------------------------------------------


@pytest.fixture
def changing(inputs: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whenever f.npy is read, it changes."""
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "result.npy", "-q")

    def change(read: Any) -> Any:
        def change_and_read(self: Any, *given: Any) -> Any:
            found = read(self, *given)
            if self.name == changed[0]:
                with Path(self.name).open("ab") as stream:
                    stream.write(b"more")
            return found

        return change_and_read

    changed = [FEATURES]
    monkeypatch.setattr(RawArray, "read", change(RawArray.read))
    return changed


NOTICES = {
    "align": (FEATURES, ROIS, *SCALE, "-o", "o.h5"),
    "errors": (FEATURES, ROIS, *SCALE, "--errors-out", "o.csv"),
    "report": (FEATURES, ROIS, *SCALE, "-o", "o.html"),
    "draw": (FEATURES, ROIS, *SCALE, "--roi", "0", "-o", "o.svg"),
    "explain": (FEATURES, ROIS, *SCALE, "--roi", "0"),
    "sweep": (FEATURES, ROIS, *SCALE, "--sample", "1"),
    "check": (FEATURES, ROIS, *SCALE),
    "diagnose": (FEATURES, ROIS, "result.npy", *SCALE, "--sample", "1"),
    "compare": (FEATURES, FEATURES),
}


@pytest.mark.parametrize("command", NOTICES)
def test_a_change_of_the_features_is_noticed(changing: Any, command: str) -> None:
    before = sorted(os.listdir())
    assert_refused(run(command, *NOTICES[command]), FEATURES, "was changed while it was read")
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("command", ["diagnose", "explain"])
def test_a_change_of_a_result_is_noticed(changing: Any, command: str) -> None:
    changing[0] = "result.npy"
    options = {"explain": ("--roi", "0", "--result", "result.npy"), "diagnose": ("--sample", "1")}
    result = ("result.npy",) if command == "diagnose" else ()
    outcome = run(command, FEATURES, ROIS, *result, *SCALE, *options[command])
    assert_refused(outcome, "result.npy", "was changed while it was read")


def test_a_change_behind_a_link_is_noticed(maps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from roicli.storage.formats.hdf5.array import Hdf5Array

    read = Hdf5Array.read

    def change_and_read(self: Any, *given: Any) -> None:
        read(self, *given)
        os.utime("raw.h5", ns=(1, 1))

    monkeypatch.setattr(Hdf5Array, "read", change_and_read)
    address, *_ = by_storage(maps)
    outcome = run("align", address, ROIS, *SCALE, ALLOW, "-o", "o.npy")
    assert_refused(outcome, "raw.h5", "was changed while it was read")
    assert not os.path.exists("o.npy")


def test_a_change_behind_a_link_is_another_run(maps: Any) -> None:
    """What an interrupted run kept is not gone on with."""
    from roicli.pipeline.fingerprint import fingerprint
    from roicli.pipeline.run import open_run

    address, *others = by_nested_sources(maps)
    options = {"allow_external": True, "spatial_scale": 0.25}
    opened = open_run("align", address, ROIS, settle(RunRequest, options))
    opened.close()
    found = fingerprint(opened, {}, verify_inputs=True)
    for other in others:
        assert found[f"SHA-256 of {other}"]
        assert found[f"size of {other}"] == f"{os.path.getsize(other):,} bytes"


# --- links and pipes ------------------------------------------------------------------------------


@pytest.fixture
def store(inputs: Any) -> Path:
    """m.zarr, a group with the maps in one chunk an image."""
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group("m.zarr", mode="w", zarr_format=3)
    group.create_array("maps", data=inputs[0], chunks=(1, *inputs[0].shape[1:]))
    return Path("m.zarr")


CHUNK, METADATA = "maps/c/1/0/0/0", "maps/zarr.json"


@pytest.mark.parametrize("what", [CHUNK, "maps/c/1", "maps/c", METADATA, "zarr.json", "maps"])
def test_a_link_in_a_store_is_followed_with_leave_only(store: Path, what: str) -> None:
    succeed("align", "m.zarr", ROIS, *SCALE, "-o", "expected.npy", "-q")
    outside = Path("outside")
    (store / what).rename(outside)
    (store / what).symlink_to(outside.resolve())
    given = ("m.zarr", ROIS, *SCALE)
    refuse("align", *given, "-o", "o.npy", words=("m.zarr", "symbolic link", ALLOW))
    refuse("check", *given, words=("symbolic link", ALLOW))
    succeed("align", *given, ALLOW, "-o", "o.npy", "-q")
    assert Path("o.npy").read_bytes() == Path("expected.npy").read_bytes()
    inputs = open_inputs(
        "m.zarr", ROIS, settle(Reading, {"allow_external": True, "spatial_scale": 0.25})
    )
    inputs.close()
    assert str(outside.resolve()) in inputs.files


@pytest.mark.parametrize("what", [CHUNK, METADATA, "zarr.json"])
@pytest.mark.parametrize("options", [(), (ALLOW,)])
def test_a_pipe_in_a_store_is_not_waited_for(
    store: Path, what: str, options: tuple[str, ...]
) -> None:
    (store / what).unlink()
    os.mkfifo(store / what)
    words = ("m.zarr", what.rpartition("/")[2], "not a regular file")
    refuse("align", "m.zarr", ROIS, *SCALE, *options, words=words)
    refuse("inspect", "m.zarr", "--stats", *options, words=words)


@pytest.mark.parametrize("way", [by_link, by_storage, by_source], ids=lambda way: way.__name__)
def test_a_pipe_behind_an_hdf5_file_is_not_waited_for(maps: Any, way: Any) -> None:
    address, other = way(maps)
    os.unlink(other)
    os.mkfifo(other)
    words = ("x.h5", other, "not a regular file")
    refuse("align", address, ROIS, *SCALE, ALLOW, words=words)


def test_links_that_lead_in_circles_between_files(inputs: Any) -> None:
    for one, other in (("a.h5", "b.h5"), ("b.h5", "a.h5")):
        with h5py.File(one, "w") as file:
            file["x"] = h5py.ExternalLink(other, "/x")
    refuse("align", "a.h5::x", ROIS, *SCALE, ALLOW, words=("links from file to file",))


SLOW = """
import signal, time
from roicli.cli.signals import install_signal_handlers
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
install_signal_handlers()
try:
    print("ready", flush=True)
    time.sleep(60)
finally:
    print("leaving", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_what_waits_on_its_way_out(number: signal.Signals, code: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == b"leaving\n"
    time.sleep(0.5)  # signals that come together count as one
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == code


def test_in_python(maps: Any) -> None:
    address, other = by_source(maps)
    before = Path(other).read_bytes()
    with pytest.raises(roicli.OutputError, match="would overwrite"):
        roicli.align(address, ROIS, other, spatial_scale=0.25, allow_external=True, force=True)
    assert Path(other).read_bytes() == before
    assert run("check", address, save("r2.npy", np.load(ROIS)), *SCALE, ALLOW).code == 0
