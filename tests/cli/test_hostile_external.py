"""HDF5 files that lead to other files: refused by name, unless the user allows it."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import roicli
from tests.cli.running import FEATURES, ROIS, SCALE, assert_refused, refuse, run, succeed

pytestmark = pytest.mark.usefixtures("inputs")
ALLOW = "--allow-external"


@pytest.fixture
def maps(inputs: Any) -> Any:
    """The maps of f.npy, also in outside.h5::/maps and outside.bin."""
    with h5py.File("outside.h5", "w") as file:
        file["maps"] = inputs[0]
    inputs[0].tofile("outside.bin")
    return inputs[0]


def link(path: str, target: str = "outside.h5") -> str:
    with h5py.File(path, "w") as file:
        file["deep/maps"] = h5py.ExternalLink(target, "/maps")
        file["soft"] = h5py.SoftLink("/deep/maps")
    return path


def store_outside(path: str, target: str, shape: tuple[int, ...]) -> str:
    with h5py.File(path, "w") as file:
        size = int(np.prod(shape)) * 4
        file.create_dataset("maps", shape, "f4", external=[(target, 0, size)])
    return path


def virtual(path: str, sources: list[str], shape: tuple[int, ...], name: str = "maps") -> str:
    """A virtual dataset: the maps of each source, one after another."""
    layout = h5py.VirtualLayout((shape[0] * len(sources), *shape[1:]), "f4")
    for index, source in enumerate(sources):
        rows = slice(index * shape[0], (index + 1) * shape[0])
        layout[rows] = h5py.VirtualSource(source, name, shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("maps", layout, fillvalue=7)
    return path


def aligned(path: str, *options: str) -> Any:
    succeed("align", path, ROIS, *SCALE, "-o", "out.npy", "--force", "-q", *options)
    return np.load("out.npy")


@pytest.mark.parametrize("name", ["deep/maps", "soft", "/deep/maps"])
def test_an_external_link_is_refused_and_followed_when_allowed(maps: Any, name: str) -> None:
    path = f"{link('x.h5')}::{name}"
    words = ("x.h5", repr(name), "outside.h5::/maps", ALLOW, "allow_external=True")
    refuse("align", path, ROIS, *SCALE, words=words)
    refuse("pool", FEATURES, path, *SCALE, words=words)
    assert np.array_equal(aligned(path, ALLOW), aligned(FEATURES))


def test_a_link_to_a_pipe_is_not_even_opened(maps: Any) -> None:
    os.mkfifo("pipe.h5")
    path = f"{link('x.h5', 'pipe.h5')}::deep/maps"
    refuse("align", path, ROIS, *SCALE, words=("x.h5", "pipe.h5", ALLOW))


def test_a_pandas_table_that_leads_to_a_pipe_is_not_followed(maps: Any) -> None:
    os.mkfifo("pipe.h5")
    with h5py.File("x.h5", "w") as file:
        group = file.create_group("boxes")
        group.attrs["pandas_type"] = "frame_table"
        group["table"] = h5py.ExternalLink("pipe.h5", "/table")
    refuse("align", FEATURES, "x.h5", *SCALE, words=("x.h5",))
    refuse("align", "x.h5", ROIS, *SCALE, words=("x.h5",))
    refuse("inspect", "x.h5", words=("x.h5",))


@pytest.mark.parametrize("target", ["outside.bin", "../secret", "/etc/hostname"])
def test_external_storage_is_refused(maps: Any, target: str) -> None:
    path = store_outside("x.h5", target, maps.shape)
    words = ("x.h5::/maps", target, ALLOW)
    for given in (path, f"{path}::maps"):
        refuse("align", given, ROIS, *SCALE, words=words)
        refuse("check", given, ROIS, *SCALE, words=words)
    refuse("inspect", path, "--stats", words=words)
    refuse("compare", f"{path}::maps", FEATURES, words=words)


def test_external_storage_is_read_when_allowed(maps: Any) -> None:
    path = store_outside("x.h5", "outside.bin", maps.shape)
    assert np.array_equal(aligned(path, ALLOW), aligned(FEATURES))


@pytest.mark.parametrize(
    "source", ["outside.h5", "./outside.h5", "../outside.h5", "/nowhere/outside.h5", "x.h5.parts"]
)
def test_a_virtual_dataset_over_another_file_is_refused(maps: Any, source: str) -> None:
    path = virtual("x.h5", [source], maps.shape)
    words = ("x.h5::/maps", source, "outside the file", ALLOW)
    refuse("align", path, ROIS, *SCALE, words=words)
    refuse("align", f"{path}::maps", ROIS, *SCALE, words=words)
    refuse("inspect", path, "--stats", words=words)
    assert "virtual" in succeed("inspect", path).text


def test_a_virtual_dataset_is_read_when_allowed(maps: Any) -> None:
    path = virtual("x.h5", ["outside.h5"], maps.shape)
    assert np.array_equal(aligned(path, ALLOW), aligned(FEATURES))
    refuse(
        "align", virtual("y.h5", ["gone.h5"], maps.shape), ROIS, ALLOW, *SCALE,
        words=("y.h5::/maps", "gone.h5", "missing"),
    )  # fmt: skip


def test_a_virtual_dataset_within_the_file_needs_no_leave(maps: Any) -> None:
    path = virtual("x.h5", ["."], maps.shape, "part")
    with h5py.File(path, "a") as file:
        file["part"] = maps
    assert np.array_equal(aligned(f"{path}::maps"), aligned(FEATURES))
    gone = virtual("y.h5", ["."], maps.shape, "part")
    refuse("align", gone, ROIS, *SCALE, words=("y.h5::/maps", "'part'", "missing"))
    itself = virtual("z.h5", ["."], maps.shape, "maps")
    refuse("align", itself, ROIS, *SCALE, words=("z.h5::/maps", "over itself"))


def test_a_virtual_dataset_over_one_that_lies_outside(maps: Any) -> None:
    path = virtual("x.h5", ["."], maps.shape, "part")
    with h5py.File(path, "a") as file:
        size = maps.nbytes
        file.create_dataset("part", maps.shape, "f4", external=[("outside.bin", 0, size)])
    refuse("align", f"{path}::maps", ROIS, *SCALE, words=("x.h5::/part", "outside.bin", ALLOW))


def make_parts(maps: Any, folder: str = "x.h5.parts") -> list[str]:
    os.makedirs(folder, exist_ok=True)
    names = [f"{folder}/part-{index}.h5" for index in range(2)]
    for name, part in zip(names, maps, strict=True):
        with h5py.File(name, "w") as file:
            file["maps"] = part[None]
    return names


def test_a_result_in_parts_reads_without_leave(maps: Any, folder: Path) -> None:
    (folder / "sub").mkdir()
    os.chdir("sub")
    names = make_parts(maps)
    virtual("x.h5", names, (1, *maps.shape[1:]))
    os.chdir(folder)
    expected = aligned(FEATURES)
    assert np.array_equal(aligned("sub/x.h5"), expected)
    assert np.array_equal(aligned(f"{folder}/sub/x.h5::maps"), expected)
    os.remove("sub/x.h5.parts/part-1.h5")
    refuse("align", "sub/x.h5", ROIS, *SCALE, words=("sub/x.h5", "part-1.h5", "missing"))


def test_what_only_looks_like_parts_is_outside(maps: Any) -> None:
    names = make_parts(maps, "y.h5.parts")
    shape = (1, *maps.shape[1:])
    refuse("align", virtual("x.h5", names, shape), ROIS, *SCALE, words=("y.h5.parts", ALLOW))
    os.makedirs("x.h5.parts/deep")
    for source in (
        "x.h5.parts/../outside.h5",
        "x.h5.parts/deep/p.h5",
        f"{os.getcwd()}/x.h5.parts/p",
    ):
        path = virtual("x.h5", [source], maps.shape)
        refuse("align", path, ROIS, *SCALE, words=(source, ALLOW))
    os.symlink("../outside.h5", "x.h5.parts/p.h5")
    path = virtual("x.h5", ["x.h5.parts/p.h5"], maps.shape)
    refuse("align", path, ROIS, *SCALE, words=("x.h5.parts/p.h5", ALLOW))
    os.symlink("y.h5.parts", "z.h5.parts")
    path = virtual("z.h5", ["z.h5.parts/part-0.h5"], shape)
    refuse("align", path, ROIS, *SCALE, words=("z.h5.parts/part-0.h5", ALLOW))


def test_a_part_that_leads_on_is_refused(maps: Any) -> None:
    os.makedirs("x.h5.parts")
    virtual("x.h5", ["x.h5.parts/p.h5"], maps.shape)
    store_outside("x.h5.parts/p.h5", "../outside.bin", maps.shape)
    refuse("align", "x.h5", ROIS, *SCALE, words=("p.h5::/maps", "outside.bin", ALLOW))
    virtual("x.h5.parts/p.h5", ["../outside.h5"], maps.shape)
    refuse("align", "x.h5", ROIS, *SCALE, words=("p.h5", "virtual", ALLOW))
    os.remove("x.h5.parts/p.h5")
    with h5py.File("x.h5.parts/p.h5", "w") as file:
        file["maps"] = h5py.ExternalLink("../outside.h5", "/maps")
    refuse("align", "x.h5", ROIS, *SCALE, words=("p.h5", "outside.h5::/maps", ALLOW))


def test_soft_links_that_lead_in_circles(maps: Any) -> None:
    with h5py.File("x.h5", "w") as file:
        file["maps"] = maps
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("a")
        file["group/up"] = h5py.SoftLink("/group")
        file["group/hard"] = file["/"]
    for name in ("a", "b", "a/maps", "/".join(["group"] + ["up"] * 40)):
        refuse("align", f"x.h5::{name}", ROIS, *SCALE, words=("x.h5", "no dataset", "/maps"))
        refuse("align", f"x.h5::{name}", ROIS, ALLOW, *SCALE, words=("x.h5", "no dataset"))
    assert np.array_equal(aligned("x.h5::group/up/hard/group/hard/maps"), aligned(FEATURES))
    assert "x.h5::/maps" in succeed("inspect", "x.h5").text


def test_inspect_lists_nothing_of_another_file(maps: Any) -> None:
    link("x.h5")
    assert "maps" not in succeed("inspect", "x.h5").text
    refuse("inspect", "x.h5::deep/maps", words=("outside.h5", ALLOW))
    assert "(2, 3, 12, 16)" in succeed("inspect", "x.h5::deep/maps", ALLOW).text


def test_every_command_that_reads_has_the_option(maps: Any) -> None:
    path = virtual("x.h5", ["outside.h5"], maps.shape)
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "a.npy", "-q")
    result = store_outside("a.h5", "a.bin", np.load("a.npy").shape)
    np.load("a.npy").tofile("a.bin")
    for command in (
        ("check", path, ROIS, "--spatial-scale", "1/4"),
        ("errors", path, ROIS, "--spatial-scale", "1/4"),
        ("sweep", path, ROIS, "--spatial-scale", "1/4", "--sample", "2"),
        ("diagnose", path, ROIS, result, "--spatial-scale", "1/4"),
        ("explain", path, ROIS, "--roi", "0", "--spatial-scale", "1/4", "--result", result),
        ("draw", path, ROIS, "--roi", "0", "--spatial-scale", "1/4"),
        ("compare", result, "a.npy"),
    ):
        assert_refused(run(*command), ALLOW)
        assert run(*command, ALLOW).code in (0, 1)


def test_in_python(maps: Any) -> None:
    path = virtual("x.h5", ["outside.h5"], maps.shape)
    with pytest.raises(roicli.InputError, match="allow_external=True"):
        roicli.align(path, ROIS, spatial_scale=0.25)
    result = roicli.align(path, ROIS, spatial_scale=0.25, allow_external=True)
    assert result.roi_features is not None
    with pytest.raises(roicli.InputError, match="allow_external=True"):
        roicli.inspect(path, stats=True)
    roicli.inspect(path, stats=True, allow_external=True)


def test_a_virtual_dataset_from_stdin(maps: Any) -> None:
    data = Path(virtual("x.h5", ["outside.h5"], maps.shape)).read_bytes()
    refuse("align", "-", ROIS, *SCALE, stdin=data, words=("outside.h5", ALLOW))
