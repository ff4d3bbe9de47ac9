"""Frozen records behave as frozen dataclasses do."""

import pickle
from abc import ABC, abstractmethod
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace

import pytest

from roicli.core.record import frozen


class Shared:
    """The same class once as ``frozen`` makes it and once as the standard library does."""

    @staticmethod
    def make(decorate):
        @decorate
        class Size:
            height: int
            width: int = 1
            names: dict = field(default_factory=dict)
            note: str = field(default="", compare=False, repr=False)

        return Size


OURS, THEIRS = Shared.make(frozen), Shared.make(dataclass(frozen=True))


@frozen
class Point:
    """One that pickle finds."""

    x: float
    y: float = 0.0


@pytest.mark.parametrize(
    ("values", "named"),
    [((1,), {}), ((1, 2), {}), ((1, 2, {"a": 3}, "n"), {}), ((), {"width": 2, "height": 1})],
)
def test_fields_are_filled(values, named):
    ours, theirs = OURS(*values, **named), THEIRS(*values, **named)
    assert asdict(ours) == asdict(theirs)
    assert repr(ours).endswith(repr(theirs).rpartition(".")[2])


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((1, 2, {}, "", 5), {}), ((1,), {"height": 1}), ((1,), {"depth": 1})],
)
@pytest.mark.parametrize("cls", [OURS, THEIRS])
def test_other_fields_are_refused(cls, values, named):
    with pytest.raises(TypeError):
        cls(*values, **named)


def test_records_are_values():
    assert OURS(1, 2, note="a") == OURS(1, 2, note="b") != OURS(1, 3)
    assert OURS(1) != THEIRS(1)
    assert len({Point(1), Point(1), Point(2)}) == 2
    assert replace(Point(1), y=2) == Point(1, 2)
    assert pickle.loads(pickle.dumps(Point(1, 2))) == Point(1, 2)
    assert OURS(1).names is not OURS(1).names


def test_records_do_not_change():
    for change in (lambda one: setattr(one, "x", 1), lambda one: delattr(one, "x")):
        with pytest.raises(FrozenInstanceError):
            change(Point(0))


def test_bases_and_what_a_class_says_itself():
    @frozen
    class Base(ABC):
        a: int

        def __post_init__(self):
            assert self.a > 0

        @abstractmethod
        def f(self): ...

    @frozen
    class Derived(Base):
        b: int = 2

        def f(self): ...

        def __repr__(self):
            return "derived"

    assert [one.name for one in fields(Derived)] == ["a", "b"]
    assert repr(Derived(1)) == "derived"
    for cls, value in ((Base, 1), (Derived, 0)):
        with pytest.raises((TypeError, AssertionError)):
            cls(value)
