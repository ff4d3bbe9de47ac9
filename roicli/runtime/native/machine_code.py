"""Machine code on disk, and its way into the process: LLVM's linker, without Numba.

Importing Numba takes longer than all of a small run; LLVM's library alone takes a tenth of that.
The code is kept beside the package's own compiled modules, or in the user's cache where those
cannot be written. Its name says for which processor, LLVM and sources it is. It is run, so it is
taken only where nobody but the user, or root in the package, can have written it.
"""

from __future__ import annotations

import ctypes
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm

from roicli.core.system import read_trusted, write_trusted

CHECKSUM_BYTES = 4


def target_machine() -> Any:
    """What LLVM compiles for: the processor of this machine. A linker takes it for its own."""
    return _target().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=_features(), opt=3, reloc="pic"
    )


def any_machine() -> Any:
    """What LLVM compiles for where nothing is known of the processor but its kind."""
    return _target().create_target_machine(opt=3, reloc="pic")


def _target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(llvm.get_process_triple())


@cache
def _features() -> str:
    """What the processor can do; a system that does not say so has LLVM go by its name."""
    with suppress(RuntimeError):
        return str(llvm.get_host_cpu_features().flatten())
    return ""


def find_code(name: str) -> bytes | None:
    """The code kept under ``name``, whole; None where there is none."""
    for folder in _folders():
        with suppress(OSError):
            data = read_trusted(folder.path, _file_name(name), folder.is_shared)
            checksum, code = data[:CHECKSUM_BYTES], data[CHECKSUM_BYTES:]
            if checksum == _checksum(code):
                return code
    return None


def keep_code(name: str, code: bytes) -> None:
    """Keep the code under ``name``, in one piece; where nothing can be written, do not."""
    for folder in _folders():
        with suppress(OSError):
            data = _checksum(code) + code
            write_trusted(folder.path, _file_name(name), data, folder.is_shared)
            return


def build_code(assembly: str) -> tuple[bytes, bool]:
    """Object code for this machine, and whether it needs nothing that is not in it.

    Raises RuntimeError where LLVM does not read the assembly.
    """
    module, machine = llvm.parse_assembly(assembly), target_machine()
    module.triple, module.data_layout = llvm.get_process_triple(), str(machine.target_data)
    module.verify()
    optimize(module, machine, 3)
    declared = [function.name for function in module.functions if function.is_declaration]
    return machine.emit_object(module), all(name.startswith("llvm.") for name in declared)


def optimize(module: Any, machine: Any, level: int) -> None:
    """Optimize a module at LLVM's ``level``, 0 to 3. No level fuses or reorders what is rounded."""
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def load_code(code: bytes, symbol: str) -> tuple[Callable[[int], None], Any]:
    """The C function ``symbol`` of the code, which takes an address, and what keeps it loaded."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # lets go of the interpreter lock
    return kind(engine.get_function_address(symbol)), engine


class Folder(NamedTuple):
    """Where code may lie; a shared folder is the package's, which all users of it read."""

    path: str
    is_shared: bool


def _folders() -> Iterator[Folder]:
    """Where code may lie, the best place first."""
    yield Folder(str(Path(__file__).parent / "__pycache__"), True)
    with suppress(ImportError, RuntimeError):  # a Numba without the extra; nobody's home
        import platformdirs

        cache = platformdirs.user_cache_dir("roicli", appauthor=False)
        if os.path.isabs(cache):  # else an older release took a relative XDG_CACHE_HOME
            yield Folder(cache, False)


def _file_name(name: str) -> str:
    return f"{name}.{_key():08x}.code"


@cache
def _key() -> int:
    """A number that changes with the sources of this package, the processor and LLVM."""
    machine = [llvm.get_process_triple(), llvm.get_host_cpu_name(), _features()]
    key = zlib.crc32(repr([*machine, llvmlite.__version__]).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        key = zlib.crc32(source.read_bytes(), key)
    return key


def _checksum(code: bytes) -> bytes:
    return zlib.crc32(code).to_bytes(CHECKSUM_BYTES, "big")
