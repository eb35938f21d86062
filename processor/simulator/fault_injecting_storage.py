"""A disk in memory, behind the storage interface, that can tear, drop and refuse writes.

Every operation that a real disk could fail is a step. A plan is asked at each and may answer with a fault. What was
not synced survives the end of the process, but not the loss of power.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from random import Random
from typing import NoReturn

from processor.output.storage import OpenMode

PLENTY_BYTES = 1 << 50


class Killed(SystemExit):
    """The process ends at this step. Not an error: nothing may handle it, and an event loop lets it through."""


@dataclass(frozen=True, slots=True)
class StorageFault:
    """A write does ``part`` of its work first; any other step all of it, where ``part`` is 1, or nothing.

    Without an error it is a short write.
    """

    error: BaseException | None
    part: float = 0.0


FaultPlan = Callable[[int, str], StorageFault | None]
"""What happens at a step, given its 1-based number and the operation's name."""


def fail_at_step(step: int, fault: StorageFault) -> FaultPlan:
    """Nothing but one fault, at one step."""
    return lambda number, _: fault if number == step else None


def refusal(code: int) -> OSError:
    """E.g. ``refusal(errno.ENOSPC)``."""
    return OSError(code, os.strerror(code))


class _Inode:
    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = b""
        """What is certainly there after a loss of power."""
        self.named = True
        self.locked_by: MemoryFile | None = None

    def lose_power(self, chance: Random) -> None:
        """Of bytes appended since the last sync any number is there, perhaps as zeros; other changes, or not."""
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
    """What outlives the processes that use it."""

    def __init__(self, *, capacity_bytes: int = PLENTY_BYTES) -> None:
        self.capacity_bytes = capacity_bytes
        self.names: dict[Path, _Inode] = {}
        self.synced_names: dict[Path, _Inode] = {}

    def contents(self, path: Path) -> bytes | None:
        """None where there is no such file."""
        return bytes(self.names[path].data) if path in self.names else None

    def put(self, path: Path, data: bytes) -> None:
        """Safely there, as if written long ago."""
        inode = self.names[path] = self.synced_names[path] = _Inode()
        inode.data += data
        inode.synced = data

    def lose_power(self, chance: Random) -> None:
        """Whoever used it is gone; what was not synced is there, in part, or not."""
        paths = sorted({*self.names, *self.synced_names})
        found = {path: chance.choice((self.names, self.synced_names)).get(path) for path in paths}
        self.names = {path: inode for path, inode in found.items() if inode}
        for inode in dict.fromkeys(self.names.values()):
            inode.named = True
            inode.lose_power(chance)
        self.synced_names = dict(self.names)

    def delete(self, path: Path) -> None:
        self.names.pop(path).named = False

    def free_bytes(self) -> int:
        return max(0, self.capacity_bytes - sum(len(inode.data) for inode in self.names.values()))


class FaultInjectingStorage:
    """A platter as one process sees it.

    Once the process is killed nothing reaches the platter any more: every step fails, so that what Python still runs
    on its way out (callbacks, ``finally``) does no harm.
    """

    is_shared = False

    def __init__(self, platter: DiskState, plan: FaultPlan | None = None) -> None:
        self.platter = platter
        self.steps = 0
        self.dead = False
        self._plan = plan

    def open(self, path: Path, mode: OpenMode) -> MemoryFile:
        with self.step("open"):
            names = self.platter.names
            if path not in names:
                if mode == "read":
                    raise refusal(errno.ENOENT)
                names[path] = _Inode()
            if mode == "new":
                names[path].data.clear()
            return MemoryFile(self, names[path])

    def exists(self, path: Path) -> bool:
        return path in self.platter.names

    def replace(self, source: Path, target: Path) -> None:
        with self.step("rename"):
            names = self.platter.names
            if target in names:
                names[target].named = False
            names[target] = names.pop(source)
        self.sync_folder(target)

    def remove(self, path: Path) -> None:
        with self.step("unlink"):
            self.platter.delete(path)

    def sync_folder(self, path: Path) -> None:
        with self.step("fsync folder"):
            platter = self.platter
            elsewhere = {name: inode for name, inode in platter.synced_names.items() if name.parent != path.parent}
            here = {name: inode for name, inode in platter.names.items() if name.parent == path.parent}
            platter.synced_names = elsewhere | here

    def free_bytes(self, path: Path) -> int:
        return self.platter.free_bytes()

    @contextmanager
    def step(self, operation: str) -> Iterator[None]:
        """One that is done or not."""
        fault = self.fault(operation)
        error = fault.error if fault else None
        if fault and error and fault.part < 1:
            self.fail(error)
        yield
        if error:
            self.fail(error)

    def fault(self, operation: str) -> StorageFault | None:
        """Count a step, and ask the plan about it."""
        if self.dead:
            raise refusal(errno.EIO)
        self.steps += 1
        return self._plan(self.steps, operation) if self._plan else None

    def fail(self, error: BaseException) -> NoReturn:
        self.dead = self.dead or isinstance(error, Killed)
        raise error


class MemoryFile:
    def __init__(self, disk: FaultInjectingStorage, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode

    def size(self) -> int:
        return len(self._inode.data)

    def read(self, at: int, size: int) -> bytes:
        with self._disk.step("read"):
            return bytes(self._inode.data[at : at + size])

    def write(self, data: bytes | memoryview) -> int:
        fault = self._disk.fault("write")
        count = len(data) if fault is None else ceil(len(data) * fault.part)
        count = min(count, self._disk.platter.free_bytes())
        self._inode.data += data[:count]
        if fault and fault.error:
            self._disk.fail(fault.error)
        if not count and data:
            raise refusal(errno.ENOSPC)
        return count

    def write_at(self, at: int, data: bytes) -> None:
        fault = self._disk.fault("pwrite")
        count = len(data) if fault is None else int(len(data) * fault.part)
        self._inode.data.extend(bytes(max(0, at + count - self.size())))
        self._inode.data[at : at + count] = data[:count]
        if fault:
            self._disk.fail(fault.error or refusal(errno.ENOSPC))

    def truncate(self, size: int) -> None:
        with self._disk.step("truncate"):
            del self._inode.data[size:]

    def sync(self) -> None:
        with self._disk.step("fsync"):
            self._inode.synced = bytes(self._inode.data)

    def lock(self) -> bool:
        with self._disk.step("lock"):
            holder = self._inode.locked_by
            if holder and not holder._disk.dead:
                return False
            self._inode.locked_by = self
            return True

    def is_deleted(self) -> bool:
        return not self._inode.named

    def close(self) -> None:
        if self._inode.locked_by is self:
            self._inode.locked_by = None
