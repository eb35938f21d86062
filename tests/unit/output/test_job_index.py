from __future__ import annotations

import sys
from hashlib import blake2b
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from processor.core.job_keys import KEY_BYTES, job_key
from processor.core.models import Result
from processor.output.compact_hash_table import FIELDS, CompactHashTable
from processor.output.index_entry import (
    FAILED,
    PACKED_ENTRY,
    REPLIED,
    IndexEntry,
    entry_from_result,
    unpack_entry,
)
from processor.output.job_index import SEEN_THIS_RUN, JobIndex, JobStatus
from processor.output.row_json import encode_row
from tests.support.results_samples import failure, fingerprint_of, invalid_line, reply


def entry(result: Result) -> IndexEntry:
    return entry_from_result(result, encode_row(result)[:-1])


def knowing(*results: Result) -> JobIndex:
    index = JobIndex()
    for result in results:
        index.load_rows(PACKED_ENTRY.pack(*entry(result)))
    return index


def key(number: int) -> bytes:
    return blake2b(b"%d" % number, digest_size=KEY_BYTES).digest()


def test_job_status_follows_from_its_row() -> None:
    index = knowing(reply("done"), reply("changed"), failure("failed"), failure("own", permanent=True))
    assert index.classify("done", fingerprint_of("done")) is JobStatus.DONE
    assert index.classify("changed", fingerprint_of("other")) is JobStatus.CHANGED
    assert index.classify("failed", fingerprint_of("failed")) is JobStatus.FAILED
    assert index.classify("own", fingerprint_of("own")) is JobStatus.FAILED_PERMANENTLY
    assert index.classify("new", fingerprint_of("new")) is JobStatus.NEW
    assert index.classify("new", fingerprint_of("new")) is JobStatus.DUPLICATE
    assert index.classify("done", fingerprint_of("done")) is JobStatus.DUPLICATE


def test_permanent_failure_is_an_ordinary_one_after_the_job_changed() -> None:
    assert knowing(failure("a", permanent=True)).classify("a", fingerprint_of("b")) is JobStatus.FAILED


def test_permanent_failure_says_whether_it_was_streamed() -> None:
    for streamed in (True, False, None):
        index = knowing(failure("a", permanent=True, streamed=streamed), failure("b", streamed=streamed))
        assert index.classify("a", fingerprint_of("a")) is JobStatus.FAILED_PERMANENTLY
        assert index.failed_streamed("a", fingerprint_of("a")) is streamed
        assert index.classify("b", fingerprint_of("b")) is JobStatus.FAILED
        assert index.failed_streamed("new", fingerprint_of("new")) is None
    assert knowing(failure("a", permanent=True, streamed=True)).classify("a", fingerprint_of("b")) is JobStatus.FAILED


def test_reply_overrules_failure_and_last_row_overrules_earlier_ones() -> None:
    assert knowing(reply("a"), failure("a")).classify("a", fingerprint_of("a")) is JobStatus.DONE
    assert knowing(reply("a"), reply("a", request="b")).classify("a", fingerprint_of("b")) is JobStatus.DONE
    last = knowing(failure("a", permanent=True), failure("a", attempts=9))
    assert last.classify("a", fingerprint_of("a")) is JobStatus.FAILED
    assert last.attempts("a") == 9


def test_attempts_are_counted_over_all_runs() -> None:
    index = knowing(failure("a", attempts=6))
    assert index.attempts("a") == 6
    assert not index.raise_attempts(job_key("a"), 6)
    assert index.raise_attempts(job_key("a"), 8)
    assert index.raise_attempts(job_key("b"), 1)
    assert (index.attempts("a"), index.attempts("b"), index.attempts("c")) == (8, 1, 0)
    assert index.classify("b", fingerprint_of("b")) is JobStatus.NEW
    index.record_rows([entry(reply("b", attempts=2))])
    assert index.attempts("b") == 2


def test_row_of_an_invalid_line_does_not_affect_the_job_with_its_id() -> None:
    index = knowing(reply("a"), invalid_line(3, "x", "a", "duplicate_custom_id"))
    assert index.classify("a", fingerprint_of("a")) is JobStatus.DONE
    assert not index.classify_invalid(entry(invalid_line(3, "x", "a", "duplicate_custom_id")).key)
    assert index.classify_invalid(entry(invalid_line(4, "x", "a", "duplicate_custom_id")).key)
    assert index.files_with_stale_rows == 0


