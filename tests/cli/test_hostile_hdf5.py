"""HDF5 files that are damaged, huge, locked or compressed with what is not there."""

import importlib.util
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fuzz.mutation import find_checksums, renew_checksums
from roicli.storage.formats.hdf5 import filters as hdf5_filters
from tests.cli.running import (
    FEATURES,
    ROIS,
    SCALE,
    assert_refused,
    refuse,
    run_process,
    save,
    succeed,
)
from tests.options import some

pytestmark = [pytest.mark.contained, pytest.mark.usefixtures("inputs")]
MAPS = np.ones((2, 3, 12, 16), np.float32)


@pytest.mark.parametrize(
    "values",
    [
        np.array([b"a", b"b"]),
        np.array(["a", "b"], h5py.string_dtype()),
    ],
    ids=["bytes", "vlen text"],
)
def test_text_is_no_map(values: Any) -> None:
    with h5py.File("x.h5", "w") as file:
        file["maps"] = values
    refuse("align", "x.h5::maps", ROIS, *SCALE, words=("x.h5::/maps", "dtype", "expected"))


@pytest.mark.full
def test_types_that_lead_elsewhere_are_not_followed() -> None:
    with h5py.File("x.h5", "w") as file:
        file["maps"] = MAPS
        file["ragged"] = np.array([np.arange(3), np.arange(2)], h5py.vlen_dtype(np.int32))
        file["refs"] = np.array([file["maps"].ref] * 3, h5py.ref_dtype)
        file["regions"] = np.array([file["maps"].regionref[0]], h5py.regionref_dtype)
        file["maps"].attrs["spatial_scale"] = file["maps"].ref
    for name in ("ragged", "refs", "regions"):
        refuse("align", f"x.h5::{name}", ROIS, *SCALE, words=(f"x.h5::/{name}", "dtype"))
        refuse("pool", FEATURES, f"x.h5::{name}", *SCALE, words=(f"x.h5::/{name}", "dtype"))
    refuse("align", "x.h5", ROIS, words=("x.h5::/maps", "spatial_scale", "expected"))
    assert "object" in succeed("inspect", "x.h5", "--stats").text


def plant_filter(path: str, code: int) -> str:
    """A chunked dataset whose filter, shuffle, is given another number."""
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("maps", data=MAPS, chunks=MAPS.shape, shuffle=True, fletcher32=True)
    data = bytearray(Path(path).read_bytes())
    places = find_checksums(bytes(data))
    # A filter pipeline message of version 2: number of filters, then each: id, flags, values.
    start = data.index(bytes([2, 2, 2, 0, 1, 0, 1, 0])) + 2
    assert code < 256, "a longer number brings a name along"
    data[start : start + 2] = code.to_bytes(2, "little")
    renew_checksums(data, places)
    Path(path).write_bytes(data)
    return path


def test_a_filter_that_nobody_knows_is_named() -> None:
    path = plant_filter("x.h5", 77)
    words = ("x.h5::/maps", "HDF5 filter 77", "not built in", "install its plugin")
    refuse("align", path, ROIS, *SCALE, words=words)
    refuse("inspect", path, "--stats", words=words)
    assert "chunks (2, 3, 12, 16), filter 77, fletcher32" in succeed("inspect", path).text


def save_with_plugin(path: str, name: str) -> str:
    """Write with hdf5plugin in a process of its own: here it is not to be loaded yet."""
    script = (
        "import h5py, hdf5plugin, numpy, sys\n"
        "with h5py.File(sys.argv[1], 'w') as file:\n"
        "    file.create_dataset('maps', data=numpy.load('f.npy'), chunks=(1, 3, 12, 16),\n"
        "                        **getattr(hdf5plugin, sys.argv[2])())\n"
    )
    subprocess.run([sys.executable, "-c", script, path, name], check=True)
    return path


needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("hdf5plugin") is None, reason="hdf5plugin is not installed"
)


