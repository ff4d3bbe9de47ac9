"""Conditions on columns: what they keep, and what is no condition."""

import numpy as np
import pytest

from roicli.core.condition import DEEPEST, parse_condition
from roicli.core.exceptions import ParameterError

COLUMNS = {
    "score": np.array([0.1, 0.6, np.nan]),
    "class": np.array(["person", "car", "person"], object),
    "n": np.array([1, 2, 3]),
    "a b": np.array([0, 0, 1]),
}


def holds(text):
    return parse_condition(text)(COLUMNS.__getitem__).tolist()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("score > 0.5", [0, 1, 0]),
        ("score > 0.5 and class == 'person'", [0, 0, 0]),
        ('score < .5 AND class == "person"', [1, 0, 0]),
        ("class != 'car'", [1, 0, 1]),
        ("class in ['car', 'dog'] or n == 3", [0, 1, 1]),
        ("class not in ('car',)", [1, 0, 1]),
        ("n in [1, 3]", [1, 0, 1]),
        ("n in []", [0, 0, 0]),
        ("not (n == 2 or n == 3)", [1, 0, 0]),
        ("not n == 1 and n < 3", [0, 1, 0]),
        ("0.05 < score <= 6e-1", [1, 1, 0]),
        ("~(n == 2) & n > 0 | n == 2", [1, 1, 1]),
        ("n > -1 && n != +2", [1, 0, 1]),
        ("`a b`", [0, 0, 1]),
        ("score == score", [1, 1, 0]),
        ("score != score", [0, 0, 1]),
        ("n == 1 or n == 2 and n == 3", [1, 0, 0]),
        ("class < 'd'", [0, 1, 0]),
        ("class == 'it\\'s'", [0, 0, 0]),
    ],
)
def test_what_a_condition_keeps(text, kept):
    assert holds(text) == [bool(one) for one in kept]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a condition"),
        ("score >", "found its end"),
        ("score = 1", "equality is =="),
        ("score > 0.5)", "found ')'"),
        ("(score > 0.5", "expected ')'"),
        ("class == 3", "column class holds texts, and 3 is a number"),
        ("n == '3'", "column n holds numbers, and '3' is a text"),
        ("n in ['a']", "column n holds numbers"),
        ("n in [score]", "score in a list"),
        ("n in 3", "expected '['"),
        ("class", "column class holds texts"),
        ("'a'", "a comparison after 'a'"),
        ("__import__('os')", "found '('"),
        ("__import__('os').system('x')", "cannot be read from"),
        ("n == 1; n", "cannot be read from"),
        ("1.2.3 < n", "cannot be read from"),
        ("class == 'person", "stand in quotes"),
        ("(" * (DEEPEST + 1) + "n", "nested"),
        ("n == 1 or " * 2000 + "n == 1", "characters"),
        ("and", "found 'and'"),
        ("lambda: n", "cannot be read from"),
    ],
)  # fmt: skip
def test_what_is_no_condition(text, words):
    with pytest.raises(ParameterError) as caught:
        holds(text)
    assert words in f"{caught.value} {caught.value.hint}"


def test_a_condition_knows_its_columns():
    assert parse_condition("b > 1 and a == 2 or b < 0").names == ("b", "a")
