"""Renames that are one step for everybody who looks: where nothing has the name, and of two names.

Linux can do both (``renameat2``); Python has no name for that call. Where the system or the file
system cannot, the nearest thing to it is done.
"""

from __future__ import annotations

import errno
import os
from functools import cache
from typing import Any

AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
# What says that the call, or the flag, is not known here; a sandbox says EPERM.
UNKNOWN_CALL = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def rename_to_new(source: str, target: str) -> None:
    """Rename a file or a folder. Raises FileExistsError where something has the name ``target``.

    The second best is a hard link, after which the file has two names for a moment; a folder takes
    no name but that of an empty folder anyhow.
    """
    if _renameat2(source, target, RENAME_NOREPLACE):
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # A folder, or a file system without hard links.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(source, target)
    else:
        os.unlink(source)


def exchange(one: str, other: str) -> bool:
    """Give each of two files or folders the name of the other; False where that cannot be done."""
    return _renameat2(one, other, RENAME_EXCHANGE)


def _renameat2(source: str, target: str, flag: int) -> bool:
    """Whether the system did it. Raises OSError where it can, and did not."""
    call = _load_renameat2()
    if call is None:
        return False
    import ctypes

    if call(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in UNKNOWN_CALL:
        return False
    raise OSError(number, os.strerror(number), source, None, target)


@cache
def _load_renameat2() -> Any:
    """The C library's function; None where it has none."""
    import ctypes

    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library without a name
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return call
