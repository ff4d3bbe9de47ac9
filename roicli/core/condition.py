"""Conditions on named columns, like ``score > 0.5 and class == 'person'``.

A grammar of its own: comparisons (also in chains), ``in [...]``, ``and``, ``or``, ``not`` and
parentheses over column names, numbers and quoted texts. Nothing is evaluated by Python, and nothing
else can be said. ``&``, ``|`` and ``~`` are other spellings of the three words, as in pandas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.foreign import foreign
from roicli.core.record import frozen
from roicli.core.types import Array

# Deeper parentheses are no condition that somebody wrote.
DEEPEST = 50
LONGEST = 10_000

# A column's values (k,) by its name as it was written: numbers, or texts of dtype object.
Columns = Callable[[str], Array]
# Whether a row is kept (k,).
Test = Callable[[Columns], Array]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
    | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | `(?P<quoted>[^`]+)`
    | (?P<name>[^\W\d]\w*(?:\.\w+)*)
    | (?P<sign>==|!=|<=|>=|&&|\|\||[<>&|~!()\[\],+=-])
    )""",
    re.VERBOSE,
)
_WORDS = {"&": "and", "&&": "and", "|": "or", "||": "or", "~": "not", "!": "not"}
_COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


class _Token(NamedTuple):
    """A word of a condition: ``kind`` is number, text, name, sign, or end."""

    kind: str
    value: str
    place: int


class _Operand(NamedTuple):
    """What is compared: a column by its name, a number or a text; as messages have it."""

    shown: str
    column: str | None
    value: float | str

    def read(self, columns: Columns) -> Array:
        """Its values (k,) or its one value ()."""
        if self.column is not None:
            return columns(self.column)
        return np.asarray(self.value, object if isinstance(self.value, str) else np.float64)


@frozen
class Condition:
    """A condition as it was written, and the test that it is.

    ``names`` are the columns that it asks for, each once, in their order; ``of_texts`` those that
    it compares with a text.
    """

    text: str
    names: tuple[str, ...]
    of_texts: frozenset[str]
    test: Test

    def __call__(self, columns: Columns) -> Array:
        """(k,) which rows fulfil it. ``columns`` gives a column's values (k,) by its name.

        A comparison with NaN is false, but for ``!=``. Raises ParameterError where a column of
        numbers is compared with a text, or a column of texts with a number.
        """
        return np.asarray(self.test(columns), bool)


def parse_condition(text: str) -> Condition:
    """A condition from its text. Raises ParameterError that names the word that does not fit."""
    if not isinstance(text, str) or not text.strip():
        raise ParameterError(f'where is {text!r}, expected a condition like "score > 0.5"')
    if len(text) > LONGEST:
        raise ParameterError(f"where has {len(text):,} characters, expected at most {LONGEST:,}")
    parser = _Parser(text)
    test = parser.read_whole()
    names = tuple(dict.fromkeys(parser.names))
    return Condition(text, names, frozenset(parser.of_texts), test)


