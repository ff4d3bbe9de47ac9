"""NPY files and RoI arrays that are almost right: headers and numbers from the edges."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import h5py
import numpy as np

from fuzz.hdf5_seeds import MAPS, ROIS
from fuzz.mutation import mutate

DTYPES = ("<f4", ">f4", "<f8", "<f2", "|i1", "|u1", "<i4", ">i8", "<u8", "|V2")
ODD_DTYPES = (
    "|O", "|V8", "<c16", "|S3", "<U2", "<M8[ns]", "|b1", "<f16", "|S0", "<V1", "|V0", "<f3", "",
    "f", "[('a','<f4')]", "O8", "<q9", "\\u2028", "<f4,<f4", "M", "4", "object", "<f4\\d",
)  # fmt: skip
SIDES = (0, 1, 2, 3, 4, 5, 7, 64, 1000, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, -1)
NUMBERS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 3.25, 7.0, 19.0, 100.0, 1e4, -1e4, 1e9, 1e15, 2.0**31, 2.0**63, 1e38,
    -1e38, 3.5e38, 1e300, -1e308, 5e-324, 1e-40, float("nan"), float("inf"), -float("inf"), 65504.0,
)  # fmt: skip
HEADERS = ("batch_index x1 y1 x2 y2", "x1 y1 x2 y2", "y2 x2 y1 x1 image score", "x y w h")
CELLS = (
    "", " ", "x1", "batch_index", "nan", "inf", "-", "1e400", "0x10", "1_0", "1,5", '"', '"1"',
    "\n", "\r", "1e", "\uff19", "\u2028", "#", "=1+1", "1" * 400, "batch_index,x1,y1,x2,y2",
    "x,y,w,h", "\t",
)  # fmt: skip


def save_npy(values: Any) -> bytes:
    """The bytes of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()


def npy_seeds() -> dict[str, bytes]:
    """Maps and RoIs in the layouts that exist."""
    seeds = {f"maps-{dtype.strip('<>|')}": save_npy(MAPS.astype(dtype)) for dtype in DTYPES[:-1]}
    seeds["big"] = save_npy(MAPS.astype(">f4"))
    seeds["fortran"] = save_npy(np.asfortranarray(MAPS))
    seeds["one-image"] = save_npy(MAPS[0])
    seeds["bfloat16"] = save_npy(MAPS.astype("<f2").view("V2"))
    seeds["rois"] = save_npy(ROIS)
    seeds["four"] = save_npy(ROIS[:, 1:])
    seeds["levels"] = save_npy(np.arange(3))
    seeds["empty"] = save_npy(ROIS[:0])
    seeds["scalar"] = save_npy(np.float32(1))
    return seeds


def _write_header(text: str, version: int, rng: random.Random) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    size = 2 if version == 1 else 4
    length = len(data) if rng.random() < 0.8 else rng.choice((0, 1, 2**16 - 1, 2**31, 2**32 - 1))
    length %= 1 << 8 * size
    return b"\x93NUMPY" + bytes([version, 0]) + length.to_bytes(size, "little") + data


def generate_npy(seeds: list[bytes], rng: random.Random) -> bytes:
    """A seed mutated, or a header written anew over some bytes."""
    if rng.random() < 0.5:
        return mutate(rng.choice(seeds), seeds, rng)
    dtype = rng.choice(DTYPES + ODD_DTYPES)
    shape = [rng.choice(SIDES) for _ in range(rng.choice((0, 1, 2, 2, 3, 4, 4, 5, 33, 70)))]
    if rng.random() < 0.4:
        shape = list(rng.choice(((2, 2, 4, 5), (3, 5), (3, 4), (2, 4, 5), (3,))))
    sides = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    order = rng.choice(("False", "False", "True", "0", "None", "'x'"))
    quote = "" if dtype.startswith("[") else "'"
    text = f"{{'descr': {quote}{dtype}{quote}, 'fortran_order': {order}, 'shape': ({sides}), }}"
    kind = rng.random()
    if kind < 0.2:
        text = mutate(text.encode(), [b"L", b"((((", b"\\d", b"# "], rng).decode("latin1")
    elif kind < 0.25:
        text = rng.choice(("(" * 9000, "[" * 3000, "-" * 5000 + "1", "{" * 200, "1" * 9000, "'\\"))
    version = rng.choice((1, 1, 1, 2, 3, 4, 0))
    return _write_header(text + " \n", version, rng) + bytes(rng.choice((0, 60, 320, 640, 5000)))


# --- archives and tensors by name -----------------------------------------------------------------


def archive_seeds() -> dict[str, bytes]:
    """Maps and RoIs in an .npz, stored and compressed, and in a .safetensors file."""
    arrays = {"maps": MAPS, "rois": ROIS}
    seeds = {}
    for name, save in (("stored", np.savez), ("deflated", np.savez_compressed)):
        stream = io.BytesIO()
        save(stream, **arrays)
        seeds[name] = stream.getvalue()
    for dtype, tag in (("<f4", "F32"), ("<f2", "F16"), ("<i4", "I32")):
        seeds[f"safetensors-{tag}"] = _save_safetensors(dtype, tag)
    return seeds


