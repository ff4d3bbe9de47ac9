"""One formula, two ways: elementwise arithmetic that NumPy computes or that becomes ONNX nodes.

An operator writes where its bins lie once, over an ``ArrayMath``. With ``NumpyMath`` that gives
arrays, with ``OnnxMath`` the nodes of a graph, operation by operation the same, in the tensors'
float type; so what runs, what is exported, and what checks, explains and draws it cannot disagree.

Values are NumPy arrays or ``Tensor``s. Both have ``+ - * /``, comparisons and ``& | ~``; Python
numbers take the type of what they meet. ``//`` is for whole numbers that are not negative.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from roicli.core.record import frozen
from roicli.core.types import Array, FloatType
from roicli.operators.onnx_graph import Arithmetic, GraphBuilder
from roicli.operators.onnx_protobuf import ELEMENT_TYPES
from roicli.operators.rounding import round_half_away

# A NumPy array or a Tensor.
Value = Any


class ArrayMath(Protocol):
    """What formulas are written in, besides the operators of their values."""

    def number(self, value: float) -> Value:
        """A real number, in the tensors' float type."""

    def counting(self, count: int | Value, axis: int) -> Value:
        """0, 1, ... ``count`` - 1, whole, along one of five axes; a count may be a scalar value."""

    def real(self, value: Value) -> Value:
        """Whole numbers as real ones."""

    def whole(self, value: Value) -> Value:
        """Real numbers cut to whole ones, towards 0."""

    def double(self) -> ArrayMath:
        """The same in float64: its ``real`` takes a value over, ``exact`` here gives it back."""

    def exact(self, value: Value) -> Value:
        """A real number that weights are computed from: float64 for a reference."""

    def floor(self, value: Value) -> Value:
        """The whole number below, real."""

    def ceil(self, value: Value) -> Value:
        """The whole number above, real."""

    def round_half_away(self, value: Value) -> Value:
        """The nearest whole number, halves away from zero, as C's ``round``; real."""

    def round_half_even(self, value: Value) -> Value:
        """The nearest whole number, halves to the even one, as Python's ``round``; real."""

    def cos_sin(self, angle: Value, radians: float) -> tuple[Value, Value]:
        """Cosine and sine of an angle in units of ``radians``, in float64 and rounded once."""

    def minimum(self, one: Value, other: Value) -> Value:
        """The smaller."""

    def maximum(self, one: Value, other: Value) -> Value:
        """The greater."""

    def where(self, condition: Value, one: Value, other: Value) -> Value:
        """``one`` where the condition holds, else ``other``."""

    def largest(self, value: Value) -> Value:
        """The greatest of all, a scalar; at least 1."""

    def how_many(self, condition: Value) -> Value:
        """For how many samples of each bin, the last two of five axes, it holds; whole."""


@frozen
class NumpyMath:
    """NumPy arrays in ``dtype``; weights in float64 where ``is_exact``."""

    dtype: FloatType
    is_exact: bool = False

    def number(self, value: float) -> Value:
        return self.dtype.type(value)

    def counting(self, count: int | Value, axis: int) -> Value:
        return np.arange(int(count)).reshape(tuple(-1 if a == axis else 1 for a in range(5)))

    def real(self, value: Value) -> Value:
        return np.asarray(value).astype(self.dtype)

    def whole(self, value: Value) -> Value:
        return np.asarray(value).astype(np.int64)

    def double(self) -> ArrayMath:
        return NumpyMath(np.dtype(np.float64), True)

    def exact(self, value: Value) -> Value:
        return np.asarray(value).astype(np.float64 if self.is_exact else self.dtype)

    def floor(self, value: Value) -> Value:
        return np.floor(value)

    def ceil(self, value: Value) -> Value:
        return np.ceil(value)

    def round_half_away(self, value: Value) -> Value:
        return round_half_away(value)

    def round_half_even(self, value: Value) -> Value:
        return np.rint(value)

    def cos_sin(self, angle: Value, radians: float) -> tuple[Value, Value]:
        exact = np.asarray(angle, np.float64) * radians
        return np.cos(exact).astype(self.dtype), np.sin(exact).astype(self.dtype)

    def minimum(self, one: Value, other: Value) -> Value:
        return np.minimum(one, other)

    def maximum(self, one: Value, other: Value) -> Value:
        return np.maximum(one, other)

    def where(self, condition: Value, one: Value, other: Value) -> Value:
        return np.where(condition, one, other)

    def largest(self, value: Value) -> Value:
        return max(int(np.max(value, initial=1)), 1)

    def how_many(self, condition: Value) -> Value:
        return np.sum(condition, axis=(3, 4), keepdims=True, dtype=np.int64)


