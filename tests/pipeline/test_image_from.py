"""Whose image a RoI is, by indices, counts, starts and ranges: which of them, and what is none."""

import numpy as np
import pytest

from roicli.core.exceptions import InputError
from roicli.pipeline.image_from import RoiRows, find_images, parse_image_from
from tests.log import logged

NINE_SIX = [0] * 9 + [1] * 6
A, B = "a.npy", "b.npy"


def images(vectors, count=15, of=2, kind=None, an_image=None):
    vectors = vectors if isinstance(vectors, tuple) else (vectors,)
    arrays = [np.asarray(one) for one in vectors]
    names = [A, B][: len(arrays)]
    return find_images(arrays, names, kind, RoiRows("r.npy", count, an_image), of).tolist()


@pytest.mark.parametrize(
    ("vectors", "kind"),
    [
        (NINE_SIX, "indices"),
        (np.reshape(NINE_SIX, (15, 1)), "indices"),
        ([9, 6], "counts"),
        ([9.0, 6.0], "counts"),
        (np.array([[9], [6]], np.uint8), "counts"),
        ([0, 9], "starts"),
        ([0, 9, 15], "starts"),
        ([[0, 9], [9, 15]], "ranges"),
        (([0, 9], [9, 15]), "ranges"),
        ([[0, 8], [9, 14]], "inclusive"),
        (([0, 9], [8, 14]), "inclusive"),
        (([0, 9], [9, 6]), "lengths"),
    ],
)
def test_the_kind_is_recognized_and_said(vectors, kind):
    with logged() as lines:
        assert images(vectors) == NINE_SIX
    assert f"read as {kind}," in lines[0]
    with logged() as lines:
        assert images(vectors, kind=kind) == NINE_SIX
    assert lines == []


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        (([0, -1, 9], [8, -1, 14]), [0] * 9 + [2] * 6),
        (([-1, 0, 9], [-1, 9, 15]), [1] * 9 + [2] * 6),
        (([9, 0, 3], [15, 0, 12]), None),  # rows in two images
        (([0, 9, 9], [9, 9, 15]), [0] * 9 + [2] * 6),
        ([0, -1, 9], [0] * 9 + [2] * 6),
        ([9, 0, 6], [0] * 9 + [2] * 6),
        (([6, 0, 15], [15, 6, 15]), [1] * 6 + [0] * 9),
    ],
)
def test_images_without_rois_and_in_any_order(vectors, expected):
    if expected is None:
        with pytest.raises(InputError, match="no row in common"):
            images(vectors, of=3)
    else:
        assert images(vectors, of=3) == expected


@pytest.mark.parametrize(
    ("vectors", "count", "kinds"),
    [
        ([0, 1, 2], 3, ["indices", "counts", "starts"]),
        ([1, 1, 1], 3, ["indices", "counts"]),
        (([0, 9], [3, 12]), 15, ["ranges", "inclusive"]),
    ],
)
def test_where_two_kinds_fit_and_differ_nothing_is_guessed(vectors, count, kinds):
    of = len(vectors) if isinstance(vectors, list) else 2
    with pytest.raises(InputError) as caught:
        images(vectors, count, of)
    assert all(f":{kind}" in caught.value.hint for kind in kinds)
    images(vectors, count, of, kind=kinds[0])


def test_kinds_that_agree_are_one():
    assert images([0], 3, 1) == [0, 0, 0]
    assert images(([0], [3]), 3, 1) == [0, 0, 0]


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ([9, 5], "as counts their sum 14 would be 15"),
        ([9, 7], "would be 15"),
        ([3, 9, 15], "as starts the first would be 0"),
        ([0.5, 14.5], "a whole number"),
        ([-9, 24], "a number from 0"),
        ([9, 6, 0], "they would be 2, one an image, not 3"),
        ([np.nan, 1], "a whole number"),
        ([0, 16], "to 15 at most"),
        (([0, 9], [9, 16]), "the last row would be below 15"),
        (([0, 9], [9]), "as many of both"),
        (np.zeros((2, 3, 4)), "has shape (2, 3, 4)"),
    ],
)
def test_what_says_nobodys_image(vectors, words):
    with pytest.raises(InputError) as caught:
        images(vectors)
    assert words in str(caught.value)


def test_a_kind_that_two_arrays_cannot_be():
    with pytest.raises(InputError, match="two arrays cannot be counts"):
        images(([0, 9], [9, 15]), kind="counts")


def test_counts_drop_the_padding_of_rois_image_by_image():
    assert images([2, 3], 6, 2, an_image=3) == [0, 0, -1, 1, 1, 1]
    with pytest.raises(InputError, match="at most the 3"):
        images([2, 4], 6, 2, an_image=3)


@pytest.mark.parametrize(
    ("text", "arrays", "kind"),
    [
        ("b.npy", ("b.npy",), None),
        ("b.h5::/n:counts", ("b.h5::/n",), "counts"),
        ("f.npy,l.npy:inclusive", ("f.npy", "l.npy"), "inclusive"),
        ("v.h5::g/first,last", ("v.h5::g/first", "v.h5::g/last"), None),
        ("v.h5::/first, /other/last", ("v.h5::/first", "v.h5::/other/last"), None),
        ("v.h5::first,w.h5::last:ranges", ("v.h5::first", "w.h5::last"), "ranges"),
    ],
)
def test_how_it_is_written(text, arrays, kind):
    found = parse_image_from(text)
    assert (found.arrays, found.kind) == (arrays, kind)
