"""What differs between systems, with each part of the system taken away; and that no other module uses it directly."""

from __future__ import annotations

import ast
import asyncio
import errno
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from processor.core import platform

PACKAGE = Path(__file__).parents[3] / "processor"

SYSTEM_MODULES = frozenset({"fcntl", "msvcrt", "resource", "ctypes", "uvloop", "pwd", "termios"})
SYSTEM_NAMES = frozenset(
    {
        *("F_FULLFSYNC", "O_BINARY", "O_CLOEXEC", "PyDLL", "SIGUSR1", "SO_RCVLOWAT", "add_signal_handler", "flock"),
        *("fsync", "getrlimit", "pass_fds", "pread", "pwrite", "sched_getaffinity", "setrlimit", "statvfs"),
    }
)

SYSTEM_WORDS = re.compile("|".join([*SYSTEM_MODULES, *SYSTEM_NAMES, r"\.replace\("]))
"""Only a file with one of these is worth parsing."""


def system_names(path: Path) -> Iterator[str]:
    """What a file uses that some systems do not have."""
    source = path.read_text(encoding="utf-8")
    if not SYSTEM_WORDS.search(source):
        return
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from SYSTEM_MODULES.intersection(alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names):
                yield from SYSTEM_MODULES.intersection([module])
                yield from SYSTEM_NAMES.intersection(alias.name for alias in names)
            case ast.Call(func=ast.Attribute(attr="replace"), args=[_], keywords=[]):
                yield "replace"  # of a path: that of a text takes two arguments
            case ast.Attribute(value=ast.Name(id="platform")):
                pass
            case ast.Attribute(attr=name) | ast.keyword(arg=name) if name in SYSTEM_NAMES:
                assert name
                yield name


FSYNC_SETTINGS = {"outputs.py"}
"""Where an attribute of that name is no system call: the scheduler's setting of when rows are synced."""


def test_no_module_uses_what_some_systems_lack() -> None:
    found = [
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "platform.py"
        for name in system_names(path)
        if not (name == "fsync" and path.name in FSYNC_SETTINGS)
    ]
    assert found == []


def test_platform_module_uses_them() -> None:
    assert {"SIGUSR1", "add_signal_handler", "fsync", "pread"} <= SYSTEM_NAMES
    assert {"add_signal_handler", "pread", "pwrite", "statvfs", "replace"} <= set(
        system_names(PACKAGE / "core" / "platform.py")
    )


# ---------------------------------------------------------------- files


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    """The descriptor of a file with the ten digits."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def take(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Takes a function of ``os`` away."""
    monkeypatch.delattr(os, name)


@pytest.mark.parametrize("has_positioned_io", [True, False])
def test_reads_and_writes_at_a_position_leave_the_position_of_the_file(
    opened: int, monkeypatch: pytest.MonkeyPatch, has_positioned_io: bool
) -> None:
    if not has_positioned_io:
        take(monkeypatch, "pread")
        take(monkeypatch, "pwrite")
    os.lseek(opened, 3, os.SEEK_SET)
    assert platform.read_at(opened, 4, 5) == b"5678"
    assert platform.read_at(opened, 40, 8) == b"89"
    assert platform.write_at(opened, b"ab", 9) == 2
    assert os.read(opened, 100) == b"3456789ab"[:6] + b"ab"


class FakeWindowsLocks:
    """``msvcrt``, as far as it is used: another process holds the byte, or not."""

    LK_NBLCK = 2

    def __init__(self, error: OSError | None) -> None:
        self.error = error
        self.locked: list[tuple[int, int]] = []

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert mode == self.LK_NBLCK
        if self.error:
            raise self.error
        self.locked.append((os.lseek(descriptor, 0, os.SEEK_CUR), count))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EDEADLK])
