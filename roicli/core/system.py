"""What differs between operating systems. No other module names a call that one of them lacks.

Linux has all of it. Elsewhere a promise is kept in the nearest way (a flush that reaches the disk,
a lock, a positioned read), and what only saves time or guards against accidents is left out.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import re
import signal
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from types import FrameType
from typing import Any, Literal

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# --- processors and memory ----------------------------------------------------------------------


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# What a process of Python with the libraries takes, and what a machine has, where nothing says it.
USUAL_PROCESS_BYTES = 96 << 20
USUAL_MACHINE_BYTES = 4 << 30


def available_bytes() -> int:
    """Memory that can be taken without swapping: the machine's, or the container's if that is less.

    Linux: MemAvailable and the control groups' limits; macOS: all memory.
    """
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        found = USUAL_MACHINE_BYTES
    with contextlib.suppress(OSError), open("/proc/meminfo", encoding="ascii") as stream:
        for line in stream:
            if line.startswith("MemAvailable:"):
                found = int(line.split()[1]) * 1024
    return min([found, *(_group_room(folder, names) for folder, names in _memory_groups())])


# Limit and use of a control group, version 2 and 1.
GROUP_FILES = {"": ("memory.max", "memory.current"),
               "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}  # fmt: skip
GROUPS = "/sys/fs/cgroup"


def _memory_groups() -> Iterator[tuple[str, tuple[str, str]]]:
    """The folders of this process's memory groups, from its own up to the root."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as stream:
            lines = [line.rstrip("\n").split(":", 2) for line in stream]
    except OSError:
        return
    for _, controllers, path in lines:
        controller = "memory" if "memory" in controllers.split(",") else controllers
        if controller not in GROUP_FILES:
            continue
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):
            yield os.path.join(GROUPS, controller, *parts[:depth]), GROUP_FILES[controller]


def _group_room(folder: str, names: tuple[str, str]) -> int:
    """What a group may still take; what cannot be read sets no limit."""
    try:
        limit, used = (_read_first_line(os.path.join(folder, name)) for name in names)
        cached = 0
        with open(os.path.join(folder, "memory.stat"), encoding="ascii") as stream:
            for line in stream:
                # Pages of files count as used, and go when memory is wanted.
                if line.startswith("inactive_file "):
                    cached = int(line.split()[1])
        return max(int(limit) - int(used) + cached, 0)
    except (OSError, ValueError):
        return sys.maxsize


def _read_first_line(path: str) -> str:
    with open(path, encoding="ascii") as stream:
        return stream.readline().strip()


def _pages_of_this_process(column: int) -> int | None:
    """A number of /proc/self/statm in bytes: 0 is what is mapped, 1 what is resident."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[column]) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError):
        return None


def resident_bytes() -> int:
    """What this process takes now (Linux), or a usual value."""
    found = _pages_of_this_process(1)
    return USUAL_PROCESS_BYTES if found is None else found


Limit = Literal["address space", "file size", "open files"]
_LIMITS = {
    "address space": "RLIMIT_AS",
    "file size": "RLIMIT_FSIZE",
    "open files": "RLIMIT_NOFILE",
}


def limit_of(what: Limit) -> int | None:
    """The limit that the shell or the system set for this process; None where there is none."""
    return None if resource is None else _as_limit(_get_limit(what)[0])


def _get_limit(what: Limit) -> tuple[int, int]:
    return resource.getrlimit(getattr(resource, _LIMITS[what]))


def _as_limit(value: int) -> int | None:
    # File systems and containers also say "no limit" with -1.
    return None if value in (resource.RLIM_INFINITY, -1) else value


def allow_open_files(needed: int) -> int | None:
    """Let this process have ``needed`` files open at once.

    Gives the most that it may have, where that is less; else None.
    """
    if resource is None:
        return None
    soft, hard = map(_as_limit, _get_limit("open files"))
    if soft is None or needed <= soft:
        return None
    if hard is not None and needed > hard:
        return hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, _get_limit("open files")[1]))
    return None


# --- files --------------------------------------------------------------------------------------

# Where a system has no positioned reads and writes, the file's one position is shared.
_position = threading.Lock()
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
_NO_LINK, _NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)


# What a process has open already, by the names that Linux and macOS give it.
_OPEN_END = r"/dev/stdin|/dev/fd/\d+|/proc/(self|\d+)/fd/\d+"


def is_pipe(path: str) -> bool:
    """Whether a path is the open end of a pipe, as a shell's ``<(command)`` is.

    A pipe with a name of its own is none: opening it would wait for a writer.
    """
    if not path.startswith(("/dev/", "/proc/")) or re.fullmatch(_OPEN_END, path) is None:
        return False
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


# Whether reading at an offset leaves alone where others that have the descriptor read.
READS_APART = hasattr(os, "preadv")


def read_at(descriptor: int, view: memoryview, offset: int) -> int:
    """Read into ``view`` from ``offset``, as many bytes as one call gives; 0 at the end."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], offset)
    with _position:
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, len(view))
    view[: len(data)] = data
    return len(data)


