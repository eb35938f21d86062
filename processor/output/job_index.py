"""What is known of each job: from the rows on disk, and from the lines of the job file read so far."""

from __future__ import annotations

from enum import Enum, auto

from processor.core.job_keys import IDENTITY, job_key, request_check
from processor.output.compact_hash_table import FIELDS, CompactHashTable
from processor.output.index_entry import FAILED, LINE, MAX_ATTEMPTS, PACKED, PERMANENT, REPLIED, IndexEntry

SEEN_THIS_RUN = 128
"""A flag beside those of entries: met in this run's job file."""

_UNKNOWN = bytes(4)
_DONE = bytes(flags & (REPLIED | SEEN_THIS_RUN) == REPLIED for flags in range(256))
_PERMANENT = bytes(flags & (PERMANENT | REPLIED | SEEN_THIS_RUN) == PERMANENT for flags in range(256))
_SETTLED = bytes(done + 2 * permanent for done, permanent in zip(_DONE, _PERMANENT, strict=True))


class JobStatus(Enum):
    """What is to be done about a job."""

    NEW = auto()
    DONE = auto()
    CHANGED = auto()
    """It has a reply, to another request than it makes now."""
    FAILED = auto()
    """Also where it was its own fault, but the request has changed since."""
    FAILED_PERMANENTLY = auto()
    """The provider refused this very request."""
    DUPLICATE = auto()
    """Its id has been met before in this job file."""