def test_windows_lock_is_refused_while_another_process_holds_it(
    opened: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(platform, "_fcntl", None)
    monkeypatch.setattr(platform, "_msvcrt", FakeWindowsLocks(OSError(code, "held")))
    assert not platform.try_lock(opened)


def test_windows_lock_lies_beyond_the_end_of_the_file(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = FakeWindowsLocks(None)
    monkeypatch.setattr(platform, "_fcntl", None)
    monkeypatch.setattr(platform, "_msvcrt", windows)
    assert platform.try_lock(opened)
    assert windows.locked == [(platform.WINDOWS_LOCK_AT, 1)]


def test_lock_error_of_the_file_system_is_raised(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "_fcntl", None)
    monkeypatch.setattr(platform, "_msvcrt", FakeWindowsLocks(OSError(errno.ENOLCK, "no locks available")))
    with pytest.raises(OSError, match="no locks available"):
        platform.try_lock(opened)


def test_every_lock_is_granted_where_the_system_has_none(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "_fcntl", None)
    assert platform.try_lock(opened)
    assert platform.try_lock(opened)


def test_lock_is_exclusive(opened: int, tmp_path: Path) -> None:
    other = os.open(tmp_path / "file", os.O_RDWR)
    assert platform.try_lock(opened)
    assert not platform.try_lock(other)
    os.close(other)


@pytest.mark.parametrize("is_refused", [False, True])
def test_macos_syncs_through_the_cache_of_the_drive(
    opened: int, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    calls: list[str] = []

    def fcntl(descriptor: int, command: int) -> None:
        calls.append(f"fcntl {command}")
        if is_refused:
            raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(platform, "_fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=fcntl))
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("fsync"))
    platform.sync_file(opened)
    assert calls == (["fcntl 51", "fsync"] if is_refused else ["fcntl 51"])


def test_windows_folder_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("synced"))
    monkeypatch.setattr(os, "name", "nt")
    platform.sync_folder(tmp_path)


@pytest.mark.parametrize(("refusals", "succeeds"), [(0, True), (3, True), (platform.REPLACE_ATTEMPTS + 1, False)])
def test_windows_file_that_another_program_has_open_is_replaced_a_moment_later(
    monkeypatch: pytest.MonkeyPatch, refusals: int, succeeds: bool
) -> None:
    class Source:
        left = refusals

        def replace(self, target: object) -> None:
            if self.left:
                self.left -= 1
                raise PermissionError(errno.EACCES, "used by another process")

    waits: list[float] = []
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(platform, "sleep", waits.append)
    if succeeds:
        platform.replace_file(Source(), "target")  # type: ignore[arg-type]
    else:
        with pytest.raises(PermissionError):
            platform.replace_file(Source(), "target")  # type: ignore[arg-type]
    assert len(waits) == min(refusals, platform.REPLACE_ATTEMPTS)


def test_free_space_is_known_without_statvfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=123))
    assert platform.free_bytes(tmp_path) > 123
    take(monkeypatch, "statvfs")
    assert platform.free_bytes(tmp_path) == 123


# ---------------------------------------------------------------- the process


def test_open_file_limit_is_unknown_without_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    assert platform.open_file_limits() is not None
    monkeypatch.setattr(platform, "_resource", None)
    assert platform.open_file_limits() is None
    assert not platform.set_open_file_limit(100)


def test_open_file_limit_that_the_system_refuses_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(resource: int, limits: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr("resource.setrlimit", refuse)
    assert not platform.set_open_file_limit(100)


def test_files_are_not_inherited_where_reading_them_would_move_their_position(monkeypatch: pytest.MonkeyPatch) -> None:
    assert platform.can_inherit_files()
    take(monkeypatch, "pread")
    assert not platform.can_inherit_files()


@pytest.mark.parametrize("factory", ["installed", "plain", "without handlers"])
def test_signal_calls_its_callback_in_the_loop_and_the_handler_is_restored(
    monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    def missing(self: object, *arguments: object) -> None:
        raise NotImplementedError

    loop = platform.event_loop_factory()() if factory == "installed" else asyncio.new_event_loop()
    if factory == "without handlers":
        monkeypatch.setattr(type(loop), "add_signal_handler", missing)
        monkeypatch.setattr(type(loop), "remove_signal_handler", missing)
    before = signal.getsignal(signal.SIGTERM)

    async def wait_for_signal() -> None:
        arrived = asyncio.Event()
        with platform.signal_handlers({signal.SIGTERM: arrived.set}):
            loop.call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(arrived.wait(), 5)

    loop.run_until_complete(wait_for_signal())
    loop.close()
    assert signal.getsignal(signal.SIGTERM) == before


def test_event_loop_is_asyncios_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert platform.event_loop_factory() is asyncio.new_event_loop


@pytest.mark.parametrize("lack", ["option", "ctypes"])
def test_reads_are_not_batched_where_the_system_has_no_threshold(monkeypatch: pytest.MonkeyPatch, lack: str) -> None:
    if lack == "option":
        monkeypatch.delattr(socket, "SO_RCVLOWAT")
    else:
        monkeypatch.setitem(sys.modules, "ctypes", None)
    assert platform.receive_threshold_setter() is None


def test_receive_threshold_is_set() -> None:
    set_threshold: Callable[[int, int], None] | None = platform.receive_threshold_setter()
    assert set_threshold is not None
    with socket.socket() as connection:
        set_threshold(connection.fileno(), 4096)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 4096
    set_threshold(connection.fileno(), 1)  # closed: nothing happens
