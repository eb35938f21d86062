"""What is known of each job: from the rows on disk, and from the lines of the job file read so far."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

from processor.core.job_keys import PACKED_IDENTITY, failure_check, job_key, request_check
from processor.output.compact_hash_table import FIELDS, CompactHashTable
from processor.output.index_entry import (
    FAILED,
    INVALID_LINE,
    MAX_ATTEMPTS,
    OTHER_ENDPOINT,
    OTHER_MODEL,
    OTHER_SCHEMA,
    PACKED_ENTRY,
    PERMANENT,
    REPLIED,
    IndexEntry,
)

SEEN_THIS_RUN = 128
"""A flag beside those of entries: the job, or the invalid line, was found in this run's job file."""

_NO_CHECK = bytes(4)


def _match_tables(*, permanent: bool) -> tuple[bytes, bytes]:
    """Return, for jobs that name no model and for those that name one: what each value of flags means.

    1 for a reply, 2 for a permanent failure if ``permanent``, 0 for all else.
    """
    return _match_table(OTHER_ENDPOINT | OTHER_MODEL, permanent), _match_table(OTHER_ENDPOINT, permanent)


def _match_table(other: int, permanent: bool) -> bytes:
    not_set = SEEN_THIS_RUN | other
    done = [flags & (REPLIED | OTHER_SCHEMA | not_set) == REPLIED for flags in range(256)]
    failed = [flags & (PERMANENT | REPLIED | not_set) == PERMANENT for flags in range(256)]
    return bytes(is_done + 2 * (permanent and is_failed) for is_done, is_failed in zip(done, failed, strict=True))


_IS_DONE = _match_tables(permanent=False)
_IS_DONE_OR_PERMANENT = _match_tables(permanent=True)


class JobStatus(Enum):
    """What earlier runs, and earlier lines, say about a job."""

    NEW = auto()
    DONE = auto()
    """It has a reply to the same request."""
    CHANGED = auto()
    """It has a reply to another request."""
    OTHER_MODEL = auto()
    """It names no model, and has the reply of another model than this run asks."""
    OTHER_ENDPOINT = auto()
    """It has a reply that came from an address where this run sends nothing."""
    OTHER_SCHEMA = auto()
    """It has a reply that was not checked against this run's schema, though it could have been."""
    FAILED = auto()
    """It has a failed row; also where that is permanent, but the request has changed since."""
    FAILED_PERMANENTLY = auto()
    """The provider refused this very request, at this run's address."""
    DUPLICATE = auto()
    """An earlier line of this job file has the same id."""


NEW = JobStatus.NEW
"""Named here, since it is that of most jobs: in Python 3.11 to look up a member of an Enum takes 70 ns."""


