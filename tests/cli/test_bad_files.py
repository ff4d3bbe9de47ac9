"""Files that are refused: missing, empty, cut short, lying, not what their ending says."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.cli.running import (
    FEATURES,
    FPN,
    ROIS,
    SCALE,
    assert_refused,
    refuse,
    run_process,
    save,
    save_h5,
)

pytestmark = pytest.mark.usefixtures("inputs")
MAPS = np.zeros((2, 3, 12, 16), np.float32)


def refuse_either(path: str, *words: str) -> None:
    """The file is refused as features and as RoIs, by both operators' shared reader."""
    refuse("align", path, ROIS, *SCALE, words=words)
    refuse("pool", FEATURES, path, *SCALE, words=words)


@pytest.mark.parametrize("name", ["none.npy", "none.h5::/p3", "gone/none.npy", "none", "none::p3"])
def test_missing(name: str) -> None:
    refuse_either(name, name.partition("::")[0], "no such file")


def test_a_file_whose_name_has_what_ends_a_name() -> None:
    np.save("my::maps.npy", MAPS)
    refuse_either("my::maps.npy", "my: no such file", "rename or link")


@pytest.mark.parametrize("name", ["empty.npy", "empty.h5", "empty.hdf5"])
def test_empty_file(name: str) -> None:
    Path(name).touch()
    refuse_either(name, name, "empty")


def test_empty_csv() -> None:
    Path("r.csv").touch()
    refuse("align", FEATURES, "r.csv", *SCALE, words=("r.csv", "empty"))


@pytest.mark.parametrize("name", ["folder.npy", "folder.h5"])
def test_folder(name: str) -> None:
    Path(name).mkdir()
    refuse_either(name, name, "is a folder", "expected a file")


@pytest.mark.parametrize("name", ["f.log", "f", "f.ckpt", ".npy"])
def test_unknown_ending(name: str) -> None:
    Path(name).write_bytes(b"\0\1\2" * 100)
    refuse_either(name, name, "ending", ".npy", ".h5", "first bytes")


@pytest.mark.parametrize("name", ["f.npy", "f.h5"])
@pytest.mark.parametrize("text", ["hello, I am text\n", "0,1,2,3,4\n" * 100, "\x93NUMPX", "\x89"])
def test_text_under_a_binary_name(name: str, text: str) -> None:
    Path("bad" + name).write_text(text, encoding="latin1")
    refuse_either("bad" + name, "bad" + name)


@pytest.mark.parametrize("size", [1, 5, 6, 7, 9, 10, 40, 127, 128, 200, 4000])
def test_npy_cut_short(size: int) -> None:
    Path("cut.npy").write_bytes(Path(FEATURES).read_bytes()[:size])
    refuse("align", "cut.npy", ROIS, *SCALE, words=("cut.npy",))


@pytest.mark.parametrize("size", [1, 8, 50, 96, 500, 2000, 100_000, 500_000])
def test_hdf5_cut_short(size: int) -> None:
    Path("cut.h5").write_bytes(Path(FPN).read_bytes()[:size])
    refuse("align", "cut.h5::p3", ROIS, words=("cut.h5",))


def test_hdf5_damaged_in_its_chunks() -> None:
    with h5py.File("bad.h5", "w") as file:
        maps = file.create_dataset("maps", data=MAPS + 1, chunks=(1, 3, 12, 16), compression="gzip")
        place = maps.id.get_chunk_info(1)
    data = bytearray(Path("bad.h5").read_bytes())
    data[place.byte_offset : place.byte_offset + place.size] = b"\xff" * place.size
    Path("bad.h5").write_bytes(data)
    for command in ("align", "pool"):
        refuse(command, "bad.h5", ROIS, *SCALE, words=("bad.h5::/maps", "item 1"))
    refuse("errors", "bad.h5", ROIS, *SCALE, words=("bad.h5::/maps", "item 1"))


def write_header(path: str, shape: str, dtype: str = "<f4", fortran: str = "False") -> str:
    """An .npy header with a kilobyte behind it."""
    text = f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}"
    text += " " * (118 - len(text) - 1) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + b"\0" * 1024
    Path(path).write_bytes(data)
    return path


