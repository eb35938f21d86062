"""Storage in memory that injects faults: failed, short and torn writes, killed processes and loss of power.

Every operation that can fail on a real disk is a step. A fault plan is called at each step and may return a fault. Data
that was not synced survives the end of the process, but not the loss of power.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from random import Random
from typing import NoReturn

from processor.core.fast_dataclass import dataclass
from processor.output.storage import OpenMode, StorageFile

UNLIMITED_BYTES = 1 << 50


class Killed(SystemExit):
    """The process is killed at this step. A SystemExit, because event loops do not catch it."""


@dataclass(frozen=True, slots=True)
class StorageFault:
    """A fault at one step. A write first writes the share ``part`` of its data; another step is done if ``part`` is 1.

    Without an error the write is a short write.
    """

    error: BaseException | None
    part: float = 0.0


FaultPlan = Callable[[int, str], StorageFault | None]
"""Returns the fault of a step, if any, given its 1-based number and the name of the operation."""


def fail_at_step(step: int, fault: StorageFault) -> FaultPlan:
    """A plan with one fault, at one step."""
    return lambda number, _: fault if number == step else None


def os_error(code: int) -> OSError:
    """The OSError with this code, e.g. ``os_error(errno.ENOSPC)``."""
    return OSError(code, os.strerror(code))


class _Inode:
    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = b""
        """The contents that certainly survive a loss of power."""
        self.is_linked = True
        self.locked_by: MemoryFile | None = None

    def lose_power(self, chance: Random) -> None:
        """Keep any number of the bytes appended since the last sync, perhaps as zeros; keep other changes or not."""
        if self.data.startswith(self.synced):
            kept = chance.randint(len(self.synced), len(self.data))
            del self.data[kept:]
            if chance.random() < 0.3:
                written = chance.randint(len(self.synced), kept)
                self.data[written:] = bytes(kept - written)
        elif chance.random() < 0.5:
            self.data[:] = self.synced
        self.synced = bytes(self.data)


class DiskState:
    """The contents of a disk, which outlive the processes that use it."""

    def __init__(self, *, capacity_bytes: int = UNLIMITED_BYTES) -> None:
        self.capacity_bytes = capacity_bytes
        self.names: dict[Path, _Inode] = {}
        self.synced_names: dict[Path, _Inode] = {}

    def contents(self, path: Path) -> bytes | None:
        """The contents of a file, or None if there is no such file."""
        return bytes(self.names[path].data) if path in self.names else None

    def put(self, path: Path, data: bytes) -> None:
        """Create a file whose contents are synced."""
        inode = self.names[path] = self.synced_names[path] = _Inode()
        inode.data += data
        inode.synced = data

    def release_locks(self) -> None:
        """End all locks: the processes that held them have been killed."""
        for inode in self.names.values():
            inode.locked_by = None

    def lose_power(self, chance: Random) -> None:
        """Keep, drop or tear each change that was not synced. The processes that used the disk have ended."""
        paths = sorted({*self.names, *self.synced_names})
        found = {path: chance.choice((self.names, self.synced_names)).get(path) for path in paths}
        self.names = {path: inode for path, inode in found.items() if inode}
        for inode in dict.fromkeys(self.names.values()):
            inode.is_linked = True
            inode.lose_power(chance)
        self.synced_names = dict(self.names)

    def delete(self, path: Path) -> None:
        self.names.pop(path).is_linked = False

    def free_bytes(self) -> int:
        return max(0, self.capacity_bytes - sum(len(inode.data) for inode in self.names.values()))


class FaultInjectingStorage:
    """The disk as one process sees it.

    After the process is killed every step fails, so that the callbacks and ``finally`` blocks that Python still runs
    change nothing on the disk.
    """

    is_shared = False
    can_replace_open_files = True

    def __init__(self, state: DiskState, plan: FaultPlan | None = None) -> None:
        self.state = state
        self.steps = 0
        self.is_dead = False
        self.weaknesses: list[str] = []
        self._plan = plan

    def open(self, path: Path, mode: OpenMode) -> MemoryFile:
        with self.step("open"):
            names = self.state.names
            if path not in names:
                if mode == "read":
                    raise os_error(errno.ENOENT)
                names[path] = _Inode()
            if mode == "new":
                names[path].data.clear()
            return MemoryFile(self, names[path])

    def exists(self, path: Path) -> bool:
        return path in self.state.names

    def leads_to(self, path: Path, file: StorageFile) -> bool:
        return isinstance(file, MemoryFile) and self.state.names.get(path) is file.inode

    def note_weakness(self, sentence: str) -> None:
        if sentence not in self.weaknesses:
            self.weaknesses.append(sentence)

    def replace(self, source: Path, target: Path) -> None:
        with self.step("rename"):
            names = self.state.names
            if target in names:
                names[target].is_linked = False
            names[target] = names.pop(source)
        self.sync_folder(target)

    def remove(self, path: Path) -> None:
        with self.step("unlink"):
            self.state.delete(path)

    def sync_folder(self, path: Path) -> None:
        with self.step("fsync folder"):
            state = self.state
            elsewhere = {name: inode for name, inode in state.synced_names.items() if name.parent != path.parent}
            here = {name: inode for name, inode in state.names.items() if name.parent == path.parent}
            state.synced_names = elsewhere | here

    def free_bytes(self, path: Path) -> int:
        return self.state.free_bytes()

    @contextmanager
    def step(self, operation: str) -> Iterator[None]:
        """A step that is done completely or not at all."""
        fault = self.next_fault(operation)
        error = fault.error if fault else None
        if fault and error and fault.part < 1:
            self.fail(error)
        yield
        if error:
            self.fail(error)

    def next_fault(self, operation: str) -> StorageFault | None:
        """Count a step and return its fault, if any."""
        if self.is_dead:
            raise os_error(errno.EIO)
        self.steps += 1
        return self._plan(self.steps, operation) if self._plan else None

    def fail(self, error: BaseException) -> NoReturn:
        self.is_dead = self.is_dead or isinstance(error, Killed)
        raise error


class MemoryFile:
    def __init__(self, disk: FaultInjectingStorage, inode: _Inode) -> None:
        self._disk = disk
        self.inode = inode

    def size(self) -> int:
        return len(self.inode.data)

    def read(self, at: int, size: int) -> bytes:
        with self._disk.step("read"):
            return bytes(self.inode.data[at : at + size])

    def write(self, data: bytes | memoryview) -> int:
        fault = self._disk.next_fault("write")
        count = len(data) if fault is None else ceil(len(data) * fault.part)
        count = min(count, self._disk.state.free_bytes())
        self.inode.data += data[:count]
        if fault and fault.error:
            self._disk.fail(fault.error)
        if not count and data:
            raise os_error(errno.ENOSPC)
        return count

    def write_at(self, at: int, data: bytes) -> None:
        fault = self._disk.next_fault("pwrite")
        count = len(data) if fault is None else int(len(data) * fault.part)
        if at + count - self.size() > self._disk.state.free_bytes():
            raise os_error(errno.ENOSPC)
        self.inode.data.extend(bytes(max(0, at + count - self.size())))
        self.inode.data[at : at + count] = data[:count]
        if fault:
            self._disk.fail(fault.error or os_error(errno.ENOSPC))

    def truncate(self, size: int) -> None:
        with self._disk.step("truncate"):
            del self.inode.data[size:]

    def sync(self) -> None:
        with self._disk.step("fsync"):
            self.inode.synced = bytes(self.inode.data)

    def lock(self) -> bool:
        with self._disk.step("lock"):
            holder = self.inode.locked_by
            if holder and not holder._disk.is_dead:
                return False
            self.inode.locked_by = self
            return True

    def links(self) -> int:
        return int(self.inode.is_linked)

    def modified_ns(self) -> int:
        return 0

    def close(self) -> None:
        if self.inode.locked_by is self:
            self.inode.locked_by = None