class JobIndex:
    """The state of all jobs, by id. Each call takes a few microseconds, and each job 18.3 bytes."""

    def __init__(self) -> None:
        self._table = CompactHashTable()
        self.files_with_stale_rows = 0
        """REPLIED and FAILED, for the file of replies and of failures: whether it has rows to drop."""
        self.has_earlier_attempts = False
        """Earlier runs have sent requests, or a session may be given a job again. Until then those of a job need not be
        looked for."""
        self.lines_read = -1
        """Rows of invalid lines up to this line are stale unless this run has found them again."""

    # ------------------------------------------------------------ the job file

    def classify(self, custom_id: str, fingerprint: str, *, names_model: bool = True) -> JobStatus:
        """Return the status of the next job of the job file, and mark it as seen. Call it once for each line.

        ``names_model``: the job names its model, so that its fingerprint tells whether that is still the same.
        """
        check_now = request_check(fingerprint)
        slot = self._table.add(job_key(custom_id), check_now, 0, 0, SEEN_THIS_RUN)
        if slot is None:
            return NEW
        check, attempts, count, flags = FIELDS.unpack_from(*slot)
        if flags & SEEN_THIS_RUN:
            return JobStatus.DUPLICATE
        FIELDS.pack_into(*slot, check, attempts, count, flags | SEEN_THIS_RUN)
        other = flags & (OTHER_ENDPOINT if names_model else OTHER_ENDPOINT | OTHER_MODEL)
        has_failed = flags & (PERMANENT | REPLIED) == PERMANENT
        is_same_request = check == check_now or (has_failed and check in _failure_checks(fingerprint))
        return _status(flags, other, is_same_request=is_same_request)

    def failed_streamed(self, custom_id: str, fingerprint: str) -> bool | None:
        """Return whether a FAILED_PERMANENTLY job was asked for as a stream; None where its row does not say."""
        slot = self._table.find(job_key(custom_id))
        return _failure_checks(fingerprint).get(FIELDS.unpack_from(*slot)[0]) if slot else None

    def skip_done(self, identities: bytes, begin: int, end: int, *, permanent: bool = False) -> tuple[int, int]:
        """Mark jobs from ``begin`` on as seen while each is DONE (or, with ``permanent``, FAILED_PERMANENTLY).

        Returns the number of the first job that is not marked, and how many before it are FAILED_PERMANENTLY. That
        first job may be DONE all the same: only ``classify`` decides. ``identities`` are packed, in file order.
        """
        wanted = memoryview(identities)[begin * PACKED_IDENTITY.size : end * PACKED_IDENTITY.size]
        marked, permanent_failures = self._table.mark_while(
            wanted, _IS_DONE_OR_PERMANENT if permanent else _IS_DONE, SEEN_THIS_RUN
        )
        return begin + marked, permanent_failures

    def classify_invalid(self, key: bytes) -> bool:
        """Mark an invalid line as seen, by the key of its row. Return whether that row is still to be written."""
        slot = self._table.add(key, _NO_CHECK, 0, 0, INVALID_LINE | SEEN_THIS_RUN)
        if slot is None:
            return True
        check, attempts, count, flags = FIELDS.unpack_from(*slot)
        FIELDS.pack_into(*slot, check, attempts, count, flags | SEEN_THIS_RUN)
        return False

    def assign_id(self, fingerprint: str) -> str:
        """Return the ``custom_id`` of the next job without one: its fingerprint, then ``<fingerprint>-2``, ``-3``.

        Call it right before ``classify``.
        """
        slot = self._table.find(job_key(fingerprint))
        if slot is None:
            return fingerprint
        check, attempts, count, flags = FIELDS.unpack_from(*slot)
        if not flags & SEEN_THIS_RUN:
            return fingerprint
        FIELDS.pack_into(*slot, check, attempts, count + 1, flags)
        return f"{fingerprint}-{count + 2}"

    def forget_job(self, custom_id: str) -> None:
        """Forget that the job was seen, so that ``classify`` takes the next one with its id for the same."""
        self.has_earlier_attempts = True
        if slot := self._table.find(job_key(custom_id)):
            check, attempts, count, flags = FIELDS.unpack_from(*slot)
            FIELDS.pack_into(*slot, check, attempts, count, flags & ~SEEN_THIS_RUN)

    # ------------------------------------------------------------ queries

    def attempts(self, custom_id: str) -> int:
        """Return the number of requests sent for the job so far, in all runs (at most MAX_ATTEMPTS)."""
        slot = self._table.find(job_key(custom_id))
        return int(FIELDS.unpack_from(*slot)[1]) if slot else 0

    def has_reply(self, key: bytes) -> bool:
        slot = self._table.find(key)
        return bool(slot and FIELDS.unpack_from(*slot)[3] & REPLIED)

    def has_row(self, key: bytes) -> bool:
        """Whether the job has a reply or a failed row."""
        slot = self._table.find(key)
        return bool(slot and FIELDS.unpack_from(*slot)[3] & (REPLIED | FAILED))

    def has_attempts(self, key: bytes, attempts: int) -> bool:
        """Whether at least so many requests were sent for the job, by its rows."""
        slot = self._table.find(key)
        return bool(slot and FIELDS.unpack_from(*slot)[1] >= attempts)

    def count(self, flag: int, without: int = 0) -> int:
        """Return how many records have one flag and not the other."""
        matches = bytes(bool(value & flag and not value & without) for value in range(256))
        return sum(flags.translate(matches).count(1) for flags in self._table.flags())

    def count_rows_without_job(self) -> int:
        """Return how many jobs have a row, and have not been found in this run's job file."""
        return self.count(REPLIED | FAILED, without=SEEN_THIS_RUN)

    def raise_attempts(self, key: bytes, attempts: int) -> bool:
        """Raise the attempts of a job to at least this number. Return whether they were fewer."""
        self.has_earlier_attempts = True
        attempts = min(attempts, MAX_ATTEMPTS)
        slot = self._table.add(key, _NO_CHECK, attempts, 0, 0)
        if slot is None:
            return True
        check, known, count, flags = FIELDS.unpack_from(*slot)
        FIELDS.pack_into(*slot, check, max(known, attempts), count, flags)
        return bool(attempts > known)

    # ------------------------------------------------------------ rows

    def load_rows(self, entries: bytes) -> None:
        """Add packed entries of rows on disk: in the order of their file, and replies before failures."""
        self.has_earlier_attempts = True
        duplicates = self._table.add_all(entries)
        for number in duplicates:
            self._load_duplicate(*PACKED_ENTRY.unpack_from(entries, number * PACKED_ENTRY.size))
        if self.lines_read >= 0:
            rows = enumerate(PACKED_ENTRY.iter_unpack(entries))
            if any(number not in duplicates and self._is_stale(flags, 0, line) for number, (*_, flags, line) in rows):
                self.files_with_stale_rows |= FAILED

    def _load_duplicate(self, key: bytes, check: bytes, attempts: int, flags: int, line: int) -> None:
        """Let a row overrule an earlier one with the same key; ``count`` is the number of rows overruled."""
        slot = self._table.find(key)
        assert slot
        _, known_attempts, count, known_flags = FIELDS.unpack_from(*slot)
        if flags & FAILED and known_flags & REPLIED:
            self.files_with_stale_rows |= FAILED
            return
        overrules = bool(known_flags & flags & (REPLIED | FAILED | INVALID_LINE))
        if overrules or self._is_stale(flags, known_flags, line):
            self.files_with_stale_rows |= flags & REPLIED or FAILED
        new_flags = known_flags & SEEN_THIS_RUN | flags
        FIELDS.pack_into(*slot, check, max(attempts, known_attempts), count + overrules, new_flags)

    def should_keep(self, entry: IndexEntry) -> bool:
        """Return whether a row stays in a compaction: the last one of its job. Call it once for each row loaded."""
        slot = self._table.find(entry.key)
        if slot is None:
            return True
        check, attempts, count, flags = FIELDS.unpack_from(*slot)
        if entry.flags & FAILED and flags & REPLIED:
            return False
        if count:
            FIELDS.pack_into(*slot, check, attempts, count - 1, flags)
            return False
        return not self._is_stale(entry.flags, flags, entry.line)

    def _is_stale(self, flags: int, known_flags: int, line: int) -> bool:
        """Whether a row with ``flags`` is of an invalid line that this run has read past and not found again."""
        return bool(flags & INVALID_LINE) and not known_flags & SEEN_THIS_RUN and line <= self.lines_read

    def record_rows(self, entries: Iterable[IndexEntry]) -> None:
        """Add the rows of jobs that were just appended."""
        for key, check, attempts, flags, _ in entries:
            slot = self._table.find(key)
            if slot is None:
                self._table.add(key, check, attempts, 0, flags)
                continue
            _, known_attempts, count, known_flags = FIELDS.unpack_from(*slot)
            self.files_with_stale_rows |= known_flags & (REPLIED | FAILED)
            new_flags = known_flags & SEEN_THIS_RUN | flags
            FIELDS.pack_into(*slot, check, max(attempts, known_attempts), count, new_flags)

    def forget_seen(self) -> None:
        """Forget the lines of the job file, so that it can be read from its beginning. Call it before any row is
        written."""
        self._table.clear(SEEN_THIS_RUN)

    def clear_flags(self, flags: int) -> None:
        """Forget the rows that these flags stand for, so that they can be loaded again. No id can be assigned then."""
        self._table.clear(flags)
        self.files_with_stale_rows = 0


def _failure_checks(fingerprint: str) -> dict[bytes, bool]:
    return {failure_check(fingerprint, streamed): streamed for streamed in (True, False)}


def _status(flags: int, other: int, *, is_same_request: bool) -> JobStatus:
    if flags & REPLIED:
        if not is_same_request:
            return JobStatus.CHANGED
        if other:
            return JobStatus.OTHER_MODEL if other & OTHER_MODEL else JobStatus.OTHER_ENDPOINT
        return JobStatus.OTHER_SCHEMA if flags & OTHER_SCHEMA else JobStatus.DONE
    if flags & PERMANENT and is_same_request and not other:
        return JobStatus.FAILED_PERMANENTLY
    return JobStatus.FAILED if flags & FAILED else NEW
