"""``roicli native``: the compiled kernels of this machine."""

import sys
from typing import Annotated, Unpack

from roicli.cli.console import print_line
from roicli.cli.options import QuietOption
from roicli.core.declaration import Opt
from roicli.core.exceptions import ProviderError
from roicli.core.operator_table import OPERATORS


class NativeCommand(QuietOption, total=False):
    """What ``native`` takes."""

    compile: Annotated[
        bool, Opt("--compile", None, "Compile the kernels that are not compiled yet.", False)
    ]


DTYPES = ("float32", "float64")


def native(**options: Unpack[NativeCommand]) -> None:
    """List the kernels of --provider native, and whether they are compiled on this machine; with
    --compile, compile those that are not, so that no run waits for it.

    Example: roicli native --compile
    """
    from roicli.operators.table import operator_type
    from roicli.render.tables import print_folded
    from roicli.runtime.native import run as kernels

    specs = {name: operator_type(name)() for name in OPERATORS}
    missing = kernels.missing_functions(specs.values(), DTYPES)
    if options["compile"] and missing:
        if not options["quiet"]:
            print_line("note", f"compiling {len(missing)} kernels")
        kernels.compile_functions(missing)
        missing = kernels.missing_functions(specs.values(), DTYPES)
        if missing:
            raise ProviderError(
                "the kernels were compiled, but there is no folder to keep them in",
                "let the package's __pycache__ or the user's cache (XDG_CACHE_HOME) be written",
            )
    users: dict[str, list[str]] = {}
    for name, spec in specs.items():
        for function in kernels.compiled_of(spec).functions:
            users.setdefault(function, []).append(name)
    rows = [
        (function, dtype, "no" if (function, dtype) in missing else "yes", ", ".join(operators))
        for function, operators in users.items()
        for dtype in DTYPES
    ]
    print_folded(("kernel", "dtype", "compiled", "operators"), rows, sys.stdout)
