"""Text to numbers, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.core.exceptions import ParameterError
from roicli.core.parsing import (
    parse_bin,
    parse_bytes,
    parse_names,
    parse_rows,
    parse_scale,
    parse_scales,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"), [("7", (7, 7)), ("7x5", (7, 5)), ("14X3", (14, 3)), (" 2 x 3 ", (2, 3))]
)
def test_a_size_is_height_by_width(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "7x", "x7", "7x5x3", "-7", "7.5", "0", "7x0", "0x7", "seven", "7,5", "1" * 10]
)
def test_what_is_no_size_is_named(text):
    with pytest.raises(ParameterError) as caught:
        parse_size(text, "map size")
    assert str(caught.value).startswith(f"map size is {text!r}, expected")


@given(st.integers(1, 10**9 - 1), st.integers(1, 10**9 - 1))
def test_sizes_survive_their_text(height, width):
    assert parse_size(f"{height}x{width}") == (height, width)


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
    assert parse_scales("1/4,1/8,0.5") == (0.25, 0.125, 0.5)
    with pytest.raises(ParameterError):
        parse_scales("1/4,,1/8")


def test_names_are_separated_by_single_commas():
    assert parse_names("p2, p3 ,p4") == ("p2", "p3", "p4")
    for text in ("", "p2,", "p2,,p3", " "):
        with pytest.raises(ParameterError, match="single commas"):
            parse_names(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512), ("1K", 1024), ("512M", 512 * 1024**2), ("2g", 2 * 1024**3), ("1.5 KiB", 1536),
        ("1TB", 1024**4), ("0", 0), ("10B", 10),
    ],
)  # fmt: skip
def test_units_are_powers_of_1024(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "1P", "1,5G", "1e9"])
def test_what_is_no_memory_is_named(text):
    with pytest.raises(ParameterError) as caught:
        parse_bytes(text)
    assert f"memory is {text!r}" in str(caught.value)


def test_a_bin_is_its_row_and_column():
    assert parse_bin("0,3") == (0, 3)
    assert parse_bin(" 12 , 4 ") == (12, 4)


@pytest.mark.parametrize("text", ["", "3", "1,", "1,2,3", "-1,2", "1x2", "a,b"])
def test_what_is_no_bin_is_named(text):
    with pytest.raises(ParameterError, match="expected its row and column") as caught:
        parse_bin(text)
    assert repr(text) in str(caught.value)


def test_rows_are_a_number_or_all():
    assert parse_rows("20") == 20
    assert parse_rows("0") == 0
    assert parse_rows("all") is None


@pytest.mark.parametrize("text", ["", "-1", "1.5", "ALL", "²", "٣"])
def test_what_is_no_number_of_rows_is_named(text):
    with pytest.raises(ParameterError, match="expected a number or all"):
        parse_rows(text)