def test_stale_rows_are_noted_by_file() -> None:
    assert knowing(reply("a"), reply("b"), failure("c")).files_with_stale_rows == 0
    assert knowing(reply("a"), reply("a")).files_with_stale_rows == REPLIED
    assert knowing(reply("a"), failure("a")).files_with_stale_rows == FAILED
    assert knowing(failure("a"), failure("a")).files_with_stale_rows == FAILED
    assert knowing(invalid_line(1), invalid_line(1)).files_with_stale_rows == FAILED


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(1, 3))
def test_identical_jobs_without_id_get_numbered_ids_that_repeat_in_each_run(requests: list[str], kept: int) -> None:
    """The ids do not depend on which of the jobs have their reply already."""

    def run(index: JobIndex) -> list[tuple[str, JobStatus]]:
        named = []
        for request in requests:
            name = index.assign_id(fingerprint_of(request))
            named.append((name, index.classify(name, fingerprint_of(request))))
        return named

    first = run(JobIndex())
    names = [name for name, _ in first]
    assert len(set(names)) == len(names)
    for request in "abcd":
        count = requests.count(request)
        fingerprint = fingerprint_of(request)
        assert [n for n in names if n.startswith(fingerprint)] == [
            fingerprint,
            *(f"{fingerprint}-{k}" for k in range(2, count + 1)),
        ][:count]
    again = knowing(
        *(reply(name, request=request) for name, request in list(zip(names, requests, strict=True))[::kept])
    )
    # As for real jobs, the fingerprints depend on the request alone.
    assert [name for name, _ in run(again)] == names


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans(), st.sampled_from("xy")), max_size=20))
def test_only_the_last_row_of_each_job_is_kept(drawn: list[Any]) -> None:
    results = [reply(n, request=r) if ok else failure(n, request=r) for n, ok, r in drawn]
    replies, failures = [r for r in results if r.reply], [r for r in results if r.failure]
    index = knowing(*replies, *failures)
    names = {result.custom_id for result in replies}
    kept = [result for result in replies if index.should_keep(entry(result))]
    assert {result.custom_id for result in kept} == names
    assert len(kept) == len(names)
    assert all(result is [r for r in replies if r.custom_id == result.custom_id][-1] for result in kept)
    kept = [result for result in failures if index.should_keep(entry(result))]
    assert {r.custom_id for r in kept} == {r.custom_id for r in failures} - names
    assert len(kept) == len({r.custom_id for r in kept})
    assert all(result is [r for r in failures if r.custom_id == result.custom_id][-1] for result in kept)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.sampled_from("xy"), st.sampled_from([0, 2, 5])),
        max_size=40,
    ),
    st.integers(1, 40),
    st.sampled_from([-1, 3, 9]),
)
def test_rows_loaded_in_batches_give_the_same_index_as_one_by_one(
    drawn: list[Any], at_a_time: int, lines_read: int
) -> None:
    """A job's reply, its failure, or an invalid line with the same id."""
    results = [
        invalid_line(line, name) if line else reply(name, request=request) if ok else failure(name, request=request)
        for name, ok, request, line in drawn
    ]
    entries = [PACKED_ENTRY.pack(*entry(result)) for result in sorted(results, key=lambda result: result.reply is None)]

    def loaded(step: int) -> tuple[int, list[tuple[Any, ...]], list[bool]]:
        index = JobIndex()
        index.lines_read = lines_read
        for at in range(0, len(entries), step):
            index.load_rows(b"".join(entries[at : at + step]))
        records = [fields_of(index._table, packed[:KEY_BYTES]) for packed in entries]
        return index.files_with_stale_rows, records, [index.should_keep(unpack_entry(packed)) for packed in entries]

    assert loaded(at_a_time) == loaded(1)


def fields_of(table: CompactHashTable, key: bytes) -> tuple[Any, ...]:
    slot = table.find(key)
    assert slot
    return FIELDS.unpack_from(*slot)


class TableAgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.table = CompactHashTable()
        self.model: dict[bytes, tuple[Any, ...]] = {}

    # Keys that share a chain, with tails that are similar at every offset.
    keys = st.builds(
        lambda c, t: bytes([0, c]) + bytes(t), st.integers(0, 1), st.lists(st.integers(0, 2), min_size=7, max_size=7)
    )
    fields = st.tuples(
        st.binary(min_size=4, max_size=4), st.integers(0, 9), st.integers(0, 2**32 - 1), st.integers(0, 255)
    )

    @rule(key=keys, fields=fields)
    def put(self, key: bytes, fields: tuple[bytes, int, int, int]) -> None:
        if not any(key[2:]):
            return  # seven zeros look like an unused place; a digest has them once in 10**16
        slot = self.table.add(key, *fields)
        assert (slot is None) == (key not in self.model)
        if slot:
            FIELDS.pack_into(*slot, *fields)
        self.model[key] = fields

    @rule(flags=st.integers(0, 255))
    def clear(self, flags: int) -> None:
        self.table.clear(flags)
        self.model = {k: (c, a, 0, f & ~flags) for k, (c, a, n, f) in self.model.items()}

    @invariant()
    def table_equals_dict(self) -> None:
        assert len(self.table) == len(self.model)
        for key, fields in self.model.items():
            assert fields_of(self.table, key) == fields


TestTableAgainstDict = TableAgainstDict.TestCase
TestTableAgainstDict.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


def test_table_finds_all_records_of_a_long_chain() -> None:
    table = CompactHashTable()
    for number in range(200):
        table.add(b"\0\0" + key(number)[2:], bytes(4), number, 0, 1)
    for number in range(200):
        assert fields_of(table, b"\0\0" + key(number)[2:])[1] == number
    assert table.find(b"\0\0" + key(200)[2:]) is None


def test_key_that_is_added_again_is_one_record() -> None:
    table = CompactHashTable()
    assert (len(table), list(table.flags())) == (0, [])
    for number in (1, 2, 1):
        table.add(key(number), bytes(4), 0, 0, REPLIED)
    assert len(table) == 2
    assert sum(flags.count(REPLIED) for flags in table.flags()) == 2


def test_table_takes_less_than_20_bytes_a_record_while_it_grows() -> None:
    """Not counted: a page for each chain, and its last growth step, which is not full yet."""
    table = CompactHashTable()

    def size_bytes() -> int:
        return len(table._pages) + sum(map(sys.getsizeof, (table._next_page, table._next_offset, table._bloom)))

    before = size_bytes()
    for number in range(1, 200_000):
        table.add(key(number), bytes(4), 0, 0, SEEN_THIS_RUN)
        if number == 1000:
            assert size_bytes() - before < 2 << 20  # a short run takes no page for each chain
        if number % 10_000 == 0:
            assert (size_bytes() - before - (8 << 20) - (1 << 20)) / number < 20


def test_identical_jobs_take_one_record_each() -> None:
    index = JobIndex()
    for _ in range(20_000):
        index.classify(name := index.assign_id("ab" * 16), "ab" * 16)
    assert name == "ab" * 16 + "-20000"
    assert index.count(SEEN_THIS_RUN) == 20_000
