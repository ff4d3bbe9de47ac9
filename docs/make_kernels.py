"""Makes the LLVM assembly of the compiled kernels, which the package brings, with Numba.

To be run where a module of ``roicli.runtime.native.assembly.SOURCES`` changed; ``make docs`` does.
"""

import os
from itertools import product

# Numba looks at the processor; what it makes here is for any.
os.environ.update(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")

from roicli.runtime.native.assembly import FILE, function_key, pack_assembly
from roicli.runtime.native.compile import assemble
from roicli.runtime.native.signatures import SIGNATURES

DTYPES = ("float32", "float64")


def main() -> None:
    """Write the assembly of every function."""
    functions = {function_key(*one): assemble(*one) for one in product(SIGNATURES, DTYPES)}
    FILE.write_bytes(pack_assembly(functions))


if __name__ == "__main__":
    main()