def write_at(descriptor: int, data: memoryview, offset: int) -> int:
    """Write ``data`` to ``offset``, as many bytes as one call takes."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, offset)
    with _position:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)


def make_file(path: str, mode: int = 0o666) -> int:
    """A descriptor to read and write a new file. Raises FileExistsError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, mode)


def open_to_write(path: str) -> int:
    """A descriptor to read and write ``path``, which need not exist.

    A symbolic link that somebody put there is not followed: OSError. A pipe is not waited for.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK | _NO_WAIT | _BINARY, 0o666)


def open_to_read(path: str) -> int:
    """A descriptor to read ``path``. Raises OSError."""
    return os.open(path, os.O_RDONLY | _BINARY)


def open_unless_link(path: str) -> int | None:
    """A descriptor to read ``path``; None of a symbolic link, and where no system call tells.

    A pipe is not waited for. Raises OSError.
    """
    if not _NO_LINK:
        return None
    try:
        return os.open(path, os.O_RDONLY | _NO_LINK | _NO_WAIT)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            return None
        raise


def set_mode(descriptor: int, mode: int) -> None:
    """Give an open file a mode, where the system and the file system know of modes."""
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, mode)


def take_mode(descriptor: int, path: str) -> None:
    """Give an open file the mode of another, and its group where that may be given."""
    with contextlib.suppress(OSError):
        like = os.stat(path)
        if hasattr(os, "fchown") and like.st_gid != os.fstat(descriptor).st_gid:
            with contextlib.suppress(OSError):
                os.fchown(descriptor, -1, like.st_gid)
        set_mode(descriptor, stat.S_IMODE(like.st_mode) & 0o777)


def take_room(descriptor: int, offset: int, size: int) -> None:
    """Take the room of ``size`` bytes on the disk, where that can be done.

    A full disk is then found before the run, and writes into allocated room cost a half to a third.
    Raises OSError for a full disk, a quota and a limit only.
    """
    try:
        if size:
            os.posix_fallocate(descriptor, offset, size)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        if os.fstat(descriptor).st_size < offset + size:
            os.ftruncate(descriptor, offset + size)


def flush_data(descriptor: int) -> None:
    """Bring a file's data to the disk."""
    if not _flush_the_drive(descriptor):
        (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(descriptor)


def flush_path(path: str) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    if sys.platform == "win32" and os.path.isdir(path):
        return  # which has no way to open one
    descriptor = open_to_read(path)
    try:
        if not _flush_the_drive(descriptor):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_the_drive(descriptor: int) -> bool:
    """Whether the system has a flush of its own that does not stop at the drive's cache (macOS)."""
    if fcntl is None or not hasattr(fcntl, "F_FULLFSYNC"):
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    except OSError:  # a network's file system has no drive
        return False
    return True


def drop_pages(descriptor: int, offset: int, size: int) -> None:
    """Let go of a file's pages in memory (all for size 0), where the system takes such advice."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)


_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process; False where another holds it.

    The lock ends with the process, however it ends. Raises OSError where the file system or the
    system has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


# Linux has renames that are one step for everybody who looks; Python has no name for that call.
_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
# What says that the call, or the flag, is not known here; a sandbox says EPERM.
_UNKNOWN_CALL = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def rename_to_new(source: str, target: str) -> None:
    """Rename a file or a folder. Raises FileExistsError where something has the name ``target``.

    The second best is a hard link, after which the file has two names for a moment; a folder takes
    no name but that of an empty folder anyhow.
    """
    if _renameat2(source, target, _NOREPLACE):
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except (AttributeError, NotImplementedError, OSError):
        # A folder, or a system or a file system without hard links.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(source, target)
    else:
        os.unlink(source)


def exchange_names(one: str, other: str) -> bool:
    """Give each of two files or folders the name of the other; False where that cannot be done."""
    return _renameat2(one, other, _EXCHANGE)


def _renameat2(source: str, target: str, flag: int) -> bool:
    """Whether the system did it. Raises OSError where it can, and did not."""
    call = _load_renameat2()
    if call is None:
        return False
    import ctypes

    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN_CALL:
        return False
    raise OSError(number, os.strerror(number), source, None, target)


@cache
def _load_renameat2() -> Any:
    """The C library's function; None where it has none."""
    import ctypes

    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # Windows has no library without a name
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return call


# --- files that are run ---------------------------------------------------------------------------

# What others may do with a file that they could otherwise have code run by.
_WRITE_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_PRIVATE_FOLDER, _PRIVATE = 0o700, 0o600
_SHARED_FOLDER, _SHARED = 0o755, 0o644


def read_trusted(folder: str, name: str, is_shared: bool) -> bytes:
    """A file that nobody but this user can have written, nor put into its folder.

    ``is_shared``: root may have, too. No symbolic link is followed to either. Raises OSError.
    Windows has no owners in numbers: there the user's folders are theirs.
    """
    if not hasattr(os, "geteuid"):
        with open(os.path.join(folder, name), "rb") as stream:
            return stream.read()
    with _trusted_folder(folder, is_shared) as directory:
        # A named pipe would be waited for.
        flags = os.O_RDONLY | os.O_NONBLOCK | _NO_LINK
        with open(os.open(name, flags, dir_fd=directory), "rb") as stream:
            _check_trusted(stream.fileno(), name, is_shared)
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise PermissionError(errno.EPERM, "is no regular file", name)
            return stream.read()


def write_trusted(folder: str, name: str, data: bytes, is_shared: bool) -> None:
    """Write a file that ``read_trusted`` reads, in one piece, whatever the umask. Raises OSError.

    A shared one is for all to read; another is this user's alone, and so is its folder.
    """
    _make_folder(folder, _SHARED_FOLDER if is_shared else _PRIVATE_FOLDER)
    temporary = f"{name}.{os.getpid()}"
    if not hasattr(os, "geteuid"):
        with open(os.path.join(folder, temporary), "wb") as stream:
            stream.write(data)
        os.replace(os.path.join(folder, temporary), os.path.join(folder, name))
        return
    with _trusted_folder(folder, is_shared, mends=not is_shared) as directory:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
        try:
            with open(os.open(temporary, flags, _PRIVATE, dir_fd=directory), "wb") as stream:
                os.fchmod(stream.fileno(), _SHARED if is_shared else _PRIVATE)
                stream.write(data)
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
            raise


def _make_folder(folder: str, mode: int) -> None:
    """Make a folder, and those above it that are missing, whatever the umask."""
    if os.path.isdir(folder):
        return
    _make_folder(os.path.dirname(folder), mode)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, mode)
        os.chmod(folder, mode)