class Tensor:
    """A value of a graph by its name; arithmetic on it adds nodes."""

    def __init__(self, math: OnnxMath, name: str, is_whole: bool) -> None:
        self.math, self.name, self.is_whole = math, name, is_whole

    def _add(self, op_type: str, other: Value, swap: bool = False, truth: bool = False) -> Tensor:
        names = [self.name, self.math.like(other, self).name]
        name = self.math.builder.add(op_type, *(names[::-1] if swap else names))
        return Tensor(self.math, name, self.is_whole and not truth)

    def __add__(self, other: Value) -> Tensor:
        return self._add("Add", other)

    def __radd__(self, other: Value) -> Tensor:
        return self._add("Add", other, swap=True)

    def __sub__(self, other: Value) -> Tensor:
        return self._add("Sub", other)

    def __rsub__(self, other: Value) -> Tensor:
        return self._add("Sub", other, swap=True)

    def __mul__(self, other: Value) -> Tensor:
        return self._add("Mul", other)

    def __rmul__(self, other: Value) -> Tensor:
        return self._add("Mul", other, swap=True)

    def __truediv__(self, other: Value) -> Tensor:
        assert not self.is_whole
        return self._add("Div", other)

    def __rtruediv__(self, other: Value) -> Tensor:
        assert not self.is_whole
        return self._add("Div", other, swap=True)

    def __floordiv__(self, other: Value) -> Tensor:
        assert self.is_whole
        return self._add("Div", other)

    def __lt__(self, other: Value) -> Tensor:
        return self._add("Less", other, truth=True)

    def __le__(self, other: Value) -> Tensor:
        return self._add("LessOrEqual", other, truth=True)

    def __gt__(self, other: Value) -> Tensor:
        return self._add("Greater", other, truth=True)

    def __ge__(self, other: Value) -> Tensor:
        return self._add("GreaterOrEqual", other, truth=True)

    def __and__(self, other: Tensor) -> Tensor:
        return self._add("And", other, truth=True)

    def __or__(self, other: Tensor) -> Tensor:
        return self._add("Or", other, truth=True)

    def __invert__(self) -> Tensor:
        return Tensor(self.math, self.math.builder.add("Not", self.name), False)


class OnnxMath:
    """Nodes of a graph; a value's truth is neither whole nor real."""

    def __init__(self, builder: GraphBuilder, dtype: FloatType) -> None:
        self.builder, self.dtype = builder, dtype
        self._math = Arithmetic(builder, dtype)

    def like(self, value: Value, other: Tensor) -> Tensor:
        """A Python number as a constant of the other's type; a tensor as it is."""
        if isinstance(value, Tensor):
            return value
        kind = np.dtype(np.int64) if other.is_whole else self.dtype
        return Tensor(self, self.builder.constant(np.asarray(value).astype(kind)), other.is_whole)

    def number(self, value: float) -> Value:
        return Tensor(self, self._math.number(value), False)

    def constant(self, values: Array) -> Tensor:
        """Whole numbers."""
        return Tensor(self, self.builder.constant(values.astype(np.int64)), True)

    def counting(self, count: int | Value, axis: int) -> Value:
        if not isinstance(count, Tensor):
            return self.constant(NumpyMath(self.dtype).counting(count, axis))
        zero, one = (self.builder.constant(np.array(value, np.int64)) for value in (0, 1))
        line = self.builder.add("Range", zero, count.name, one)
        others = self.builder.integers(*(other for other in range(5) if other != axis))
        return Tensor(self, self.builder.add("Unsqueeze", line, others), True)

    def _map(self, op_type: str, value: Tensor) -> Tensor:
        return Tensor(self, self.builder.add(op_type, value.name), value.is_whole)

    def real(self, value: Value) -> Value:
        return Tensor(self, self._math.real(value.name), False)

    def whole(self, value: Value) -> Value:
        return Tensor(self, self._math.whole(value.name), True)

    def double(self) -> ArrayMath:
        return OnnxMath(self.builder, np.dtype(np.float64))

    def exact(self, value: Value) -> Value:
        is_own = value.math.dtype == self.dtype
        return value if is_own else Tensor(self, self._math.real(value.name), False)

    def floor(self, value: Value) -> Value:
        return self._map("Floor", value)

    def ceil(self, value: Value) -> Value:
        return self._map("Ceil", value)

    def round_half_away(self, value: Value) -> Value:
        return Tensor(self, self._math.round_half_away(value.name), False)

    def round_half_even(self, value: Value) -> Value:
        return self._map("Round", value)

    def cos_sin(self, angle: Value, radians: float) -> tuple[Value, Value]:
        add = self.builder.add
        wide = add("Cast", angle.name, to=ELEMENT_TYPES["float64"])
        wide = add("Mul", wide, self.builder.constant(np.array(radians, np.float64)))
        cosine, sine = (
            add("Cast", add(name, wide), to=ELEMENT_TYPES[self.dtype.name])
            for name in ("Cos", "Sin")
        )
        return Tensor(self, cosine, False), Tensor(self, sine, False)

    def _join(self, op_type: str, one: Value, other: Value) -> Tensor:
        known = one if isinstance(one, Tensor) else other
        names = (self.like(value, known).name for value in (one, other))
        return Tensor(self, self.builder.add(op_type, *names), known.is_whole)

    def minimum(self, one: Value, other: Value) -> Value:
        return self._join("Min", one, other)

    def maximum(self, one: Value, other: Value) -> Value:
        return self._join("Max", one, other)

    def where(self, condition: Value, one: Value, other: Value) -> Value:
        known = one if isinstance(one, Tensor) else other
        if not isinstance(known, Tensor):
            known = self.number(0)
        names = (self.like(value, known).name for value in (one, other))
        name = self.builder.add("Where", condition.name, *names)
        return Tensor(self, name, known.is_whole)

    def largest(self, value: Value) -> Value:
        add, integers = self.builder.add, self.builder.integers
        # Without RoIs there is no greatest, so a 1 stands beside them.
        flat = add("Concat", add("Reshape", value.name, integers(-1)), integers(1), axis=0)
        return Tensor(self, self.builder.reduce("ReduceMax", flat), True)

    def how_many(self, condition: Value) -> Value:
        add = self.builder.add
        ones = add("Cast", condition.name, to=ELEMENT_TYPES["int64"])
        return Tensor(self, add("ReduceSum", ones, self.builder.integers(3, 4)), True)
