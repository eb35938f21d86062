"""The state file: the lock of the output, the log of requests in flight, and what was spent beside the rows.

The log tells the next run which requests may have been billed without a reply. It has one small record for each job
being worked on, overwritten in place, and in a run with a budget a second one with what its request can cost at most.
One more record holds the sum of what was spent for requests and rows that left no row. No row depends on the file: it
may be deleted while no run holds the lock.

The file is never renamed, and deleted only by the run that created it, where its output is refused: a lock on a file
without a name protects nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from processor.core.errors import ConfigError
from processor.core.job_keys import KEY_BYTES
from processor.core.shards import Shard
from processor.core.text import setting_name
from processor.output.index_entry import MAX_ATTEMPTS
from processor.output.storage import Storage, StorageFile, as_output_error, open_locked

_BODY = Struct(f"<{KEY_BYTES}sHB")
"""Key, attempts in all runs, state. With the checksum 16 bytes, so that none crosses a page."""
_CHECKSUM = Struct("<I")
_RECORD_BYTES = _BODY.size + _CHECKSUM.size
_EMPTY = bytes(_RECORD_BYTES)
_TRIAL_RECORDS = 512
"""8 KiB: more than the rest of a block that the file has already."""
_STATE_AT = _BODY.size - 1
"""The offset in a record of the byte that is a state, also where a crash left a part of a record or a mix of two."""
IDLE, IN_FLIGHT, PARKED = 0, 1, 2
"""States of a record. PARKED: the job was left without a row, and is sent last by the next run."""
_RESERVED, _SPENT = 3, 4
"""In the place of a state: kinds of records about money."""
_SHARD = 5
"""In the place of a state: the record that says which part of the jobs the output is for."""
_SHARD_BODY = Struct("<II3xB")
_PREFIX_BYTES = 6
"""Of a job's key, in a record of what its request can cost: a wrong one, once in 1e9 kills, counts another amount."""
_AMOUNT_BYTES = KEY_BYTES + 2 - _PREFIX_BYTES
_RESERVED_BODY = Struct(f"<{_PREFIX_BYTES}s{_AMOUNT_BYTES}sB")
_RESERVED_UNIT_PICO = 10_000
"""Amounts are rounded up to 1e-8 USD, so that they have room."""
_SPENT_BODY = Struct("<Q3xB")
"""The amount in 1e-12 USD: up to 18 million USD."""
_MAX_RESERVED = (1 << 8 * _AMOUNT_BYTES) - 1
_MAX_SPENT = (1 << 64) - 1
_MIN_TEXT_BYTES = 6
"""A file that begins with so many printable bytes is a text file: records begin with random bytes."""


class LoggedJob(NamedTuple):
    """What the last run left about one job."""

    key: bytes
    attempts: int
    state: int
    worst_pico: int | None
    """What a request in flight can have cost; None where that was not recorded."""


class ErrorReporter:
    """A context manager that reports an OSError of its body, and goes on."""

    __slots__ = ("_report",)

    def __init__(self, report: Callable[[OSError], None]) -> None:
        self._report = report

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if not isinstance(error, OSError):
            return False
        self._report(error)
        return True


