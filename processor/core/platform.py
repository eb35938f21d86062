"""What differs between operating systems. Other modules use these names only, never those of the system.

Each has a fallback where a system lacks it. Nothing slow is imported at the top, because every command imports this.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Lock
from time import sleep
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


def _optional(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ImportError:
        return None


_fcntl, _msvcrt, _resource = _optional("fcntl"), _optional("msvcrt"), _optional("resource")

# ---------------------------------------------------------------- files

OPEN_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""For ``os.open``: other programs do not inherit the file, and Windows does not translate line ends."""

HAS_FILE_LOCKS = _fcntl is not None or _msvcrt is not None

WINDOWS_LOCK_AT = 2**30
"""Windows locks a range of bytes against reading, too: this one lies beyond the end of the file."""

REPLACE_ATTEMPTS = 20
REPLACE_INTERVAL_S = 0.05
"""Windows refuses to replace a file while an indexer or a virus scanner has it open."""

_seek_lock = Lock()


def try_lock(file_descriptor: int) -> bool:
    """Takes the exclusive lock of an open file; False where another process holds it. Closing the file releases it.

    Without any kind of lock on the system it is always granted: see HAS_FILE_LOCKS. A file that is created as a lock
    would outlive a killed process, and keep the next run from starting.
    """
    try:
        if _fcntl is not None:
            _fcntl.flock(file_descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        elif _msvcrt is not None:
            os.lseek(file_descriptor, WINDOWS_LOCK_AT, os.SEEK_SET)
            _msvcrt.locking(file_descriptor, _msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            raise
        return False
    return True


def read_at(file_descriptor: int, size: int, at: int) -> bytes:
    """Reads up to ``size`` bytes from position ``at``."""
    if hasattr(os, "pread"):
        return os.pread(file_descriptor, size, at)
    with _position(file_descriptor, at):
        return os.read(file_descriptor, size)


def write_at(file_descriptor: int, data: bytes, at: int) -> int:
    """Writes from position ``at``. Returns how many bytes were written."""
    if hasattr(os, "pwrite"):
        return os.pwrite(file_descriptor, data, at)
    with _position(file_descriptor, at):
        return os.write(file_descriptor, data)


@contextmanager
def _position(file_descriptor: int, at: int) -> Iterator[None]:
    """Moves the file's position for the time of the body. Other processes that share the file may notice."""
    with _seek_lock:
        before = os.lseek(file_descriptor, 0, os.SEEK_CUR)
        os.lseek(file_descriptor, at, os.SEEK_SET)
        try:
            yield
        finally:
            os.lseek(file_descriptor, before, os.SEEK_SET)


def sync_file(file_descriptor: int) -> None:
    """Returns when everything written to the file survives a loss of power.

    On macOS ``fsync`` leaves the data in the cache of the drive, and some file systems refuse F_FULLFSYNC:
    https://developer.apple.com/library/archive/documentation/System/Conceptual/ManPages_iPhoneOS/man2/fsync.2.html
    """
    command = getattr(_fcntl, "F_FULLFSYNC", None)
    if _fcntl is not None and command is not None:
        with suppress(OSError):
            _fcntl.fcntl(file_descriptor, command)
            return
    os.fsync(file_descriptor)


def sync_folder(folder: Path) -> None:
    """Returns when the names in a folder survive a loss of power. Windows cannot open a folder, and syncs it itself."""
    if os.name == "nt":
        return
    file_descriptor = os.open(folder, os.O_RDONLY | OPEN_FLAGS)
    try:
        os.fsync(file_descriptor)
    finally:
        os.close(file_descriptor)


def replace_file(source: Path, target: Path) -> None:
    """Renames ``source`` to ``target`` in one step. The program itself has neither of them open."""
    for _ in range(REPLACE_ATTEMPTS if os.name == "nt" else 0):
        with suppress(PermissionError):
            source.replace(target)
            return
        sleep(REPLACE_INTERVAL_S)
    source.replace(target)


def free_bytes(folder: Path) -> int:
    """The space on the disk that this user may still use."""
    if hasattr(os, "statvfs"):
        disk = os.statvfs(folder)
        return disk.f_bavail * disk.f_frsize
    import shutil

    return shutil.disk_usage(folder).free


# ---------------------------------------------------------------- limits of the process


def open_file_limits() -> tuple[float, float] | None:
    """The soft and the hard limit on open files, ``inf`` for none; None where the system does not tell."""
    if _resource is None:
        return None
    soft, hard = _resource.getrlimit(_resource.RLIMIT_NOFILE)
    return tuple(float("inf") if limit == _resource.RLIM_INFINITY else limit for limit in (soft, hard))  # type: ignore[return-value]


def set_open_file_limit(soft: float) -> bool:
    """Sets the soft limit on open files; returns whether the system allowed it."""
    if _resource is None:
        return False
    _, hard = _resource.getrlimit(_resource.RLIMIT_NOFILE)
    try:
        _resource.setrlimit(
            _resource.RLIMIT_NOFILE, (_resource.RLIM_INFINITY if soft == float("inf") else int(soft), hard)
        )
    except (OSError, ValueError):  # macOS has a maximum below a hard limit of "unlimited"
        return False
    return True


def available_cpus() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# ---------------------------------------------------------------- processes and signals

SIGUSR1: int | None = getattr(signal, "SIGUSR1", None)
"""The signal that asks a run for its status; None where the system has none to spare."""

SIGWINCH: int | None = getattr(signal, "SIGWINCH", None)
"""The signal that says that the size of the terminal has changed."""

SIGHUP: int | None = getattr(signal, "SIGHUP", None)
"""The signal that says that the terminal is gone; None where the system has no such signal."""


def is_ignored(number: int) -> bool:
    """Whether whoever started the program has it ignore this signal, as ``nohup`` does with SIGHUP."""
    return signal.getsignal(number) == signal.SIG_IGN


def can_inherit_files() -> bool:
    """Whether another process can be given open files, and read them without moving their position here."""
    return os.name == "posix" and hasattr(os, "pread")


def inherit_files(file_descriptors: Sequence[int]) -> dict[str, Any]:
    """The options of ``subprocess.Popen`` that pass these files on, where ``can_inherit_files``."""
    return {"pass_fds": tuple(file_descriptors)}


@contextmanager
def signal_handlers(callbacks: Mapping[int, Callable[[], object]]) -> Iterator[None]:
    """Calls a callback in the running event loop when its signal arrives. Restores the previous handlers."""
    import asyncio

    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in callbacks}
    for number, callback in callbacks.items():
        try:
            loop.add_signal_handler(number, callback)
        except NotImplementedError:  # on Windows
            _call_on_signal(loop, number, callback)
    try:
        yield
    finally:
        for number, handler in previous.items():
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _call_on_signal(loop: AbstractEventLoop, number: int, callback: Callable[[], object]) -> None:
    signal.signal(number, lambda *_: loop.call_soon_threadsafe(callback))


@contextmanager
def own_wakeup_descriptor() -> Iterator[None]:
    """Restores the descriptor that signals of this process wake up, which an event loop replaces. Main thread only."""
    previous = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous, warn_on_full_buffer=False)