class JobIndex:
    """Every question costs a few microseconds, however many jobs there are, and every job 18.3 bytes."""

    def __init__(self) -> None:
        self._table = CompactHashTable()
        self.files_with_stale_rows = 0
        """REPLIED and FAILED: in which of the two files there are rows that stand for nothing any more."""
        self.lines_read = -1
        """Rows of lines that are no jobs are gone, if they were not met up to this line of the job file."""

    # ------------------------------------------------------------ the job file

    def classify(self, custom_id: str, fingerprint: str) -> JobStatus:
        """Judge the next job of the job file. Each line is to be met once."""
        now = request_check(fingerprint)
        place = self._table.add(job_key(custom_id), now, 0, 0, SEEN_THIS_RUN)
        if place is None:
            return JobStatus.NEW
        check, attempts, count, flags = FIELDS.unpack_from(*place)
        if flags & SEEN_THIS_RUN:
            return JobStatus.DUPLICATE
        FIELDS.pack_into(*place, check, attempts, count, flags | SEEN_THIS_RUN)
        return _standing(flags, check == now)

    def skip_done(self, identities: bytes, begin: int, end: int, *, permanent: bool = False) -> tuple[int, int]:
        """Mark jobs from ``begin`` on as seen while each is DONE (or, with ``permanent``, FAILED_PERMANENTLY).

        Returns the number of the first job that is not marked, and how many before it are FAILED_PERMANENTLY. That
        first job may be DONE all the same: only ``classify`` decides. ``identities`` are packed, in file order.
        """
        wanted = memoryview(identities)[begin * IDENTITY.size : end * IDENTITY.size]
        met, own_faults = self._table.flag_while(wanted, _SETTLED if permanent else _DONE, SEEN_THIS_RUN)
        return begin + met, own_faults

    def classify_invalid(self, key: bytes) -> bool:
        """Note that a line which is no job was met; False where its row is on disk already."""
        place = self._table.add(key, _UNKNOWN, 0, 0, LINE | SEEN_THIS_RUN)
        if place is None:
            return True
        check, attempts, count, flags = FIELDS.unpack_from(*place)
        FIELDS.pack_into(*place, check, attempts, count, flags | SEEN_THIS_RUN)
        return False

    def assign_id(self, fingerprint: str) -> str:
        """The ``custom_id`` of the next job without one: its fingerprint, then ``<fingerprint>-2``, ``-3``.

        To be asked right before ``meet``.
        """
        place = self._table.find(job_key(fingerprint))
        if place is None:
            return fingerprint
        check, attempts, count, flags = FIELDS.unpack_from(*place)
        if not flags & SEEN_THIS_RUN:
            return fingerprint
        FIELDS.pack_into(*place, check, attempts, count + 1, flags)
        return f"{fingerprint}-{count + 2}"

    # ------------------------------------------------------------ what is known

    def attempts(self, custom_id: str) -> int:
        """Requests sent for the job so far, in all runs (not counted beyond 65,535)."""
        place = self._table.find(job_key(custom_id))
        return int(FIELDS.unpack_from(*place)[1]) if place else 0

    def has_reply(self, key: bytes) -> bool:
        place = self._table.find(key)
        return bool(place and FIELDS.unpack_from(*place)[3] & REPLIED)

    def count(self, flag: int, without: int = 0) -> int:
        """How many records have one flag and not the other."""
        fits = bytes(bool(value & flag and not value & without) for value in range(256))
        return sum(flags.translate(fits).count(1) for flags in self._table.flags())

    def raise_attempts(self, key: bytes, attempts: int) -> bool:
        """Learn that so many requests have been sent for a job; False where its row already says so."""
        attempts = min(attempts, MAX_ATTEMPTS)
        place = self._table.add(key, _UNKNOWN, attempts, 0, 0)
        if place is None:
            return True
        check, known, count, flags = FIELDS.unpack_from(*place)
        FIELDS.pack_into(*place, check, max(known, attempts), count, flags)
        return bool(attempts > known)

    # ------------------------------------------------------------ rows

    def load_rows(self, entries: bytes) -> None:
        """Learn rows read from disk, packed: later ones after earlier ones, replies before failures."""
        there = self._table.add_all(entries)
        for number in there:
            self._load_duplicate(*PACKED.unpack_from(entries, number * PACKED.size))
        if self.lines_read >= 0:
            rows = enumerate(PACKED.iter_unpack(entries))
            if any(number not in there and self._is_gone(flags, 0, line) for number, (*_, flags, line) in rows):
                self.files_with_stale_rows |= FAILED

    def _load_duplicate(self, key: bytes, check: bytes, attempts: int, flags: int, line: int) -> None:
        place = self._table.find(key)
        assert place
        _, tries, count, known = FIELDS.unpack_from(*place)
        if flags & FAILED and known & REPLIED:
            self.files_with_stale_rows |= FAILED
            return
        again = bool(known & flags & (REPLIED | FAILED | LINE))
        if again or self._is_gone(flags, known, line):
            self.files_with_stale_rows |= flags & REPLIED or FAILED
        FIELDS.pack_into(*place, check, max(attempts, tries), count + again, known & SEEN_THIS_RUN | flags)

    def should_keep(self, entry: IndexEntry) -> bool:
        """Whether a row stays when its file is compacted: the last one of those that were entered."""
        place = self._table.find(entry.key)
        if place is None:
            return True
        check, attempts, count, known = FIELDS.unpack_from(*place)
        if entry.flags & FAILED and known & REPLIED:
            return False
        if count:
            FIELDS.pack_into(*place, check, attempts, count - 1, known)
            return False
        return not self._is_gone(entry.flags, known, entry.line)

    def _is_gone(self, flags: int, known: int, line: int) -> bool:
        return bool(flags & LINE) and not known & SEEN_THIS_RUN and line <= self.lines_read

    def record_row(self, entry: IndexEntry) -> None:
        """Learn a job's row that was just appended."""
        place = self._table.find(entry.key)
        if place is None:
            self._table.add(entry.key, entry.check, entry.attempts, 0, entry.flags)
            return
        _, tries, count, known = FIELDS.unpack_from(*place)
        self.files_with_stale_rows |= known & (REPLIED | FAILED)
        FIELDS.pack_into(*place, entry.check, max(entry.attempts, tries), count, known & SEEN_THIS_RUN | entry.flags)

    def clear_flags(self, flags: int) -> None:
        """Before the rows that these flags stand for are entered again. Names can no longer be given."""
        self._table.clear(flags)
        self.files_with_stale_rows = 0


def _standing(known: int, same: bool) -> JobStatus:
    if known & REPLIED:
        return JobStatus.DONE if same else JobStatus.CHANGED
    if known & PERMANENT and same:
        return JobStatus.FAILED_PERMANENTLY
    return JobStatus.FAILED if known & FAILED else JobStatus.NEW
