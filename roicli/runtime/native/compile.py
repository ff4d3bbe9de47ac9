"""The compiled functions as LLVM assembly that needs neither Numba nor Python.

Numba compiles each function behind a C function of one pointer (``signatures``). What that needs of
Python is what handles errors, of which these functions raise none: LLVM drops it once it may look
at all of the code at once. ``assembly`` has what the package brings of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import cfunc, from_dtype, types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from roicli.runtime.native.align import align_blocks, plan_align
from roicli.runtime.native.machine_code import any_machine, optimize
from roicli.runtime.native.pool import pool_blocks
from roicli.runtime.native.signatures import SIGNATURES, WHOLE, ArrayKind
from roicli.runtime.native.weigh import weigh_blocks

FUNCTIONS = {
    "plan_align": plan_align,
    "align_blocks": align_blocks,
    "pool_blocks": pool_blocks,
    "weigh_blocks": weigh_blocks,
}
SLOT = ir.IntType(64)
# What would tie assembly to a machine, a file or this LLVM: others do not know all attributes, and
# find out by themselves what they say.
NOT_OF_THE_FUNCTION = re.compile(
    r"^(?:; ModuleID|source_filename|target |; Function Attrs|attributes #).*\n"
    r"| #\d+(?=(?: \{)?$)| captures\(none\)",
    re.MULTILINE,
)


def assemble(name: str, dtype: str) -> str:
    """The LLVM assembly of a function for maps of ``dtype``, for no processor in particular.

    Its symbol is ``name``, and nothing else is called from outside. Takes seconds.
    """
    function = FUNCTIONS[name]
    take = _taker(_numba_type(SIGNATURES[name], from_dtype(np.dtype(dtype))))

    def entry(slots: Any) -> None:
        function(*take(slots))

    signature = types.void(types.CPointer(types.int64))
    with _little_optimization():
        compiled = cfunc(signature, error_model="numpy")(entry)
    module = llvm.parse_assembly(compiled.inspect_llvm())
    module.get_function(compiled.native_name).name = name
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != name:
            value.linkage = llvm.Linkage.internal
    optimize(module, any_machine(), 1)
    return NOT_OF_THE_FUNCTION.sub("", str(module))


@contextmanager
def _little_optimization() -> Iterator[None]:
    """Numba optimizes every function alone, and again in its callers; here it is done at the end,
    to all of the code at once. That is a quarter of the time.
    """
    before = config.OPT
    config.OPT = type(before)(1)
    try:
        yield
    finally:
        config.OPT = before


def _numba_type(kind: Any, real: Any) -> Any:
    """The Numba type of what has this kind."""
    if kind is WHOLE:
        return types.int64
    if isinstance(kind, ArrayKind):
        element = real if kind.element == "real" else getattr(types, kind.element)
        return types.Array(element, kind.dimensions, "C")
    fields = [_numba_type(field, real) for field in kind]
    return types.NamedTuple(fields, type(kind)) if hasattr(kind, "_fields") else types.Tuple(fields)


def _taker(wanted: Any) -> Any:
    """An intrinsic that makes a value of the Numba type ``wanted`` of the slots at a pointer."""

    @intrinsic
    def take(typing: Any, slots: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _build(context, builder, wanted, _load_slots(builder, arguments[0]))

        return wanted(slots), generate

    return take


def _load_slots(builder: Any, slots: Any) -> Iterator[Any]:
    """Slot after slot."""
    for number in count():
        yield builder.load(cgutils.gep(builder, slots, number))


def _build(context: Any, builder: Any, wanted: Any, slots: Iterator[Any]) -> Any:
    """A value of the Numba type ``wanted`` from the next slots, as ``signatures`` lays them out."""
    if isinstance(wanted, types.Integer):
        return next(slots)
    if not isinstance(wanted, types.Array):
        fields = [_build(context, builder, field, slots) for field in wanted]
        return context.make_tuple(builder, wanted, fields)
    element = context.get_value_type(wanted.dtype)
    data = builder.inttoptr(next(slots), element.as_pointer())
    shape = [next(slots) for _ in range(wanted.ndim)]
    item = ir.Constant(SLOT, wanted.dtype.bitwidth // 8)
    strides = [item]
    for side in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], side))
    array = make_array(wanted)(context, builder)
    populate_array(array, data, shape, strides, item, meminfo=None)
    return array._getvalue()
