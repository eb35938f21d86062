"""What is known of each job: from the rows on disk, and from the lines of the job file read so far."""

from __future__ import annotations

from enum import Enum, auto

from processor.results.rows import Row
from processor.results.table import FIELDS, Place, Table, key_of

REPLIED, FAILED, OWN_FAULT, SEEN, LINE = 1, 2, 4, 8, 16
"""Flags. SEEN: met in this run's job file. LINE: not a job but the row of a line that is none."""

MAX_ATTEMPTS = 0xFFFF


class Standing(Enum):
    """What is to be done about a job."""

    NEW = auto()
    DONE = auto()
    CHANGED = auto()
    """It has a reply, to another request than it makes now."""
    FAILED = auto()
    OWN_FAULT = auto()
    """The provider refused this very request."""
    DUPLICATE = auto()
    """Its id has been met before in this job file."""


class Ledger:
    """Every question costs the same few microseconds, however many jobs there are."""

    def __init__(self) -> None:
        self._table = Table()
        self.superseded = 0
        """REPLIED and FAILED: in which of the two files there are rows that stand for nothing any more."""
        self.read_to = -1
        """Rows of lines that are no jobs are gone, if they were not met up to this line of the job file."""

    def meet(self, custom_id: str, fingerprint: str) -> Standing:
        """Judge the next job of the job file. Each is to be met once."""
        key = job_key(custom_id)
        place = self._table.find(key)
        if place is None:
            self._table.add(key, _check_of(fingerprint), 0, 0, SEEN)
            return Standing.NEW
        check, attempts, count, flags = FIELDS.unpack_from(*place)
        if flags & SEEN:
            return Standing.DUPLICATE
        FIELDS.pack_into(*place, check, attempts, count, flags | SEEN)
        return _standing(flags, check == _check_of(fingerprint))

    def name(self, fingerprint: str) -> str:
        """The ``custom_id`` of the next job without one: its fingerprint, then ``<fingerprint>-2``, ``-3``.

        To be asked right before ``meet``.
        """
        place = self._table.find(job_key(fingerprint))
        if place is None:
            return fingerprint
        check, attempts, count, flags = FIELDS.unpack_from(*place)
        if not flags & SEEN:
            return fingerprint
        FIELDS.pack_into(*place, check, attempts, count + 1, flags)
        return f"{fingerprint}-{count + 2}"

    def attempts(self, custom_id: str) -> int:
        """Requests sent for the job so far, in all runs."""
        place = self._table.find(job_key(custom_id))
        return FIELDS.unpack_from(*place)[1] if place else 0

    def has_reply(self, custom_id: str) -> bool:
        place = self._table.find(job_key(custom_id))
        return bool(place and FIELDS.unpack_from(*place)[3] & REPLIED)

    def tried(self, key: bytes, attempts: int) -> bool:
        """Learn that so many requests have been sent for a job; False where its row already says so."""
        place = self._table.find(key)
        if place is None:
            self._table.add(key, bytes(4), min(attempts, MAX_ATTEMPTS), 0, 0)
            return True
        check, known, count, flags = FIELDS.unpack_from(*place)
        FIELDS.pack_into(*place, check, max(known, min(attempts, MAX_ATTEMPTS)), count, flags)
        return bool(attempts > known)

    # ------------------------------------------------------------ rows

    def meet_line(self, raw: bytes) -> bool:
        """Note that a line which is no job was found in this run; False where its row is on disk already."""
        key = key_of(raw, b"line")
        place = self._table.find(key)
        if place is None:
            self._table.add(key, bytes(4), 0, 0, LINE | SEEN)
            return True
        check, attempts, count, flags = FIELDS.unpack_from(*place)
        FIELDS.pack_into(*place, check, attempts, count, flags | SEEN)
        return False

    def settle(self, row: Row) -> None:
        """Learn a job's row that was just appended."""
        key = job_key(row.custom_id)
        place = self._table.find(key)
        known = FIELDS.unpack_from(*place)[3] if place else 0
        self.superseded |= known & (REPLIED | FAILED)
        self._learn(key, place, row, 0)

    def enter(self, row: Row, raw: bytes) -> None:
        """Learn a row read from disk: later ones after earlier ones, replies before failures."""
        key, place = self._place(row, raw)
        flag = _flags_of(row)
        known = FIELDS.unpack_from(*place)[3] if place else 0
        if flag & FAILED and known & REPLIED:
            self.superseded |= FAILED
            return
        again = known & flag & (REPLIED | FAILED | LINE)
        if again or self._is_gone(row, known):
            self.superseded |= REPLIED if row.replied else FAILED
        self._learn(key, place, row, bool(again))

    def keeps(self, row: Row, raw: bytes) -> bool:
        """Whether a row stays when its file is compacted: the last one of those that ``enter`` learnt."""
        place = self._place(row, raw)[1]
        if place is None:
            return True
        check, attempts, count, flags = FIELDS.unpack_from(*place)
        if not row.replied and flags & REPLIED:
            return False
        if count:
            FIELDS.pack_into(*place, check, attempts, count - 1, flags)
            return False
        return not self._is_gone(row, flags)

    def forget(self, flags: int) -> None:
        """Before the rows that these flags stand for are entered again. Names can no longer be given."""
        self._table.clear(flags)
        self.superseded = 0

    def _is_gone(self, row: Row, flags: int) -> bool:
        return not row.is_job and not flags & SEEN and row.line <= self.read_to

    def _learn(self, key: bytes, place: Place | None, row: Row, again: int) -> None:
        attempts = min(row.attempts, MAX_ATTEMPTS)
        check = _check_of(row.fingerprint)
        if place is None:
            self._table.add(key, check, attempts, 0, _flags_of(row))
            return
        _, known, count, flags = FIELDS.unpack_from(*place)
        FIELDS.pack_into(*place, check, max(attempts, known), count + again, flags & SEEN | _flags_of(row))

    def count(self, flag: int, without: int = 0) -> int:
        """How many records have one flag and not the other."""
        fits = bytes(bool(value & flag and not value & without) for value in range(256))
        return sum(flags.translate(fits).count(1) for flags in self._table.flags())

    def _place(self, row: Row, raw: bytes) -> tuple[bytes, Place | None]:
        key = job_key(row.custom_id) if row.is_job else key_of(raw, b"line")
        return key, self._table.find(key)


def job_key(custom_id: str) -> bytes:
    return key_of(custom_id.encode("utf-8", "surrogatepass"))


def _check_of(fingerprint: str) -> bytes:
    try:
        return bytes.fromhex(fingerprint[:8]).ljust(4)
    except ValueError:
        return key_of(fingerprint.encode("utf-8", "surrogatepass"))[:4]


def _flags_of(row: Row) -> int:
    if not row.is_job:
        return LINE
    if row.replied:
        return REPLIED
    return FAILED | OWN_FAULT if row.own_fault else FAILED


def _standing(flags: int, same: bool) -> Standing:
    if flags & REPLIED:
        return Standing.DONE if same else Standing.CHANGED
    if flags & OWN_FAULT and same:
        return Standing.OWN_FAULT
    return Standing.FAILED if flags & FAILED else Standing.NEW
