"""The state file: the lock, and what is in flight, so that the next run can tell what may have been billed in vain.

One small record for each job being worked on, overwritten in place. Nothing in it is needed to be right: the file
can be deleted while no run holds the lock. It is never renamed, and deleted only by the run that made it, where its
output is refused: a lock on what has lost its name locks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from zlib import crc32

from processor.core.job_keys import KEY_BYTES
from processor.output.index_entry import MAX_ATTEMPTS
from processor.output.storage import StorageFile

_BODY = Struct(f"<{KEY_BYTES}sHB")
"""key, attempts in all runs, whether one of them is in flight. 16 bytes with the checksum: none crosses a page."""
_CHECKSUM = Struct("<I")
_WIDTH = _BODY.size + _CHECKSUM.size
_EMPTY = bytes(_WIDTH)


class InFlightLog:
    def __init__(self, file: StorageFile) -> None:
        self._file = file
        self._slots: dict[bytes, int] = {}
        """By key: the jobs being worked on, and those an earlier run left behind."""
        self._in_flight: set[bytes] = set()
        self._free: list[int] = []
        self._end = 0

    @property
    def in_flight(self) -> int:
        """How many jobs of this run have an attempt under way."""
        return len(self._in_flight)

    def load(self) -> Iterator[tuple[bytes, int, bool]]:
        """What the last run left: (key, attempts, was in flight). Records that make no sense are passed over."""
        data = self._file.read(0, self._file.size())
        self._end = len(data) // _WIDTH
        for slot in range(self._end):
            body, checksum = data[slot * _WIDTH :][: _BODY.size], data[slot * _WIDTH + _BODY.size :][: _CHECKSUM.size]
            key, attempts, in_flight = _BODY.unpack(body)
            if body.strip(b"\0") and _CHECKSUM.pack(crc32(body)) == checksum and key not in self._slots:
                self._slots[key] = slot
                yield key, attempts, bool(in_flight)
            else:
                self._free.append(slot)

    def write(self, key: bytes, attempts: int, *, in_flight: bool) -> None:
        """Remember ``attempts`` for a job. Raises OSError."""
        slot = self._slots[key] if key in self._slots else self._allocate_slot()
        self._slots[key] = slot
        if in_flight:
            self._in_flight.add(key)
        else:
            self._in_flight.discard(key)
        body = _BODY.pack(key, min(attempts, MAX_ATTEMPTS), in_flight)
        self._file.write_at(slot * _WIDTH, body + _CHECKSUM.pack(crc32(body)))

    def mark_idle(self, key: bytes, attempts: int) -> None:
        """The attempt in flight has ended without a row: only how many there were is worth remembering."""
        if not attempts:
            self.erase(key)
        elif key in self._slots:
            self.write(key, attempts, in_flight=False)

    def mark_done(self, key: bytes) -> None:
        """The job has its row, in which a later run reads all that is to know: what the record says may stay."""
        self._in_flight.discard(key)
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._free.append(slot)

    def erase(self, key: bytes) -> None:
        """Nothing is to be remembered of this job. Raises OSError."""
        if key in self._slots:
            slot = self._slots.pop(key)
            self._free.append(slot)
            self._in_flight.discard(key)
            self._file.write_at(slot * _WIDTH, _EMPTY)

    def truncate_if_empty(self) -> None:
        """Empty the file, if nothing is remembered."""
        if not self._slots and self._file.size():
            self._file.truncate(0)
            self._free.clear()
            self._end = 0

    def _allocate_slot(self) -> int:
        if self._free:
            return self._free.pop()
        self._end += 1
        return self._end - 1
