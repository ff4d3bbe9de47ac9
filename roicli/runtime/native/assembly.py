"""The LLVM assembly of the compiled functions that the package brings, as Numba made it.

From it LLVM makes code for this processor in tenths of a second, where Numba takes seconds for what
comes before. It is of no processor in particular, but for pointers of 8 bytes whose lowest comes
first. It is taken only where it was made from the sources that are here; ``docs/make_kernels.py``
makes it.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

# The modules that say what the compiled functions do.
SOURCES = ("align", "compile", "lanes", "pack", "pool", "signatures", "weigh")
FOLDER = Path(__file__).parent
FILE = FOLDER / "assembly.json.xz"


def find_assembly(name: str, dtype: str) -> str | None:
    """The assembly of a function for maps of ``dtype``, or None where there is none for here."""
    if sys.byteorder != "little" or struct.calcsize("P") != 8:
        return None
    return _read().get(function_key(name, dtype))


def function_key(name: str, dtype: str) -> str:
    """What a function for maps of ``dtype`` is called, in the file and on disk."""
    return f"{name}_{dtype}"


def pack_assembly(functions: dict[str, str]) -> bytes:
    """The file's bytes for the assembly of functions by key."""
    import lzma

    content = json.dumps({"sources": sources_checksum(), "functions": functions}, sort_keys=True)
    return lzma.compress(content.encode(), preset=9 | lzma.PRESET_EXTREME)


def sources_checksum() -> int:
    """A number that changes with what the compiled functions do."""
    checksum = 0
    for name in SOURCES:
        checksum = zlib.crc32((FOLDER / f"{name}.py").read_bytes(), checksum)
    return checksum


@cache
def _read() -> dict[str, str]:
    """The assembly of these sources by key; empty where there is none."""
    with suppress(ImportError, OSError, EOFError, ValueError):  # a Python without lzma; damage
        import lzma

        with suppress(lzma.LZMAError):
            content = json.loads(lzma.decompress(FILE.read_bytes()))
            if content["sources"] == sources_checksum():
                functions: dict[str, str] = content["functions"]
                return functions
    return {}