class _Parser:
    """Reads a condition word by word; ``names`` are the columns that it has met, ``of_texts`` those
    that are compared with a text.
    """

    def __init__(self, text: str) -> None:
        self.names: list[str] = []
        self.of_texts: set[str] = set()
        self._text = text
        self._tokens = list(_split(text))
        self._at = self._depth = 0

    def read_whole(self) -> Test:
        test = self._read_any()
        if self._next.kind != "end":
            raise self._unexpected("'and', 'or' or the end")
        return test

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, *values: str) -> str | None:
        """The next word where it is one of these, which are signs or words of the grammar."""
        token = self._next
        word = token.value.lower() if token.kind == "name" else token.value
        if token.kind in ("sign", "name") and _WORDS.get(word, word) in values:
            self._at += 1
            return _WORDS.get(word, word)
        return None

    def _read_any(self) -> Test:
        tests = [self._read_all()]
        while self._take("or"):
            tests.append(self._read_all())
        return tests[0] if len(tests) == 1 else _join(np.logical_or, tests)

    def _read_all(self) -> Test:
        tests = [self._read_one()]
        while self._take("and"):
            tests.append(self._read_one())
        return tests[0] if len(tests) == 1 else _join(np.logical_and, tests)

    def _read_one(self) -> Test:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ParameterError(f"where is nested more than {DEEPEST} times")
        try:
            if self._take("not"):
                inner = self._read_one()
                return lambda columns: np.logical_not(inner(columns))
            if self._take("("):
                inner = self._read_any()
                if not self._take(")"):
                    raise self._unexpected("')'")
                return inner
            return self._read_comparison()
        finally:
            self._depth -= 1

    def _read_comparison(self) -> Test:
        left, tests = self._read_operand(), []
        while True:
            is_not = self._take("not") is not None
            if self._take("in"):
                members = self._read_list()
                self._note_texts(left, *members)
                tests.append(_is_among(left, members, is_not))
                break
            if is_not:
                raise self._unexpected("'in'")
            sign = self._take(*_COMPARE)
            if sign is None:
                break
            right = self._read_operand()
            self._note_texts(left, right)
            tests.append(_compares(left, sign, right))
            left = right
        if not tests:
            return self._as_truth(left)
        return tests[0] if len(tests) == 1 else _join(np.logical_and, tests)

    def _note_texts(self, *compared: _Operand) -> None:
        if any(one.column is None and isinstance(one.value, str) for one in compared):
            self.of_texts.update(one.column for one in compared if one.column is not None)

    def _as_truth(self, operand: _Operand) -> Test:
        """A column alone, like ``iscrowd``: its numbers are not 0."""
        if operand.column is None:
            raise self._unexpected(f"a comparison after {operand.shown}")

        def test(columns: Columns) -> Array:
            values = operand.read(columns)
            if _is_text(values):
                raise ParameterError(
                    f"where: column {operand.shown} holds texts, expected a comparison with one"
                )
            with np.errstate(invalid="ignore"):
                return np.asarray((values != 0) & ~np.isnan(np.asarray(values, np.float64)))

        return test

    def _read_operand(self) -> _Operand:
        token = self._next
        sign = ""
        if token.kind == "sign" and token.value in "+-":
            self._at += 1
            sign, token = token.value, self._next
            if token.kind != "number":
                raise self._unexpected("a number")
        if token.kind == "number":
            self._at += 1
            number = float(sign + token.value)
            return _Operand(f"{number:g}", None, number)
        if token.kind == "text":
            self._at += 1
            value = re.sub(r"\\(.)", r"\1", token.value[1:-1])
            return _Operand(repr(value), None, value)
        reserved = token.value.lower() in ("and", "or", "not", "in")
        if token.kind == "quoted" or (token.kind == "name" and not reserved):
            self._at += 1
            self.names.append(token.value)
            return _Operand(str(foreign(token.value)), token.value, token.value)
        raise self._unexpected("a column, a number or a text in quotes")

    def _read_list(self) -> list[_Operand]:
        closing = {"[": "]", "(": ")"}.get(self._take("[", "(") or "")
        if closing is None:
            raise self._unexpected("'['")
        found: list[_Operand] = []
        while not self._take(closing):
            if found and not self._take(","):
                raise self._unexpected(f"',' or '{closing}'")
            if found and self._take(closing):
                break
            found.append(self._read_operand())
            if found[-1].column is not None:
                raise ParameterError(
                    f"where: {found[-1].shown} in a list, expected numbers or texts in quotes"
                )
        return found

    def _unexpected(self, expected: str) -> ParameterError:
        token = self._next
        found = "its end" if token.kind == "end" else repr(str(foreign(token.value)))
        hint = "equality is ==" if token.value == "=" else None
        shown = foreign(self._text.strip())
        return ParameterError(f"where is {str(shown)!r}: found {found}, expected {expected}", hint)


def _split(text: str) -> Iterator[_Token]:
    """The words of a text, and its end."""
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            rest = str(foreign(text[place:].strip()[:20]))
            raise ParameterError(
                f"where: cannot be read from {rest!r} on",
                "texts stand in quotes, names with blanks or signs in them between `backquotes`",
            )
        kind = match.lastgroup or ""
        yield _Token(kind, match[kind], place)
        place = match.end()
    yield _Token("end", "", place)


def _join(operator: Callable[[Array, Array], Array], tests: Sequence[Test]) -> Test:
    def test(columns: Columns) -> Array:
        found = tests[0](columns)
        for one in tests[1:]:
            found = operator(found, one(columns))
        return np.asarray(found)

    return test


def _compares(left: _Operand, sign: str, right: _Operand) -> Test:
    def test(columns: Columns) -> Array:
        values, others = left.read(columns), right.read(columns)
        _check_kinds(left, values, right, others)
        with np.errstate(invalid="ignore"):
            return np.asarray(_COMPARE[sign](values, others))

    return test


def _is_among(left: _Operand, members: Sequence[_Operand], is_not: bool) -> Test:
    def test(columns: Columns) -> Array:
        values = left.read(columns)
        found = np.zeros(values.shape, bool)
        for member in members:
            _check_kinds(left, values, member, np.asarray(member.value))
            found |= np.asarray(values == member.value, bool)
        return ~found if is_not else found

    return test


def _is_text(values: Array) -> bool:
    return values.dtype.kind in "UO"


def _check_kinds(left: _Operand, values: Array, right: _Operand, others: Array) -> None:
    """Raise ParameterError where one side is numbers and the other texts."""
    if _is_text(values) == _is_text(others):
        return
    shown = [_describe(left, _is_text(values)), _describe(right, _is_text(others))]
    raise ParameterError(
        f"where: {shown[0]}, and {shown[1]}",
        "texts stand in quotes and are compared with texts, numbers with numbers",
    )


def _describe(operand: _Operand, is_text: bool) -> str:
    if operand.column is not None:
        return f"column {operand.shown} holds {'texts' if is_text else 'numbers'}"
    return f"{operand.shown} is a {'text' if is_text else 'number'}"
