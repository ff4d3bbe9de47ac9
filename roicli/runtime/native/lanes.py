"""Sixteen channels as one value: the vector operations that Numba's Python has no words for.

A ``Lanes`` value holds the 16 channels of one cell. Written out as LLVM vectors, a running sum or
maximum stays in a register, which Numba's own loops do not reach, for they cannot know that the
arrays do not overlap. LLVM splits the vectors to what the processor has (AVX-512, AVX, SSE, NEON).
None of the operations carries a fast-math flag, so none is fused or reordered.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

from roicli.runtime.native.signatures import LANES


class Lanes(types.Type):
    """The Numba type of 16 values of one float type."""

    def __init__(self, element: Any) -> None:
        super().__init__(name=f"Lanes({element})")
        self.element = element


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """A ``Lanes`` value is an LLVM vector."""

    def __init__(self, manager: Any, kind: Lanes) -> None:
        element = manager.lookup(kind.element).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, LANES))


def _vector_pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Where ``array[index : index + 16]`` lies; ``kind`` is the 1-D array's Numba type."""
    data = context.make_array(kind)(context, builder, array).data
    vector = ir.VectorType(context.get_value_type(kind.dtype), LANES)
    return builder.bitcast(cgutils.gep(builder, data, index), vector.as_pointer())


def _load(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    pointer = _vector_pointer(context, builder, kind, array, index)
    return builder.load(pointer, align=kind.dtype.bitwidth // 8)


def _store(context: Any, builder: Any, kind: Any, array: Any, index: Any, value: Any) -> None:
    pointer = _vector_pointer(context, builder, kind, array, index)
    builder.store(value, pointer, align=kind.dtype.bitwidth // 8)


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """``array[index : index + 16]`` of a 1-D array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _load(context, builder, signature.args[0], *arguments)

    return Lanes(array.dtype)(array, types.intp), generate


@intrinsic
def item(typing: Any, array: Any, index: Any) -> Any:
    """``array[index]`` of a 1-D array for an index that is not negative, at no further cost."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        return builder.load(cgutils.gep(builder, data, arguments[1]))

    return array.dtype(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """``array[index : index + 16] = lanes`` of a 1-D array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _store(context, builder, signature.args[0], *arguments)
        return context.get_dummy_value()

    return types.none(array, types.intp, lanes), generate


@intrinsic
def spread(typing: Any, scalar: Any) -> Any:
    """The scalar in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(context.get_value_type(scalar), LANES)
        first = builder.insert_element(
            ir.Constant(vector, ir.Undefined), arguments[0], ir.Constant(ir.IntType(32), 0)
        )
        return builder.shuffle_vector(first, first, _indices([0] * LANES))

    return Lanes(scalar)(scalar), generate


def _indices(lanes: list[int]) -> Any:
    """The constant that tells ``shuffle_vector`` which lanes to take."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)


def _binary(operation: str) -> Any:
    """An intrinsic of two ``Lanes`` that is one LLVM instruction."""

    def typed(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, operation)(*arguments)

        return left(left, right), generate

    return intrinsic(typed)


add = _binary("fadd")
multiply = _binary("fmul")
divide = _binary("fdiv")


@intrinsic
def maximum(typing: Any, left: Any, right: Any) -> Any:
    """The greater value of each lane (the right one where they cannot be compared)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        greater = builder.fcmp_ordered(">", *arguments)
        return builder.select(greater, *arguments)

    return left(left, right), generate


@intrinsic
def nan_or(typing: Any, value: Any, kept: Any) -> Any:
    """Each lane of ``kept``, or NaN where ``value`` is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, kept = arguments
        is_nan = builder.fcmp_unordered("uno", value, value)
        nan = ir.Constant(value.type, [float("nan")] * LANES)
        return builder.select(is_nan, nan, kept)

    return value(value, kept), generate


@intrinsic
def transpose(
    typing: Any,
    source: Any,
    source_index: Any,
    source_stride: Any,
    last_row: Any,
    target: Any,
    target_index: Any,
    target_stride: Any,
) -> Any:
    """Transpose a tile of 16 x 16 from one 1-D array into another.

    Row i of the tile is the 16 values from ``source_index + min(i, last_row) * source_stride``; its
    column j goes to the 16 values from ``target_index + j * target_stride``. Gives 1 where one of
    the values is NaN or infinite (or two next to each other overflow as a sum), else 0.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, index, stride, last, target, target_index, target_stride = arguments
        rows = []
        for number in range(LANES):
            row = ir.Constant(last.type, number)
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            place = builder.add(index, builder.mul(row, stride))
            rows.append(_load(context, builder, signature.args[0], source, place))
        for number, column in enumerate(_transposed(builder, rows)):
            offset = builder.mul(target_stride, ir.Constant(target_stride.type, number))
            place = builder.add(target_index, offset)
            _store(context, builder, signature.args[4], target, place, column)
        return builder.zext(_has_odd_value(builder, rows), context.get_value_type(whole))

    whole = types.intp
    return whole(source, whole, whole, whole, target, whole, whole), generate


def _has_odd_value(builder: Any, rows: list[Any]) -> Any:
    """Whether a value of 16 vectors is not finite: then the sum with its neighbour minus itself is
    NaN. Four vectors take one comparison, so a finite map pays little for being looked at.
    """
    sums = [builder.fadd(*pair) for pair in zip(rows[::2], rows[1::2], strict=True)]
    zeros = [builder.fsub(total, total) for total in sums]
    odd = None
    for pair in zip(zeros[::2], zeros[1::2], strict=True):
        found = builder.fcmp_unordered("uno", *pair)
        odd = found if odd is None else builder.or_(odd, found)
    bits = builder.bitcast(odd, ir.IntType(LANES))
    return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of 16 vectors, by swapping off-diagonal blocks of 8, 4, 2 and 1 (Eklundh)."""
    half = LANES // 2
    while half:
        upper = [lane if lane & half == 0 else LANES + lane - half for lane in range(LANES)]
        lower = [lane + half if lane & half == 0 else LANES + lane for lane in range(LANES)]
        swapped = list(rows)
        for number in range(LANES):
            if number & half == 0:
                pair = rows[number], rows[number + half]
                swapped[number] = builder.shuffle_vector(*pair, _indices(upper))
                swapped[number + half] = builder.shuffle_vector(*pair, _indices(lower))
        rows, half = swapped, half // 2
    return rows
