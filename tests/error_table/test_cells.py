"""The text of cells, by Python and by pyarrow: what the csv and json modules make of each row."""

import csv
import io
import json

import numpy as np
import pytest

from roicli.core.foreign import foreign
from roicli.error_table import arrow_cells, cells
from roicli.error_table.cells import plain_values
from roicli.error_table.columns import Column
from roicli.error_table.table import ErrorTable
from roicli.error_table.writers import write_table

RANDOM = np.random.default_rng(0)
ODD_NUMBERS = [
    0.0, -0.0, 1.0, -1.0, 0.5, 1e-4, 9.999e-5, 1e-7, 5e-324, 2.0**-44, 1e9 + 0.5, 1e10 - 2**-20,
    1e10, 1e10 + 0.25, 1e15, 1e16, 123456789012345680.0, 1e22, 1e23, 1.7e308, 0.1, 2 / 3,
    float("nan"), float("inf"), -float("inf"),
]  # fmt: skip
ODD_TEXTS = ["", "a b", 'say "no"', "a,b", "a\tb", "line\nbreak", "\r", "é ü 猫", "\x1b[1m",
             "null", " lead", "a\\b", "::error::x", "</script>"]  # fmt: skip
ROWS = 64
COLUMNS = {
    "numbers": np.resize(ODD_NUMBERS, ROWS),
    "bits": RANDOM.integers(0, 2**64, ROWS, np.uint64).view(np.float64),
    "magnitudes": RANDOM.choice([-1, 1], ROWS) * 10 ** RANDOM.uniform(-6, 12, ROWS),
    "narrow": RANDOM.normal(size=ROWS).astype(np.float32),
    "whole": RANDOM.integers(-9, 9, ROWS).astype(np.float64),
    "tiny": np.full(ROWS, 1.5e-5),
    "integers": RANDOM.integers(-(2**63), 2**63 - 1, ROWS),
    "unsigned": RANDOM.integers(0, 2**64, ROWS, np.uint64),
    "bytes": np.resize(np.array([0, 255], np.uint8), ROWS),
    "level": np.resize([np.nan, 3.0], ROWS),
    "undefined": np.full(ROWS, np.nan),
    "words": np.resize(np.array([b"small", b"large"], "S6"), ROWS),
    "texts": np.resize(np.array([text.encode() for text in ODD_TEXTS]), ROWS),
}
KINDS = {"integers": "integer", "unsigned": "integer", "bytes": "integer", "level": "integer",
         "words": "text", "texts": "text"}  # fmt: skip


class Block(ErrorTable):
    """The table of one block of made-up columns."""

    def __init__(self):
        self.columns = tuple(
            Column(name, "-", "", KINDS.get(name, "number"), is_foreign=name == "texts")
            for name in COLUMNS
        )
        self.block = np.empty(ROWS, [(name, values.dtype) for name, values in COLUMNS.items()])
        for name, values in COLUMNS.items():
            self.block[name] = values

    def __len__(self):
        return len(self.block)

    def blocks(self):
        yield self.block[:40]
        yield self.block[40:]


def reference_rows():
    """Each cell by itself, as Python has it."""
    for row in range(ROWS):
        found = {}
        for name, values in COLUMNS.items():
            value = values[row]
            if name == "texts":
                found[name] = foreign(bytes(value))
            elif name == "words":
                found[name] = value.decode()
            elif not np.isfinite(value):
                found[name] = None
            else:
                found[name] = int(value) if name in KINDS else float(value)
        yield found


def reference(table_format):
    if table_format == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in reference_rows())
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t" if table_format == "tsv" else ",",
                        lineterminator="\n")  # fmt: skip
    writer.writerow(COLUMNS)
    writer.writerows(row.values() for row in reference_rows())
    return stream.getvalue()


@pytest.mark.parametrize("by_arrow", [False, True])
@pytest.mark.parametrize("table_format", ["csv", "tsv", "jsonl"])
def test_every_byte_is_as_written_cell_by_cell(table_format, by_arrow, monkeypatch):
    if by_arrow:
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(arrow_cells, "is_worth", lambda rows: by_arrow)
    stream = io.BytesIO()
    write_table(Block(), {}, table_format, stream)
    assert stream.getvalue().decode().split("\n") == reference(table_format).split("\n")


def test_cells_are_python_values():
    names = [column.name for column in Block().columns]
    found = [plain_values(COLUMNS[column.name], column) for column in Block().columns]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*found, strict=True)]
    for row, expected in zip(rows, reference_rows(), strict=True):
        assert row == expected
        assert [type(value) for value in row.values()] == [type(v) for v in expected.values()]


@pytest.mark.full
def test_pyarrow_writes_the_digits_that_python_writes():
    pytest.importorskip("pyarrow")
    form = cells.RowForm(("",), "\n", "", str)
    random = np.random.default_rng(1)
    magnitudes = random.choice([-1, 1], 200_000) * 10 ** random.uniform(-5, 11, 200_000)
    near = 2.0 ** np.arange(-20, 60)
    near = np.concatenate([near, np.nextafter(near, 0), np.nextafter(near, np.inf)])
    for values in (magnitudes, magnitudes.astype(np.float32), np.round(magnitudes, 3), near):
        block = np.rec.fromarrays([values], names="x")
        columns = [Column("x", "-", "")]
        found = bytes(arrow_cells.format_rows(block, columns, form)).decode().split("\n")
        assert found == cells.format_rows(block, columns, form).split("\n")
