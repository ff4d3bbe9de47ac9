"""RoIs that are refused: shape, dtype, coordinates, batch index; one line, nothing left behind."""

from typing import Any

import numpy as np
import pytest

from tests.cli.running import FEATURES, ROIS, SCALE, refuse, run, save, save_h5

NAN, INF = float("nan"), float("inf")
pytestmark = pytest.mark.usefixtures("inputs")

SHAPES: list[tuple[Any, str]] = [
    (np.zeros((3, 6), np.float32), "(3, 6)"),
    (np.zeros((3, 3), np.float32), "(3, 3)"),
    (np.zeros(5, np.float32), "(5,)"),
    (np.zeros((2, 3, 5), np.float32), "(2, 3, 5)"),
    (np.float32(3), "()"),
]
DTYPES: list[tuple[Any, str]] = [
    (np.array([["a", "b", "c", "d", "e"]]), "<U1"),
    (np.zeros((2, 5), np.complex64), "complex64"),
    (np.zeros((2, 5), bool), "bool"),
    (np.zeros((2, 5), np.longdouble), "float128"),
    (np.zeros((2, 5), "datetime64[s]"), "datetime64"),
    (np.zeros((2, 5), object), "pickle"),
]
CELLS: list[tuple[int, float, tuple[str, ...]]] = [
    (1, NAN, ("column 1 (x1)", "found nan", "finite")),
    (2, INF, ("column 2 (y1)", "found inf", "finite")),
    (3, -INF, ("column 3 (x2)", "found -inf", "finite")),
    (4, 1e39, ("column 4 (y2)", "found 1e+39", "float32")),
    (4, -1e300, ("column 4 (y2)", "found -1e+300", "float32")),
    (3, 1e30, ("x2", "cells", "spatial scale")),
    (0, 0.9, ("column 0 (batch_index)", "found 0.9", "from 0 to 1")),
    (0, -0.9, ("column 0 (batch_index)", "found -0.9", "from 0 to 1")),
    (0, -1, ("column 0 (batch_index)", "found -1", "from 0 to 1")),
    (0, 2, ("column 0 (batch_index)", "found 2", "from 0 to 1")),
    (0, NAN, ("column 0 (batch_index)", "found nan", "from 0 to 1")),
    (0, INF, ("column 0 (batch_index)", "found inf", "from 0 to 1")),
]


@pytest.mark.parametrize(("values", "found"), SHAPES, ids=[found for _, found in SHAPES])
def test_shape(values: Any, found: str) -> None:
    save("bad.npy", values)
    for command in ("align", "pool"):
        refuse(command, FEATURES, "bad.npy", *SCALE, words=("bad.npy", found, "(K, 5)"))


@pytest.mark.parametrize(("values", "found"), DTYPES, ids=[found for _, found in DTYPES])
def test_dtype(values: Any, found: str) -> None:
    np.save("bad.npy", values, allow_pickle=True)
    refuse("align", FEATURES, "bad.npy", *SCALE, words=("bad.npy", found, "expected"))


@pytest.mark.parametrize(("column", "value", "words"), CELLS, ids=[str(c[:2]) for c in CELLS])
def test_cell(column: int, value: float, words: tuple[str, ...]) -> None:
    rois = np.load(ROIS).astype(np.float64)
    rois[3, column] = value
    save("bad.npy", rois)
    save_h5("bad.h5", boxes=rois)
    for command in ("align", "pool"):
        refuse(command, FEATURES, "bad.npy", *SCALE, words=("bad.npy", "row 3", *words))
    refuse("align", FEATURES, "bad.h5", *SCALE, words=("bad.h5::/boxes", "row 3", *words))


@pytest.mark.parametrize(("column", "value", "words"), CELLS, ids=[str(c[:2]) for c in CELLS])
def test_cell_of_float16_or_text(column: int, value: float, words: tuple[str, ...]) -> None:
    rois = np.load(ROIS).astype(np.float64)
    rois[3, column] = value
    lines = "\n".join(",".join(map(repr, row)) for row in rois.tolist())
    with open("bad.csv", "w") as stream:
        stream.write(lines)
    refuse("align", FEATURES, "bad.csv", *SCALE, words=("bad.csv", "row 3", *words))