class InFlightLog:
    """The log in an open, locked state file. Methods that write raise OSError."""

    def __init__(self, file: StorageFile, *, is_new: bool) -> None:
        self.is_new = is_new
        """Whether this run created the file."""
        self._file = file
        self._slots: dict[bytes, int] = {}
        """Record number by key: of the jobs being worked on, and of those that an earlier run left."""
        self._in_flight: set[bytes] = set()
        self._free_slots: list[int] = []
        self._slot_count = 0
        self._reserved_slots: dict[bytes, int] = {}
        """By the prefix of the key."""
        self._spent_slot: int | None = None
        self.spent_pico = 0
        """What was spent beside the rows, in 1e-12 USD. Call ``load`` first."""
        self.shard: Shard | None = None
        """The part of the jobs whose rows the output holds; None: all, or not known. Call ``load`` first."""
        self._has_tried_disk = False

    @classmethod
    def open(cls, storage: Storage, path: Path) -> InFlightLog | None:
        """Open and lock the state file. None if another process holds the lock.

        Raises OutputError, and ConfigError where the file is not a state file.
        """
        with as_output_error(path):
            is_new = not storage.exists(path)
            # Between open() and lock() a run that had created the file may be refused, and delete it.
            file = open_locked(storage, path, "update")
            if file is None:
                return None
            try:
                is_foreign = _is_foreign(file.read(0, file.size()))
            except OSError:
                file.close()
                raise
        if is_foreign:
            file.close()
            raise ConfigError(
                f"{path} was not written by this program: move it away, or give another {setting_name('out')}"
            )
        return cls(file, is_new=is_new)

    def discard(self, storage: Storage, path: Path) -> None:
        """Release the lock, and delete the file if this run created it."""
        if self.is_new:
            with suppress(OSError):
                storage.remove(path)
        self.close()

    def close(self) -> None:
        """Release the lock."""
        self._file.close()

    @property
    def in_flight(self) -> int:
        """How many jobs of this run have an attempt in flight."""
        return len(self._in_flight)

    def load(self) -> Iterator[LoggedJob]:
        """Yield what the last run left, and load what was spent. Skips invalid records."""
        data = self._file.read(0, self._file.size())
        self._slot_count = len(data) // _RECORD_BYTES
        records: list[tuple[bytes, int, int]] = []
        reserved: dict[bytes, int] = {}
        for slot in range(self._slot_count):
            body, is_valid = _checked(data, slot)
            key, attempts, state = _BODY.unpack(body)
            if is_valid and state == _SPENT and self._spent_slot is None:
                self._spent_slot, self.spent_pico = slot, _SPENT_BODY.unpack(body)[0]
            elif is_valid and state == _SHARD and self.shard is None:
                number, count, _ = _SHARD_BODY.unpack(body)
                self.shard = Shard(number=number, count=count)
            elif is_valid and state <= PARKED and key not in self._slots:
                self._slots[key] = slot
                records.append((key, attempts, state))
            else:
                self._free_slots.append(slot)
                if is_valid and state == _RESERVED:
                    prefix, amount, _ = _RESERVED_BODY.unpack(body)
                    pico = int.from_bytes(amount, "little") * _RESERVED_UNIT_PICO
                    reserved[prefix] = max(pico, reserved.get(prefix, 0))
        for key, attempts, state in records:
            yield LoggedJob(key, attempts, state, reserved.get(key[:_PREFIX_BYTES]))

    def write_worst_case(self, key: bytes, pico: int) -> None:
        """Write what the job's next request can cost at most. Call it before ``write``."""
        prefix = key[:_PREFIX_BYTES]
        if prefix not in self._reserved_slots:
            self._reserved_slots[prefix] = self._allocate_slot()
        units = min(-(-pico // _RESERVED_UNIT_PICO), _MAX_RESERVED)
        body = _RESERVED_BODY.pack(prefix, units.to_bytes(_AMOUNT_BYTES, "little"), _RESERVED)
        self._write_body(self._reserved_slots[prefix], body)

    def add_spent(self, pico: int) -> None:
        """Add to what was spent beside the rows; less than 0 for what has come into a row."""
        if not pico:
            return
        if self._spent_slot is None:
            # Not a free slot: that may hold what a request of the last run can have cost.
            self._spent_slot = self._slot_count
            self._slot_count += 1
        self.spent_pico = min(max(self.spent_pico + pico, 0), _MAX_SPENT)
        self._write_body(self._spent_slot, _SPENT_BODY.pack(self.spent_pico, _SPENT))

    def write_shard(self, shard: Shard) -> None:
        """Write which part of the jobs the output is for. Call it once, after ``load``."""
        self.shard = shard
        self._slot_count += 1
        self._write_body(self._slot_count - 1, _SHARD_BODY.pack(shard.number, shard.count, _SHARD))

    def write(self, key: bytes, attempts: int, state: int) -> None:
        """Write the record of a job."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = self._allocate_slot()
        if state == IN_FLIGHT:
            self._in_flight.add(key)
        else:
            self._in_flight.discard(key)
        self._write_body(slot, _BODY.pack(key, min(attempts, MAX_ATTEMPTS), state))

    def _write_body(self, slot: int, body: bytes) -> None:
        """Write a record. The first one takes more space than it needs for a moment, to show whether the disk is full:
        otherwise the first row that does not fit would, when its request is paid for."""
        if not self._has_tried_disk:
            size = self._file.size()
            self._file.write_at(size, _EMPTY * _TRIAL_RECORDS)
            self._file.truncate(size)
            self._has_tried_disk = True
        self._file.write_at(slot * _RECORD_BYTES, body + _CHECKSUM.pack(crc32(body)))

    def mark_idle(self, key: bytes, attempts: int) -> None:
        """Record that a job's attempt ended without a row. Only the number of attempts is kept."""
        if not attempts:
            self.erase(key)
        elif key in self._slots:
            self.write(key, attempts, IDLE)

    def mark_done(self, keys: Iterable[bytes]) -> None:
        """Free the records of jobs that have their rows. They are not erased: rows overrule them when they are
        loaded."""
        for key in keys:
            self._in_flight.discard(key)
            self._free(self._slots, key)
            if self._reserved_slots:
                self._free(self._reserved_slots, key[:_PREFIX_BYTES])

    def _free(self, slots: dict[bytes, int], key: bytes) -> None:
        slot = slots.pop(key, None)
        if slot is not None:
            self._free_slots.append(slot)

    def erase(self, key: bytes) -> None:
        """Erase the record of a job."""
        if key in self._slots:
            slot = self._slots.pop(key)
            self._free_slots.append(slot)
            self._in_flight.discard(key)
            self._file.write_at(slot * _RECORD_BYTES, _EMPTY)
        self._free(self._reserved_slots, key[:_PREFIX_BYTES])

    @property
    def is_empty(self) -> bool:
        """Whether it has no record of a job, and nothing was spent beside the rows."""
        return not self._slots and not self.spent_pico

    def truncate_if_empty(self) -> None:
        """Empty the file if it is known to hold nothing."""
        if self.is_empty and self.shard is None and self._file.size():
            self._file.truncate(0)
            self._free_slots.clear()
            self._reserved_slots.clear()
            self._slot_count = 0

    def _allocate_slot(self) -> int:
        if self._free_slots:
            return self._free_slots.pop()
        self._slot_count += 1
        return self._slot_count - 1


def read_spent(
    storage: Storage, path: Path, has_row_after: Callable[[bytes, int], bool] = lambda key, attempts: False
) -> int:
    """Return what was spent beside the rows, without the lock: for programs that only read. Raises OSError.

    ``has_row_after``: whether the job with this key has a row that counts so many attempts: its record was not erased.
    """
    if not storage.exists(path):
        return 0
    with closing(storage.open(path, "read")) as file:
        log = InFlightLog(file, is_new=False)
        left = (job for job in log.load() if job.state == IN_FLIGHT and not has_row_after(job.key, job.attempts))
        in_flight = sum(job.worst_pico or 0 for job in left)
    return log.spent_pico + in_flight


def _checked(data: bytes, slot: int) -> tuple[bytes, bool]:
    """Return the body of a record, and whether it is valid."""
    record = data[slot * _RECORD_BYTES : (slot + 1) * _RECORD_BYTES]
    body, checksum = record[: _BODY.size], record[_BODY.size :]
    return body, bool(body.strip(b"\0")) and _CHECKSUM.pack(crc32(body)) == checksum


def _is_foreign(data: bytes) -> bool:
    """Whether this cannot be what a run left, even one that was killed or lost power in the middle of a record."""
    if len(data) > _STATE_AT:
        return any(state > _SHARD for state in data[_STATE_AT::_RECORD_BYTES])
    return len(data) >= _MIN_TEXT_BYTES and data.isascii() and data.decode().strip().isprintable()
