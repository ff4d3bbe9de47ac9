"""Error tables as files: what a format takes of a processor beyond computing the table."""

import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

import roicli
from roicli.error_table.arrow import write_arrow
from roicli.error_table.table import ErrorTable
from roicli.error_table.writers import write_table

COUNT = 100_000
MODULE = "Python's csv and json"


def make_table(count: int) -> tuple[ErrorTable, dict[str, object]]:
    """The errors of ``count`` RoIs of 16 to 600 pixels on 64 images, computed, and parameters."""
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(np.log(16), np.log(600), (count, 2)))
    middles = rng.uniform(0, 1000, (count, 2))
    images = np.sort(rng.integers(0, 64, count))
    rois = np.column_stack([images, middles - sides / 2, middles + sides / 2]).astype(np.float32)
    # Boxes may lie outside the map here.
    found = roicli.errors(rois, spatial_scale=1 / 4, map_size=(300, 300), ignore="R04,R05,R10")
    found.errors.prepare()
    return found.errors, dict(found.parameters)


def write_by_module(table: ErrorTable, kind: str, path: Path) -> None:
    """What a loop over the rows takes with the standard library."""
    with path.open("w", newline="") as stream:
        if kind == "jsonl":
            stream.writelines(json.dumps(row) + "\n" for row in table)
            return
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([column.name for column in table.columns])
        writer.writerows(row.values() for row in table)


def write_text(table: ErrorTable, parameters: dict[str, object], kind: str, path: Path) -> None:
    """As ``--errors-out``."""
    with path.open("wb") as stream:
        write_table(table, parameters, "csv" if kind == "csv" else "jsonl", stream)


def write_parquet(table: ErrorTable, path: Path) -> None:
    """As ``--errors-out x.parquet``."""
    with path.open("wb") as stream:
        write_arrow(table.columns, table.blocks(), "parquet", stream)


def write_hdf5(table: ErrorTable, path: Path) -> None:
    """As beside an HDF5 result: one compound dataset, block by block."""
    import h5py

    with h5py.File(path, "w") as file:
        dtype = table.records(slice(0, 0)).dtype
        dataset = file.create_dataset("quantization_error", (len(table),), dtype)
        start = 0
        for block in table.blocks():
            dataset[start : start + len(block)] = block
            start += len(block)


def time_tables(folder: Path, runs: int, count: int = COUNT) -> list[str]:
    """A row a format: a processor's seconds, and how many times faster than a loop over rows."""
    table, parameters = make_table(count)
    ways: dict[str, dict[str, Callable[[Path], object]]] = {
        kind: {
            MODULE: lambda path, kind=kind: write_by_module(table, kind, path),
            "roicli": lambda path, kind=kind: write_text(table, parameters, kind, path),
        }
        for kind in ("csv", "jsonl")
    }
    ways["parquet"] = {"roicli": lambda path: write_parquet(table, path)}
    ways["h5"] = {"roicli": lambda path: write_hdf5(table, path)}
    columns = len(table.columns)
    lines = [f"| {count:,} RoIs, {columns} columns | times faster | roicli s | {MODULE} s | MB |"]
    lines.append("|---|---:|---:|---:|---:|")
    for kind, named in ways.items():
        seconds: dict[str, list[float]] = {name: [] for name in named}
        path = folder / f"table.{kind}"
        for _ in range(runs):
            for name, write in named.items():
                started = time.process_time()
                write(path)
                seconds[name].append(time.process_time() - started)
        found = {name: median(values) for name, values in seconds.items()}
        plain = found.get(MODULE)
        ratio, theirs = ("-", "-") if plain is None else (
            f"{plain / found['roicli']:.1f}x", f"{plain:.2f}",
        )  # fmt: skip
        size = path.stat().st_size / 1e6
        lines.append(f"| {kind} | {ratio} | {found['roicli']:.2f} | {theirs} | {size:.0f} |")
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    print(*time_tables(Path(sys.argv[1]), int(sys.argv[2])), sep="\n")
