"""Small HDF5 files of every kind that roicli meets: what the fuzzer starts from."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable

import h5py
import numpy as np

import roicli

MAPS = np.linspace(-1, 1, 2 * 2 * 4 * 5, dtype=np.float32).reshape(2, 2, 4, 5)
ROIS = np.array([[0, 0, 0, 8, 8], [1, 2, 1, 15, 12], [0, 4, 4, 19, 15]], np.float32)
# What links, external storage and virtual datasets outside the file name.
OUTSIDE = "outside.h5"


def _contiguous(file: h5py.File) -> None:
    file.create_dataset("maps", data=MAPS).attrs["spatial_scale"] = 0.25


def _gzip(file: h5py.File) -> None:
    maps = file.create_dataset(
        "maps", data=MAPS, chunks=(1, 2, 4, 5), compression="gzip", shuffle=True
    )
    maps.attrs["spatial_scale"] = 0.25
    file.create_dataset("rois", data=ROIS, chunks=(2, 5), maxshape=(None, 5), compression="gzip")


def _filters(file: h5py.File) -> None:
    file.create_dataset("a", data=MAPS, chunks=(1, 1, 4, 5), compression="lzf", fletcher32=True)
    file.create_dataset("b", data=(MAPS * 9).astype("i4"), chunks=(1, 2, 4, 5), scaleoffset=True)


def _group_tree(file: h5py.File) -> None:
    file.create_dataset("deep/er/maps", data=MAPS.astype(">f8"))
    file["soft"] = h5py.SoftLink("/deep/er/maps")
    file["deep/loop"] = h5py.SoftLink("/deep")
    file["hard"] = file["deep"]
    file["outside"] = h5py.ExternalLink(OUTSIDE, "/maps")


def _types(file: h5py.File) -> None:
    file["records"] = np.zeros(3, [("a", "f4"), ("b", "i2", (2,))])
    file["words"] = np.array(["a", "bc"], h5py.string_dtype())
    file["ragged"] = np.array([np.arange(3), np.arange(2)], h5py.vlen_dtype(np.int32))
    file["refs"] = np.array([file["records"].ref], h5py.ref_dtype)
    file["half"] = MAPS.astype(np.float16)
    file.attrs["text"] = "provenance"
    file.attrs["list"] = np.arange(5)
    file["empty"] = h5py.Empty("f4")
    file["enum"] = np.array([0, 1], h5py.enum_dtype({"A": 0, "B": 1}, "i1"))


def _virtual(file: h5py.File) -> None:
    file["part"] = MAPS
    layout = h5py.VirtualLayout((4, 2, 4, 5), "f4")
    layout[:2] = h5py.VirtualSource(".", "part", MAPS.shape)
    layout[2:] = h5py.VirtualSource(OUTSIDE, "maps", MAPS.shape)
    file.create_virtual_dataset("maps", layout, fillvalue=1)


def _external_storage(file: h5py.File) -> None:
    file.create_dataset("maps", MAPS.shape, "f4", external=[("outside.bin", 0, MAPS.nbytes)])


def _compact(file: h5py.File) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(MAPS.shape)
    name = h5py.h5d.create(file.id, b"maps", h5py.h5t.NATIVE_FLOAT, space, plist)
    name.write(h5py.h5s.ALL, h5py.h5s.ALL, MAPS)
    file["maps"].attrs["spatial_scale"] = np.float32(0.25)


def _many(file: h5py.File) -> None:
    """Names enough for more than one node of a group's B-tree."""
    for index in range(24):
        file.create_dataset(f"scalar{index}", data=float(index))
    file["maps"] = MAPS


CONTENTS: tuple[Callable[[h5py.File], None], ...] = (
    _contiguous, _gzip, _filters, _group_tree, _types, _virtual, _external_storage, _compact, _many,
)  # fmt: skip


def build_hdf5(fill: Callable[[h5py.File], None], libver: str) -> bytes:
    """The bytes of a file: "earliest" has superblock 0, "latest" 3 with checksums."""
    stream = io.BytesIO()
    # Small files: no megabyte of room is set aside for more metadata.
    with h5py.File(stream, "w", libver=(libver, "latest"), meta_block_size=1) as file:
        fill(file)
    return stream.getvalue()


def hdf5_seeds() -> dict[str, bytes]:
    """Every kind of contents in both generations of the format."""
    return {
        f"{fill.__name__.strip('_')}-{libver}": build_hdf5(fill, libver)
        for fill in CONTENTS
        for libver in ("earliest", "latest")
    }


def part_seeds() -> dict[str, bytes]:
    """Parts of a result, as ``--shard`` writes them: plain, compressed, with measured values."""
    options = {"plain": {}, "gzip": {"compression": "gzip"}, "values": {"values": True}}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, chosen in options.items():
            path = os.path.join(folder, f"{name}.h5")
            roicli.align(
                MAPS, ROIS[ROIS[:, 0] < 2], path, spatial_scale=0.25, output_size=2, shard="1/1",
                threads=1, provider="cpu", **chosen,
            )  # fmt: skip
            with open(path, "rb") as stream:
                found[name] = stream.read()
    return found