def test_errors_without_features_checks_rois_too() -> None:
    rois = np.load(ROIS).astype(np.float64)
    for column, value, words in CELLS:
        bad = rois.copy()
        bad[3, column] = value
        save("bad.npy", bad)
        if (column, value) == (0, 2.0):  # no features, no last image
            assert run("errors", "bad.npy", *SCALE).code == 0
        else:
            expected = [word for word in words if word != "from 0 to 1"]
            refuse("errors", "bad.npy", *SCALE, words=("bad.npy", "row 3", *expected))


def test_how_many_rows_are_bad() -> None:
    rois = np.load(ROIS)
    rois[1:4, 2] = NAN
    save("bad.npy", rois)
    refuse("align", FEATURES, "bad.npy", *SCALE, words=("row 1,", "3 such rows"))


def test_four_columns_need_one_image() -> None:
    save("four.npy", np.load(ROIS)[:, 1:])
    refuse("align", FEATURES, "four.npy", *SCALE, words=("four.npy", "4 columns", "2 images"))


def test_unsigned_batch_index_past_the_end() -> None:
    rois = np.load(ROIS).astype(np.uint64)
    rois[2, 0] = 2**63
    save("bad.npy", rois)
    refuse("pool", FEATURES, "bad.npy", *SCALE, words=("row 2", "batch_index", "9.22337e+18"))


def test_formats_that_overflow_when_they_become_corners() -> None:
    save("bad.npy", np.array([[0, 3e38, 0, 3e38, 1.0]]))
    refuse(
        "align", FEATURES, "bad.npy", "--roi-format", "xywh", "--spatial-scale", "1e-30",
        words=("bad.npy", "row 0"),
    )  # fmt: skip
    refuse(
        "align", FEATURES, "bad.npy", "--normalized", "--image-size", "1000x1000",
        "--spatial-scale", "1e-30", words=("bad.npy", "row 0"),
    )  # fmt: skip


def test_a_column_is_named_as_the_format_names_it() -> None:
    save("bad.npy", np.array([[0, 1.0, 2, NAN, 4]]))
    words = ("row 0", "column 3 (w)")
    refuse("align", FEATURES, "bad.npy", *SCALE, "--roi-format", "cxcywh", words=words)


TEXTS: list[tuple[str, str, tuple[str, ...]]] = [
    ("r.csv", "0,1,2,three,4\n", ("line 1, column 3", "three", "expected a number")),
    ("r.csv", "0,1,2,3,4\n0,1,2,3\n", ("line 2", "4 columns", "expected 5")),
    ("r.csv", "0,1,2,3,4\n0,1,2,3,\n", ("row 1, column 4", "finite number")),
    ("r.csv", "batch,x1,y1,x2\n0,1,2,3\n", ("y2", "header")),
    ("r.csv", "batch,x1,y1,x2,y2\n0,1,2,3\n", ("line 2", "4 columns", "expected 5")),
    ("r.csv", "0/1/2/3/4\n", ("r.csv",)),
    ("r.csv", "1,2,3\n", ("(1, 3)",)),
    ("r.csv", "\n\n", ("r.csv",)),
    ("r.csv", "0,1,2,3,\0\n", ("NUL",)),
    ("r.csv", '0,1,2,3,"4\n', ("r.csv",)),
    ("r.csv", "x,y,w,h\n0,1,2,3\n", ("corner", "--roi-format xywh")),
]


@pytest.mark.parametrize(("name", "text", "words"), TEXTS, ids=[repr(t[1]) for t in TEXTS])
def test_text(name: str, text: str, words: tuple[str, ...]) -> None:
    with open(name, "w") as stream:
        stream.write(text)
    refuse("align", FEATURES, name, *SCALE, words=(name, *words))


def test_text_that_is_not_utf8() -> None:
    with open("r.csv", "wb") as stream:
        stream.write("0,1,2,3,4,\xe9\n".encode("latin-1"))
    refuse("align", FEATURES, "r.csv", *SCALE, words=("r.csv", "UTF-8"))
