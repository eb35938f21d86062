"""The state file: the lock of the output, and the log of requests in flight.

The log tells the next run which requests may have been billed without a reply. It has one small record for each job
being worked on, overwritten in place. No row depends on it: the file may be deleted while no run holds the lock.

The file is never renamed, and deleted only by the run that created it, where its output is refused: a lock on a file
without a name protects nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from zlib import crc32

from processor.core.errors import ConfigError
from processor.core.job_keys import KEY_BYTES
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
_MIN_TEXT_BYTES = 6
"""A file that begins with so many printable bytes is a text file: records begin with random bytes."""


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
            raise ConfigError(f"{path} was not written by this program: move it away, or give another --out")
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

    def load(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield what the last run left: key, attempts, state. Skips invalid records."""
        data = self._file.read(0, self._file.size())
        self._slot_count = len(data) // _RECORD_BYTES
        for slot in range(self._slot_count):
            record = data[slot * _RECORD_BYTES :]
            body, checksum = record[: _BODY.size], record[_BODY.size : _RECORD_BYTES]
            key, attempts, state = _BODY.unpack(body)
            if body.strip(b"\0") and _CHECKSUM.pack(crc32(body)) == checksum and key not in self._slots:
                self._slots[key] = slot
                yield key, attempts, state
            else:
                self._free_slots.append(slot)

    def write(self, key: bytes, attempts: int, state: int) -> None:
        """Write the record of a job. The first record takes more space than it needs for a moment, to show whether the
        disk is full: otherwise the first row that does not fit would, when its request is paid for."""
        if not self._has_tried_disk:
            size = self._file.size()
            self._file.write_at(size, _EMPTY * _TRIAL_RECORDS)
            self._file.truncate(size)
            self._has_tried_disk = True
        slot = self._slots[key] if key in self._slots else self._allocate_slot()
        self._slots[key] = slot
        if state == IN_FLIGHT:
            self._in_flight.add(key)
        else:
            self._in_flight.discard(key)
        body = _BODY.pack(key, min(attempts, MAX_ATTEMPTS), state)
        self._file.write_at(slot * _RECORD_BYTES, body + _CHECKSUM.pack(crc32(body)))

    def mark_idle(self, key: bytes, attempts: int) -> None:
        """Record that a job's attempt ended without a row. Only the number of attempts is kept."""
        if not attempts:
            self.erase(key)
        elif key in self._slots:
            self.write(key, attempts, IDLE)

    def mark_done(self, key: bytes) -> None:
        """Free the record of a job that has its row. It is not erased: the row overrules it when it is loaded."""
        self._in_flight.discard(key)
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._free_slots.append(slot)

    def erase(self, key: bytes) -> None:
        """Erase the record of a job."""
        if key in self._slots:
            slot = self._slots.pop(key)
            self._free_slots.append(slot)
            self._in_flight.discard(key)
            self._file.write_at(slot * _RECORD_BYTES, _EMPTY)

    @property
    def is_empty(self) -> bool:
        """Whether no job has a record."""
        return not self._slots

    def truncate_if_empty(self) -> None:
        """Empty the file if no job has a record."""
        if not self._slots and self._file.size():
            self._file.truncate(0)
            self._free_slots.clear()
            self._slot_count = 0

    def _allocate_slot(self) -> int:
        if self._free_slots:
            return self._free_slots.pop()
        self._slot_count += 1
        return self._slot_count - 1


def _is_foreign(data: bytes) -> bool:
    """Whether this cannot be what a run left, even one that was killed or lost power in the middle of a record."""
    if len(data) > _STATE_AT:
        return any(state > PARKED for state in data[_STATE_AT::_RECORD_BYTES])
    return len(data) >= _MIN_TEXT_BYTES and data.isascii() and data.decode().strip().isprintable()
