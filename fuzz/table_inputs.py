"""Tables of RoIs in every format that has names, and such that are almost right."""

from __future__ import annotations

import gzip
import io
import json
import random
from typing import Any

import h5py
import numpy as np

from fuzz.array_inputs import save_npy
from fuzz.hdf5_seeds import ROIS
from fuzz.mutation import mutate

NAMES = ("image_id", "x1", "y1", "x2", "y2")
# What may stand where a key, a number or a list is expected.
PIECES = (
    "null", "NaN", "-Infinity", "1e999", "1" * 400, "[]", "{}", "[[]]", '"\\u0000"', '"\\ud800"',
    "true", '"x1"', '"bbox"', '"image_id"', '{"id": {}}', "[1, 2, 3]", "[1, 2, 3, 4]", "-0",
)  # fmt: skip
PARTS = (
    b"[", b"]", b"{", b"}", b",", b"\n", b'"', b"<object>", b"</object>", b"<!DOCTYPE a>", b"&lt;",
    b"\x1f\x8b", b"PAR1", b"ARROW1",
)  # fmt: skip


def _records() -> list[dict[str, Any]]:
    return [
        {"image_id": int(image), "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.5}
        for image, x1, y1, x2, y2 in ROIS.tolist()
    ]


def _structured() -> Any:
    fields = [*((name, "<f4") for name in NAMES), ("class", "S3"), ("bbox", "<f2", 4)]
    found = np.zeros(len(ROIS), fields)
    for place, name in enumerate(NAMES):
        found[name] = ROIS[:, place]
    return found


def _compound() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["detections"] = _structured()
    return stream.getvalue()


def _frame(kind: str) -> bytes:
    """A table as pandas lays it out."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        group = file.create_group("boxes")
        group.attrs["pandas_type"] = np.bytes_(kind)
        group.attrs["nblocks"] = 1
        names = np.array([name.encode() for name in NAMES])
        if kind == "frame":
            group["axis0"], group["block0_items"], group["block0_values"] = names, names, ROIS
        else:
            rows = np.zeros(len(ROIS), [("index", "<i8"), ("values_block_0", "<f4", 5)])
            rows["values_block_0"] = ROIS
            group["table"] = rows
            pickled = "(lp0\n" + "".join(f"V{name}\np{i}\na" for i, name in enumerate(NAMES)) + "."
            group["table"].attrs["values_block_0_kind"] = np.bytes_(pickled)
    return stream.getvalue()


def _voc() -> bytes:
    objects = "".join(
        f"<object><name>cat</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for _, x1, y1, x2, y2 in ROIS.tolist()
    )
    return f"<annotation><filename>0.jpg</filename>{objects}</annotation>".encode()


def _arrow() -> dict[str, bytes]:
    """As Parquet and Feather, where pyarrow is installed."""
    try:
        import pyarrow as pa
        from pyarrow import feather, parquet
    except ModuleNotFoundError:
        return {}
    table = pa.table({name: ROIS[:, place] for place, name in enumerate(NAMES)})
    table = table.append_column("bbox", pa.array([[1, 2, 3, 4]] * len(ROIS), pa.list_(pa.int8())))
    found = {}
    for name, write in (("parquet", parquet.write_table), ("feather", feather.write_feather)):
        stream = io.BytesIO()
        write(table, stream)
        found[name] = stream.getvalue()
    return found


def table_seeds() -> dict[str, bytes]:
    """RoIs in every format of tables."""
    records = _records()
    coco = {"images": [{"id": 0, "file_name": "a.jpg", "height": 16, "width": 20}],
            "annotations": records, "categories": [{"id": 1, "name": "cat"}]}  # fmt: skip
    columns = {"image": ROIS[:, 0].tolist(), "boxes": ROIS[:, 1:].tolist()}
    lines = "\n".join(map(json.dumps, records)).encode()
    return {
        "results": json.dumps(records).encode(),
        "coco": json.dumps(coco).encode(),
        "columns": json.dumps(columns).encode(),
        "lines": lines,
        "packed": gzip.compress(lines, mtime=0),
        "records": save_npy(_structured()),
        "compound": _compound(),
        "fixed": _frame("frame"),
        "table": _frame("frame_table"),
        "voc": _voc(),
        **_arrow(),
    }


def generate_table(seeds: list[bytes], rng: random.Random) -> bytes:
    """A seed with a piece put elsewhere, or mutated."""
    data = rng.choice(seeds)
    if data[:1] in b"[{<" and rng.random() < 0.6:
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(data) + 1)
            piece = rng.choice((*PARTS, *(one.encode() for one in PIECES)))
            data = data[:at] + piece + data[at + rng.choice((0, 0, 1, len(piece), 40)) :]
        return data
    return mutate(data, seeds, rng)


def table_ending(data: bytes) -> str:
    """A file's ending from its bytes; of what has bytes of its own there is none."""
    return {b"[": ".json", b"{": ".jsonl", b"<": ".xml"}.get(data[:1], ".tbl")
