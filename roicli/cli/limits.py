"""Limits of the system, told from bugs: no memory, no threads, no file descriptors."""

from __future__ import annotations

import errno
import os

from roicli.core.system import limit_of

# Below this the libraries' own code does not fit, and some of them end the process themselves.
LEAST_ADDRESS_SPACE, LEAST_FILES = 192 << 20, 32
NO_ROOM = ("failed to map segment", "annot allocate memory", "Could not find/load shared object")
NO_THREAD = ("can't start new thread", "pthread_create failed")


def find_small_limit() -> str:
    """What to say where the libraries do not even load; empty where they do."""
    limit = limit_of("open files")
    if limit is not None and limit < LEAST_FILES:
        return (
            f"only {limit} open files are allowed, at least {LEAST_FILES} are needed; "
            "raise the limit with ulimit -n"
        )
    limit = limit_of("address space")
    if limit is None or limit >= LEAST_ADDRESS_SPACE:
        return ""
    return (
        f"out of memory: the address space is limited to {limit >> 20} MiB, the libraries need "
        f"{LEAST_ADDRESS_SPACE >> 20} MiB before any data; raise the limit with ulimit -v"
    )


def explain_limit(error: Exception) -> str:
    """One line where a limit of the system stopped the run; empty for anything else."""
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError):
        return f"out of memory: {text or 'an allocation failed'}"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"too many open files: {error.filename or text}; raise the limit with ulimit -n"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return f"out of memory: {text}"
    if isinstance(error, RuntimeError) and any(sign in text for sign in NO_THREAD):
        return (
            "out of memory or processes: no thread can be started; raise the limits with "
            "ulimit -v or ulimit -u, or give fewer --threads"
        )
    is_limited = limit_of("address space") is not None
    if is_limited and isinstance(error, OSError | ImportError) and any(s in text for s in NO_ROOM):
        return f"out of memory: a library cannot be loaded: {text}"
    return ""


def spare_threads() -> None:
    """NumPy's BLAS starts a thread a core, with a buffer each; roicli multiplies small matrices."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
