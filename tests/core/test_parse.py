"""Text to numbers, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.exceptions import ParameterError
from roicli.core.parse import (
    as_bin,
    as_bytes,
    as_count,
    as_names,
    as_path,
    as_rows,
    as_scales,
    as_several,
    as_size,
    parse_scale,
)


@pytest.mark.parametrize(
    ("text", "size"), [("7", (7, 7)), ("7x5", (7, 5)), ("14X3", (14, 3)), (" 2 x 3 ", (2, 3))]
)
def test_a_size_is_height_by_width(text, size):
    assert as_size(text, "map size") == size


@pytest.mark.parametrize(
    "text", ["", "x", "7x", "x7", "7x5x3", "-7", "7.5", "0", "7x0", "0x7", "seven", "7,5", "1" * 10]
)
def test_what_is_no_size_is_named(text):
    with pytest.raises(ParameterError) as caught:
        as_size(text, "map size")
    assert str(caught.value).startswith(f"map size is {text!r}, expected")


@given(st.integers(1, 10**9 - 1), st.integers(1, 10**9 - 1))
def test_sizes_survive_their_text(height, width):
    assert as_size(f"{height}x{width}", "size") == (height, width)


@pytest.mark.parametrize(
    ("text", "scale"), [("1/16", 0.0625), ("0.0625", 0.0625), ("1e-2", 0.01), ("3/4", 0.75)]
)
def test_a_scale_is_a_number_or_a_fraction(text, scale):
    assert parse_scale(text) == scale


@pytest.mark.parametrize(
    "text", ["", "1/", "/16", "1/0", "1/2/3", "a", "0", "-1/16", "inf", "nan", "1/inf", "1/nan"]
)
def test_what_is_no_scale_is_named(text):
    with pytest.raises(ParameterError) as caught:
        parse_scale(text)
    assert f"spatial scale is {text!r}, expected" in str(caught.value)


def test_scales_are_separated_by_commas():
    assert as_scales("1/4,1/8,0.5", "scales") == (0.25, 0.125, 0.5)
    with pytest.raises(ParameterError):
        as_scales("1/4,,1/8", "scales")


def test_names_are_separated_by_single_commas():
    assert as_names("p2, p3 ,p4", "levels") == ("p2", "p3", "p4")
    for text in ("", "p2,", "p2,,p3", " "):
        with pytest.raises(
            ParameterError, match=f"levels is {text!r}, expected names separated by single commas"
        ):
            as_names(text, "levels")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512), ("1K", 1024), ("512M", 512 * 1024**2), ("2g", 2 * 1024**3), ("1.5 KiB", 1536),
        ("1TB", 1024**4), ("0", 0), ("10B", 10),
    ],
)  # fmt: skip
def test_units_are_powers_of_1024(text, size):
    assert as_bytes(text, "max memory") == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "1P", "1,5G", "1e9"])
def test_what_is_no_memory_is_named(text):
    with pytest.raises(ParameterError) as caught:
        as_bytes(text, "max memory")
    assert f"--max-memory is {text!r}" in str(caught.value)


def test_a_bin_is_its_row_and_column():
    assert as_bin("0,3", "bin") == (0, 3)
    assert as_bin(" 12 , 4 ", "bin") == (12, 4)


@pytest.mark.parametrize("text", ["", "3", "1,", "1,2,3", "-1,2", "1x2", "a,b"])
def test_what_is_no_bin_is_named(text):
    with pytest.raises(ParameterError, match="expected its row and column") as caught:
        as_bin(text, "bin")
    assert repr(text) in str(caught.value)


def test_rows_are_a_number_or_all():
    assert as_rows("20", "rows") == 20
    assert as_rows("0", "rows") == 0
    assert as_rows("all", "rows") is None


@pytest.mark.parametrize("text", ["", "-1", "1.5", "ALL", "²", "٣"])
def test_what_is_no_number_of_rows_is_named(text):
    with pytest.raises(ParameterError, match="expected a number or all"):
        as_rows(text, "rows")


@pytest.mark.parametrize(
    ("read", "value", "meant"),
    [
        (as_size, 7, (7, 7)), (as_size, (7, 5), (7, 5)), (as_size, [7, 5], (7, 5)),
        (as_size, np.int64(3), (3, 3)), (as_scales, 0.25, (0.25,)), (as_scales, [0.5, 0.25],
        (0.5, 0.25)), (as_scales, np.float32(0.5), (0.5,)), (as_scales, np.array(0.5), (0.5,)),
        (as_scales, np.array([0.5, 0.25]), (0.5, 0.25)), (as_rows, 20, 20), (as_rows, None, None),
        (as_rows, np.int64(3), 3), (as_count, 4, 4), (as_names, ["p2", "p3"], ("p2", "p3")),
        (as_bytes, 1 << 20, 1 << 20), (as_bin, (1, 2), (1, 2)), (as_bin, [1, 2], (1, 2)),
        (as_path, Path("a") / "b.csv", "a/b.csv"), (as_path, "b.csv", "b.csv"),
        (as_several, "b.jpg", ["b.jpg"]), (as_several, Path("a"), ["a"]),
        (as_several, ["a", Path("b")], ["a", "b"]), (as_several, {"x": 1}, {"x": 1}),
    ],
)  # fmt: skip
def test_values_of_python_mean_what_their_text_means(read, value, meant):
    assert read(value, "it") == meant


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (as_size, (7, 5, 3)), (as_size, 0), (as_size, 7.5), (as_scales, [None]),
        (as_scales, object()), (as_rows, 1.5), (as_count, 0), (as_count, 2.0), (as_count, "4"),
        (as_bytes, -1), (as_bytes, None), (as_bin, (1, 2, 3)), (as_bin, 3), (as_path, 5),
        (as_several, [5]),
    ],
)  # fmt: skip
def test_what_is_refused_of_python_says_the_options_name(read, value):
    with pytest.raises(ParameterError, match=r"some option|--some-option"):
        read(value, "some option")