@needs_plugin
@some(
    "filter_name, code",
    [("Zstd", 32015), ("Blosc", 32001), ("LZ4", 32004), ("BZip2", 307)],
    ("Blosc", 32001),
)
def test_a_filter_of_hdf5plugin(filter_name: str, code: int) -> None:
    path = save_with_plugin("x.h5", filter_name)
    without = (
        "import sys; sys.modules['hdf5plugin'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'hdf5plugin' else find(name, *rest)\n"
        "from roicli.cli.app import main; main()"
    )
    arguments = ["align", path, ROIS, *SCALE, "-o", "out.npy"]
    done = subprocess.run(
        [sys.executable, "-c", without, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    for word in ("x.h5::/maps", filter_name.lower(), str(code), "pip install hdf5plugin"):
        assert word in done.stderr
    assert not os.path.exists("out.npy")
    succeed("align", path, ROIS, *SCALE, "-o", "out.npy", "-q")
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "expected.npy", "-q")
    assert np.array_equal(np.load("out.npy"), np.load("expected.npy"))


def test_the_filters_that_are_listed_are_hdf5plugins() -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    known = set(hdf5plugin.FILTERS.values()) if hasattr(hdf5plugin, "FILTERS") else set()
    if not known:
        pytest.skip("this hdf5plugin does not list its filters")
    assert set(hdf5_filters.PLUGIN_NAMES) <= known


def test_values_past_the_end_of_the_file() -> None:
    with h5py.File("x.h5", "w") as file:
        file["maps"] = MAPS
        place = file["maps"].id.get_offset()
    data = bytearray(Path("x.h5").read_bytes())
    at = data.index(place.to_bytes(8, "little") + MAPS.nbytes.to_bytes(8, "little"))
    data[at : at + 8] = (len(data) - 64).to_bytes(8, "little")
    Path("x.h5").write_bytes(data)
    refuse("align", "x.h5", ROIS, *SCALE, words=("x.h5", "damaged", "size"))


def test_a_chunk_larger_than_memory() -> None:
    with h5py.File("x.h5", "w", libver="latest") as file:
        file.create_dataset(
            "maps", (4096, 64, 1024, 1024), "f4", chunks=(4096, 64, 1024, 1024), compression="gzip"
        )
    assert Path("x.h5").stat().st_size < 10_000
    refuse("align", "x.h5", ROIS, *SCALE, words=("x.h5::/maps", "one chunk", "bytes", "are free"))


@pytest.mark.full
def test_a_chunk_counts_against_the_memory_limit() -> None:
    side = 1 << 13
    with h5py.File("x.h5", "w") as file:
        maps = file.create_dataset(
            "maps", (1, 8, side, side), "u1", chunks=(1, 8, side, side), compression="gzip"
        )
        squeezed = zlib.compressobj(1)
        data = b"".join(squeezed.compress(bytes(1 << 24)) for _ in range(32)) + squeezed.flush()
        maps.id.write_direct_chunk((0, 0, 0, 0), data)
    assert Path("x.h5").stat().st_size < 4 << 20
    rois = save("one.npy", np.array([[0, 0, 0, 40, 40]], np.float32))
    words = ("--max-memory is 1,536 MiB", "need")
    refuse("align", "x.h5", rois, *SCALE, "--max-memory", "1536M", words=words)


def test_logical_terabytes() -> None:
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("maps", (1, 1 << 10, 1 << 18, 1 << 18), "f4", chunks=(1, 1, 64, 64))
        file.create_dataset("rois", (10**12, 5), "f4", chunks=(1024, 5), compression="gzip")
    refuse("align", "x.h5::maps", ROIS, *SCALE, words=("x.h5::/maps", "bytes", "are free"))
    words = ("x.h5::/rois", "1,000,000,000,000 RoIs", "are free")
    refuse("align", FEATURES, "x.h5::rois", *SCALE, words=words)
    refuse("check", FEATURES, "x.h5::rois", *SCALE, words=words)
    refuse("errors", "x.h5::rois", *SCALE, words=words)


@pytest.mark.full
def test_names_that_are_no_text() -> None:
    with h5py.File("x.h5", "w") as file:
        group = file.create_group(b"g\xff")
        group["maps"] = MAPS
        group["maps"].attrs["spatial_scale"] = 0.25
        group["maps"].attrs["note"] = np.bytes_(b"a\xfdb")
    for options in ([], ["--stats"], ["--format", "json"]):
        outcome = run_process("inspect", "x.h5", *options)
        assert (outcome.code, outcome.err) == (0, "")
    for output in ("out.h5", "out.npy"):
        succeed("align", "x.h5", ROIS, "-o", output, "--no-table")
    assert run_process("report", "x.h5", ROIS, "-o", "out.html", "-q").code == 0


def test_a_huge_attribute() -> None:
    with h5py.File("x.h5", "w", libver="latest") as file:
        file["maps"] = MAPS
        file["maps"].attrs["long"] = np.zeros(1 << 19)
        file["maps"].attrs["spatial_scale"] = 0.25
        file.attrs["long"] = np.zeros(1 << 19)
    succeed("align", "x.h5", ROIS, "-o", "out.npy", "-q")
    assert "longer than 1,048,576 bytes" in succeed("inspect", "x.h5", "--format", "json").text


# --- locks ----------------------------------------------------------------------------------------

HOLD = """
import h5py, sys
file = h5py.File(sys.argv[1], "r+", libver=sys.argv[2])
file["maps"][0, 0, 0, 0] = 1
file.flush()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=[pytest.param("earliest", marks=pytest.mark.full), "latest"])
def writer(request: Any) -> Any:
    """Another process that has x.h5 open for writing."""
    with h5py.File("x.h5", "w", libver=request.param) as file:
        file["maps"] = MAPS
        file["maps"].attrs["spatial_scale"] = 0.25
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, "x.h5", request.param],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    yield request.param
    process.communicate("")
    assert process.returncode == 0


def test_a_file_that_a_writer_has_open(writer: str) -> None:
    words = ("x.h5", "open for writing", "wait", "HDF5_USE_FILE_LOCKING=FALSE")
    assert_refused(run_process("align", "x.h5", ROIS), *words)
    assert_refused(run_process("inspect", "x.h5"), *words)


@pytest.mark.full
def test_a_file_that_a_writer_has_open_without_locks(writer: str) -> None:
    outcome = run_process(
        "align", "x.h5", ROIS, "-o", "out.npy", "-q", HDF5_USE_FILE_LOCKING="FALSE"
    )
    if writer == "earliest":  # the older format has no mark of an open writer
        assert outcome.code == 0
    else:
        assert_refused(outcome, "x.h5", "writer", "h5clear -s x.h5")


def test_a_file_system_without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(
            "Unable to synchronously open file (unable to lock file, errno = 37, error message = "
            "'No locks available')"
        )

    with h5py.File("x.h5", "w") as file:
        file["maps"] = MAPS
    monkeypatch.setattr(h5py, "File", fail)
    words = ("x.h5", "no locks", "HDF5_USE_FILE_LOCKING=FALSE")
    refuse("align", "x.h5", ROIS, *SCALE, words=words)
