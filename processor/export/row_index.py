"""Knows where the row of each job stands in the files of an output: 26 bytes a row.

A reply counts before a failure, and the last row of a file before others, as for a run.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from processor.core.job_keys import CHECK_BYTES, job_key
from processor.core.json_reading import exact_fields
from processor.core.models import JSON
from processor.output.compact_hash_table import FIELDS, CompactHashTable, Slot
from processor.output.index_entry import IndexEntry, parse_entry

Place = int
"""Where a row stands: twice the position of its first byte, plus 1 for the second file."""

_TAKEN = 2
"""A flag of a record: the row belongs to a job that was found. The lowest bit is that of the place."""
_MAX_PLACE_BYTES = CHECK_BYTES + 2


class RowIndex:
    """Of the rows of one output. For use as a context manager, which closes its files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read one or two files: that of the replies, and that of the failures. A missing one is empty.

        What is appended later is not read. Raises OSError.
        """
        self._table = CompactHashTable()
        self._files: dict[int, BinaryIO] = {}
        self.damaged = 0
        """Lines that are not rows."""
        places = array("Q")
        replaced: set[Place] = set()
        try:
            for number, path in enumerate(paths):
                if path.exists():
                    self._files[number] = open(path, "rb")  # noqa: SIM115 - closed by `close`
                    self._read(number, self._files[number], places, replaced)
        except BaseException:
            self.close()
            raise
        self.places: Sequence[Place] = (
            array("Q", (place for place in places if place not in replaced)) if replaced else places
        )
        """Of the rows that count, in the order of the files."""

    def __enter__(self) -> RowIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _read(self, number: int, file: BinaryIO, places: array[int], replaced: set[Place]) -> None:
        at, size = 0, os.fstat(file.fileno()).st_size
        for raw in file:
            start, at = at, at + len(raw)
            if at > size or not raw.endswith(b"\n"):
                break  # a run is writing it
            try:
                entry = parse_entry(raw)
            except ValueError:
                self.damaged += bool(raw.strip())
                continue
            place = start << 1 | number
            earlier = self._add(entry, place)
            if earlier is not None and earlier & 1 != number:
                continue  # a failure of a job that has its reply
            if earlier is not None:
                replaced.add(earlier)
            places.append(place)

    def _add(self, entry: IndexEntry, place: Place) -> Place | None:
        """Note the place of a row. Return that of an earlier row of the job, which it replaces in the same file."""
        slot = self._table.add(entry.key, *_fields(place, 0))
        if slot is None:
            return None
        earlier = _place(slot)
        if earlier & 1 == place & 1:
            FIELDS.pack_into(*slot, *_fields(place, 0))
        return earlier

    def take(self, custom_id: str) -> Place | None:
        """Return where the row of a job stands, and mark it as that of a job; None where it has none."""
        slot = self._table.find(job_key(custom_id))
        if slot is None:
            return None
        place = _place(slot)
        FIELDS.pack_into(*slot, *_fields(place, _TAKEN))
        return place

    def untaken(self) -> Iterator[tuple[Place, JSON]]:
        """Yield the rows that count and were not taken, in the order of the files."""
        for place in self.places:
            raw = self.raw(place)
            slot = self._table.find(parse_entry(raw).key)
            if slot is None or not FIELDS.unpack_from(*slot)[3] & _TAKEN:
                yield place, exact_fields(raw)

    def raw(self, place: Place) -> bytes:
        """Return a row as it stands in the file, with its line feed. Raises OSError."""
        file = self._files[place & 1]
        file.seek(place >> 1)
        return file.readline()


def _fields(place: Place, flags: int) -> tuple[bytes, int, int, int]:
    packed = place.to_bytes(_MAX_PLACE_BYTES, "little")
    return packed[:CHECK_BYTES], int.from_bytes(packed[CHECK_BYTES:], "little"), 0, flags


def _place(slot: Slot) -> Place:
    check, high, _, _ = FIELDS.unpack_from(*slot)
    low = int.from_bytes(check, "little")
    return low | int(high) << 8 * CHECK_BYTES