# ---------------------------------------------------------------- event loop and sockets


def event_loop_factory() -> Callable[[], AbstractEventLoop]:
    """Makes the fastest event loop there is: uvloop's, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        import asyncio

        return asyncio.new_event_loop
    return uvloop.new_event_loop


def receive_threshold_setter() -> Callable[[int, int], None] | None:
    """A function of a socket's descriptor and a number of bytes: the socket is readable only when so many have come.

    None where there is no SO_RCVLOWAT. The C library is called directly: uvloop makes a socket object for each call,
    which takes four times as long, and a socket object of our own would close the descriptor when it is freed, even if
    another socket has it by then.
    """
    import socket

    option = getattr(socket, "SO_RCVLOWAT", None)
    if option is None or sys.platform == "win32":
        return None
    try:
        import ctypes

        setsockopt = ctypes.PyDLL(None).setsockopt
    except (ImportError, OSError, AttributeError):
        return None
    setsockopt.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
    level, size_of, by_reference, c_int = socket.SOL_SOCKET, ctypes.sizeof(ctypes.c_int), ctypes.byref, ctypes.c_int
    values: dict[int, Any] = {}

    def set_threshold(socket_fd: int, size: int) -> None:
        # Fails where the socket is closed, which needs no wake-up.
        value = values.get(size)
        if value is None:
            value = values[size] = c_int(size)
        setsockopt(socket_fd, level, option, by_reference(value), size_of)

    return set_threshold


def kill_group(process_id: int) -> None:
    """Kills a process that leads a group of its own, and what it has started. On Windows the process alone."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process_id, signal.SIGKILL)
        else:
            os.kill(process_id, signal.SIGTERM)


def has_unread_bytes(socket_fd: int) -> bool:
    """Whether the kernel holds bytes, or the end of the stream, that were not read. False where it cannot be asked."""
    if (make_poll := getattr(select, "poll", None)) is None:
        return False
    poll = make_poll()
    poll.register(socket_fd, select.POLLIN)
    return bool(poll.poll(0))