def _save_safetensors(dtype: str, tag: str) -> bytes:
    header, data = {}, b""
    for name, values in (("maps", MAPS), ("rois", ROIS)):
        stored = values.astype(dtype).tobytes()
        place = [len(data), len(data) + len(stored)]
        header[name] = {"dtype": tag, "shape": list(values.shape), "data_offsets": place}
        data += stored
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def archive_ending(data: bytes) -> str:
    """The ending of the format that the bytes began as."""
    return ".npz" if data[:1] == b"P" else ".safetensors"


def generate_archive(seeds: list[bytes], rng: random.Random) -> bytes:
    """A seed mutated; of a safetensors file, half of the time its header alone."""
    data = rng.choice(seeds)
    if data[:1] == b"P" or rng.random() < 0.5:
        return mutate(data, seeds, rng)
    size = int.from_bytes(data[:8], "little")
    words = [b"-1", b"1e9", b"9" * 30, b"[", b"{}", b'"F8_E4M3"', b'"BF16"', b"null", b"\\u0000"]
    text = mutate(data[8 : 8 + size], words, rng)
    length = len(text) if rng.random() < 0.8 else rng.choice((0, 1, 2**31, 2**63 - 1, 2**64 - 1))
    return length.to_bytes(8, "little") + text + data[8 + size :]


# --- RoIs ---------------------------------------------------------------------------------------


def generate_rois(seeds: list[bytes], rng: random.Random) -> bytes:
    """A table of RoIs with numbers from the edges, as .npy, HDF5 or text; a third mutated."""
    table = _table(rng)
    form = rng.random()
    if form < 0.35:
        data = save_npy(_cast(table, rng))
    elif form < 0.5:
        data = _save_hdf5(_cast(table, rng), rng)
    else:
        data = _write_text(table, rng)
    return mutate(data, seeds, rng) if rng.random() < 0.33 else data


def roi_seeds() -> dict[str, bytes]:
    """RoIs in every format."""
    lines = "\n".join(",".join(map(str, row)) for row in ROIS.tolist())
    return {
        "npy": save_npy(ROIS),
        "half": save_npy(ROIS.astype(np.float16)),
        "whole": save_npy(ROIS.astype(np.int64)),
        "csv": lines.encode(),
        "header": b"batch_index,x1,y1,x2,y2\n" + lines.encode(),
        "tsv": lines.replace(",", "\t").encode(),
        "mark": b"\xef\xbb\xbfx1,y1,x2,y2\n1,2,3,4\n",
        "hdf5": _save_hdf5(ROIS, random.Random(0)),
    }


def _table(rng: random.Random) -> np.ndarray[Any, Any]:
    rows, columns = rng.choice((0, 1, 1, 2, 3, 6)), rng.choice((5, 5, 5, 5, 4, 4, 6, 1))
    odd = rng.choice((0.0, 0.1, 0.5, 1.0))
    table = np.array(
        [
            [
                rng.choice(NUMBERS) if rng.random() < odd else rng.uniform(0, 20)
                for _ in range(columns)
            ]
            for _ in range(rows)
        ],
        np.float64,
    ).reshape(rows, columns)
    if columns == 5 and rng.random() < 0.8:
        table[:, 0] = [rng.randrange(2) for _ in range(rows)]
    return table


def _cast(table: np.ndarray[Any, Any], rng: random.Random) -> np.ndarray[Any, Any]:
    with np.errstate(all="ignore"):
        return table.astype(
            rng.choice(("<f4", "<f4", "<f8", "<f2", ">f4", "<i4", "<i8", "<u8", "|u1"))
        )


def _save_hdf5(table: np.ndarray[Any, Any], rng: random.Random) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w", libver=(rng.choice(("earliest", "latest")), "latest")) as file:
        extra = {"compression": "gzip"} if table.size and rng.random() < 0.3 else {}
        file.create_dataset("rois", data=table, **extra)
    return stream.getvalue()


def _write_text(table: np.ndarray[Any, Any], rng: random.Random) -> bytes:
    mark = rng.choice((",", ",", ",", "\t", ";", " "))
    rows = [[repr(cell) for cell in row] for row in table.tolist()]
    if rng.random() < 0.5:
        rows.insert(0, rng.choice(HEADERS).split())
    for _ in range(rng.choice((0, 0, 1, 3))):
        row = rng.choice(rows) if rows else None
        if row:
            row[rng.randrange(len(row))] = rng.choice(CELLS)
    end = rng.choice(("\n", "\n", "\r\n", "\r"))
    return end.join(mark.join(row) for row in rows).encode(rng.choice(("utf-8", "utf-8", "utf-16")))