@contextlib.contextmanager
def _trusted_folder(folder: str, is_shared: bool, mends: bool = False) -> Iterator[int]:
    """A descriptor of a folder that no other can write, made so where it is this user's own."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK)
    try:
        if mends and os.fstat(directory).st_uid == os.geteuid():
            os.fchmod(directory, _PRIVATE_FOLDER)
        _check_trusted(directory, folder, is_shared)
        yield directory
    finally:
        os.close(directory)


def _check_trusted(descriptor: int, name: str, is_shared: bool) -> None:
    status = os.fstat(descriptor)
    owners = {os.geteuid(), 0} if is_shared else {os.geteuid()}
    if status.st_uid not in owners or status.st_mode & _WRITE_OF_OTHERS:
        raise PermissionError(errno.EPERM, "others can write it", name)


# --- processes and signals ----------------------------------------------------------------------

CAN_FORK = hasattr(os, "fork")
# The signal that ends a child whose time is over.
OUT_OF_TIME = getattr(signal, "SIGPROF", None)
# Seconds of processor time that a child has from one sign of progress to the next; None elsewhere.
_allowance: float | None = None


def start_child(work: Callable[[], None], seconds: float, room: int) -> int:
    """Run ``work`` in a forked child that never comes back from it, and give its number.

    It may compute for ``seconds`` without progress and take ``room`` bytes beyond what this process
    has. A fork copies the program as it is, its handlers and whatever waits to be finalized, so all
    signals are held back until the child has its own handlers, and nothing is collected in it.
    Raises OSError where the system has no process left.
    """
    pid = None
    try:
        with signals_held_back():
            pid = _fork()
            if pid == 0:
                _live(work, seconds, room)
    except BaseException:  # an interruption comes out where signals are let through again
        if pid is not None:
            end_child(pid)
        raise
    return pid


def _fork() -> int:
    with warnings.catch_warnings():
        # Python's and JAX's, of threads in the parent. The child calls HDF5 only, whose lock h5py
        # takes to fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", r"os\.fork\(\)", RuntimeWarning)
        return os.fork()


def _live(work: Callable[[], None], seconds: float, room: int) -> None:
    """The child's whole life. The terminal's Ctrl-C is the parent's to handle."""
    try:
        gc.disable()
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            # Also those of whoever reports crashes of the program, which is not to report this one.
            with contextlib.suppress(OSError):
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the C library's last words
        limit_time(seconds)
        taken = _pages_of_this_process(0)
        if taken is not None:
            _lower_limit(resource.RLIMIT_AS, taken + room)
        _lower_limit(resource.RLIMIT_CORE, 0)
        work()
    finally:
        os._exit(0)