@pytest.mark.parametrize("fortran", ["False", "True"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
@pytest.mark.parametrize(
    "shape",
    ["(2, 3, 100, 100)", "(1000000, 256, 200, 200)", "(2147483648, 2147483648, 4, 8)"],
)
def test_npy_header_promises_more(shape: str, dtype: str, fortran: str) -> None:
    write_header("lie.npy", shape, dtype, fortran)
    refuse("align", "lie.npy", ROIS, *SCALE, words=("lie.npy",))


@pytest.mark.parametrize("shape", ["(1000, 5)", "(1000000000000, 5)", "(9223372036854775807, 5)"])
def test_npy_header_of_rois_promises_more(shape: str) -> None:
    write_header("lie.npy", shape)
    refuse("align", FEATURES, "lie.npy", *SCALE, words=("lie.npy",))
    data = Path("lie.npy").read_bytes()
    refuse("align", FEATURES, "-", *SCALE, stdin=data, words=("stdin",))


@pytest.mark.parametrize(
    "header",
    [("(-1, 5)",), ("(2, 'x')",), ("((",), ("(2, 5)", "O"), ("(2, 5)", "|V8"), ("(2, 5)", "<q9")],
    ids=str,
)
def test_npy_header_is_nonsense(header: Any) -> None:
    write_header("bad.npy", *header)
    refuse_either("bad.npy", "bad.npy")


def test_pickle_is_never_loaded() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path("exploded").touch, ()

    for name, values in {"b.npy": np.array([Bomb()], object)}.items():
        np.save(name, values, allow_pickle=True)
        refuse_either(name, name, "pickle", "expected")
        data = Path(name).read_bytes()
        refuse("align", "-", ROIS, *SCALE, stdin=data, words=("stdin", "pickle"))
    assert not Path("exploded").exists()


def test_features_that_are_no_maps() -> None:
    for shape in [(0, 3, 8, 8), (2, 0, 8, 8), (2, 3, 0, 8), (2, 3, 8, 0), (0, 8, 8)]:
        path = save("maps.npy", np.zeros(shape, np.float32))
        refuse("pool", path, ROIS, *SCALE, words=(path, "empty", str(shape)))
    for shape in [(8, 8), (8,), (), (1, 2, 3, 8, 8)]:
        path = save("maps.npy", np.zeros(shape, np.float32))
        refuse("align", path, ROIS, *SCALE, words=(path, str(shape), "(N, C, H, W)"))
    for dtype in [complex, bool, "U3", "S3", "datetime64[s]", [("a", "f4")], np.longdouble]:
        path = save("maps.npy", np.zeros((1, 1, 4, 4), dtype))
        refuse("align", path, ROIS, *SCALE, words=(path, "dtype", "expected"))
        refuse("pool", path, ROIS, *SCALE, words=(path, "dtype", "expected"))


def test_hdf5_dtypes_that_are_no_numbers() -> None:
    with h5py.File("bad.h5", "w") as file:
        file["text"] = np.full((1, 1, 4, 4), b"abc")
        file["words"] = np.full((1, 1, 4, 4), "abc", h5py.string_dtype())
        file["complex"] = np.zeros((1, 1, 4, 4), complex)
        file["bool"] = np.zeros((1, 1, 4, 4), bool)
        file["records"] = np.zeros((1, 1, 4, 4), [("a", "f4")])
        file["references"] = np.full((1, 1, 4, 4), file.ref, h5py.ref_dtype)
        names = list(file)
    for name in names:
        refuse("align", f"bad.h5::{name}", ROIS, *SCALE, words=(f"::/{name}", "dtype"))
    refuse("align", "bad.h5", ROIS, *SCALE, words=("bad.h5", "4-D", "/complex"))


def test_hdf5_addresses() -> None:
    save_h5("many.h5", a=MAPS, deep__b=MAPS, boxes=np.zeros((1, 5)), line=np.zeros(4))
    with h5py.File("many.h5", "a") as file:
        file["null"] = h5py.Empty("f4")
        file["type"] = np.dtype("f4")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file.create_group("hollow")
    words = ("many.h5", "2 datasets fit", "/a", "/deep/b")
    refuse("align", "many.h5", ROIS, *SCALE, words=words)
    for name in ("c", "deep/c", "/a/b", "dangling"):
        words = ("many.h5", repr(name), "/a", "/deep/b")
        refuse("pool", f"many.h5::{name}", ROIS, *SCALE, words=words)
    refuse("align", "many.h5::null", ROIS, *SCALE, words=("many.h5", "null", "empty"))
    refuse("align", "many.h5::type", ROIS, *SCALE, words=("many.h5", "type"))
    refuse("align", "many.h5::hollow", ROIS, *SCALE, words=("many.h5::hollow", "no dataset", "4-D"))
    refuse("align", "many.h5::boxes", ROIS, *SCALE, words=("many.h5::/boxes", "(1, 5)"))
    refuse("align", FEATURES, "many.h5::a", *SCALE, words=("many.h5::/a", "(2, 3, 12, 16)"))
    refuse("align", FEATURES, "many.h5::line", *SCALE, words=("many.h5::/line", "(4,)"))
    refuse("align", f"{FEATURES}::x", ROIS, *SCALE, words=(FEATURES, "hdf5"))
    refuse("align", "::x", ROIS, *SCALE, words=("::x", "no file"))
    refuse("align", "", ROIS, *SCALE, words=("''", "no file"))


def test_hdf5_without_a_fitting_dataset_lists_what_there_is() -> None:
    save_h5("f.h5", flat=np.zeros((4, 4)), words=np.zeros((1, 1, 2, 2), "S3"))
    refuse("align", "f.h5", ROIS, *SCALE, words=("f.h5", "4-D", "/flat (4, 4)", "/words"))
    with h5py.File("none.h5", "w"):
        pass
    refuse("align", "none.h5", ROIS, *SCALE, words=("none.h5", "found: none"))
    refuse("align", FEATURES, "none.h5", *SCALE, words=("none.h5", "5 columns", "found: none"))


def test_huge_sparse_datasets() -> None:
    with h5py.File("huge.h5", "w") as file:
        file.create_dataset("image", (1, 1024, 1 << 20, 1 << 20), "f4", chunks=(1, 1, 64, 64))
        file.create_dataset("rois", (1 << 44, 5), "f4", chunks=(1 << 10, 5))
    refuse("align", "huge.h5::image", ROIS, *SCALE, words=("huge.h5::/image", "bytes"))
    refuse("align", FEATURES, "huge.h5::rois", *SCALE, words=("huge.h5::/rois", "bytes"))


def test_bad_scale_attributes() -> None:
    rois = save("one.npy", np.zeros((1, 5), np.float32))
    for value in [0.0, -1.0, float("nan"), float("inf"), 1e-60, "1/x", [0.5, 0.4], b"x"]:
        path = save_h5("f.h5", {"spatial_scale": value}, maps=MAPS)
        refuse("align", path, rois, words=("f.h5::/maps", "spatial_scale", "expected"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what nobody may read")
def test_unreadable() -> None:
    for name in (FEATURES, ROIS):
        Path(name).chmod(0)
    refuse_either(FEATURES, FEATURES, "cannot be read")


def test_a_named_pipe_is_refused_before_it_is_opened() -> None:
    os.mkfifo("pipe.npy")
    for path in ("pipe.npy", "/dev/stdin"):
        words = (path, "regular file", "stdin") if path == "pipe.npy" else (path, "ending")
        refuse("align", path, ROIS, *SCALE, words=words)


@pytest.mark.parametrize("name", ["x" * 300 + ".npy", "f\0.npy", f"{FEATURES}/x.npy"])
def test_impossible_names(name: str) -> None:
    refuse("align", name, ROIS, *SCALE, words=("x",) if "x" in name else ("f",))


def test_a_device_and_a_closed_pipe() -> None:
    refuse("align", "/dev/null", ROIS, *SCALE, words=("/dev/null", "ending"))
    refuse("align", "-", ROIS, *SCALE, words=("stdin", "empty"))
    refuse("align", "-", ROIS, *SCALE, stdin=b"\0hello", words=("stdin", "hello"))
    data = Path(FEATURES).read_bytes()
    refuse("align", "-", ROIS, *SCALE, stdin=data[:1000], words=("stdin",))
    refuse("align", "-", ROIS, *SCALE, stdin=b"\x89HDF\r\n\x1a\nxx", words=("stdin", "HDF5"))


def test_both_from_stdin() -> None:
    refuse("align", "-", "-", words=("FEATURES", "ROIS", "'-'"))


def test_in_a_process_too() -> None:
    Path("cut.npy").write_bytes(Path(FEATURES).read_bytes()[:500])
    assert_refused(run_process("align", "cut.npy", ROIS, *SCALE), "cut.npy", "cut short")
    write_header("lie.npy", "(2147483648, 2147483648, 4, 8)")
    assert_refused(run_process("align", "lie.npy", ROIS, *SCALE), "lie.npy", "promises")
    assert sorted(os.listdir(".")) == ["cut.npy", FEATURES, "lie.npy", ROIS]