def _lower_limit(kind: int, value: int) -> None:
    """The soft limit, never above the hard one."""
    hard = resource.getrlimit(kind)[1]
    wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (wanted, hard))


def limit_time(seconds: float) -> None:
    """End this child after so many more seconds of processor time, unless it gets more before.

    The timer counts from now on by its own clock. RLIMIT_CPU would need the time used so far, which
    no other clock tells as it is counted there: they drift apart by a second in twenty.
    """
    global _allowance  # noqa: PLW0603 - a child is a process of its own
    _allowance = seconds
    signal.setitimer(signal.ITIMER_PROF, seconds)


def renew_time() -> None:
    """Something was finished: a child's time begins anew. Nothing happens outside a child."""
    if _allowance is not None:
        signal.setitimer(signal.ITIMER_PROF, _allowance)


def end_child(pid: int) -> int | None:
    """End a child and take its wait status; None where somebody else did."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return None


def ending_signal(status: int | None) -> int | None:
    """The number of the signal that ended a child with this wait status; None for any other end."""
    return None if status is None or not os.WIFSIGNALED(status) else os.WTERMSIG(status)


def after_fork(callback: Callable[[], object]) -> None:
    """Call ``callback`` in each forked child of this process, where processes fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


@contextlib.contextmanager
def signals_held_back(*numbers: int) -> Iterator[None]:
    """Signals wait until the block ends; what is started in it has them blocked for good."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers or signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# Signals that end a program; where one has no number here, nothing sends it.
_ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """The handlers of ending signals are called when the block ends, not in it.

    Between a file's making and its being known no signal must raise. Masks do not do that: another
    thread may take the signal, and Python calls the handler in this one all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where handlers are not called
        return
    received: list[tuple[int, FrameType | None]] = []
    found = {number: signal.getsignal(number) for number in _ENDING}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    try:
        for number in handlers:
            signal.signal(number, lambda number, frame: received.append((number, frame)))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in received:
            handlers[number](number, frame)
