from __future__ import annotations

import sys
from hashlib import blake2b

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from processor.core.models import Result
from processor.output.compact_hash_table import FIELDS, KEY_BYTES, CompactHashTable
from processor.output.index_entry import (
    FAILED,
    PACKED_ENTRY,
    REPLIED,
    IndexEntry,
    entry_from_result,
    job_key,
    unpack_entry,
)
from processor.output.job_index import SEEN_THIS_RUN, JobIndex, JobStatus
from processor.output.row_json import encode_row
from tests.support.results_samples import bad_line, failure, print_of, reply


def entry(result: Result) -> IndexEntry:
    return entry_from_result(result, encode_row(result)[:-1])


def knowing(*results: Result) -> JobIndex:
    index = JobIndex()
    for result in results:
        index.load_rows(PACKED_ENTRY.pack(*entry(result)))
    return index


def key(number: int) -> bytes:
    return blake2b(b"%d" % number, digest_size=KEY_BYTES).digest()


def test_a_job_is_judged_by_the_row_it_has():
    index = knowing(reply("done"), reply("changed"), failure("failed"), failure("own", permanent=True))
    assert index.classify("done", print_of("done")) is JobStatus.DONE
    assert index.classify("changed", print_of("other")) is JobStatus.CHANGED
    assert index.classify("failed", print_of("failed")) is JobStatus.FAILED
    assert index.classify("own", print_of("own")) is JobStatus.FAILED_PERMANENTLY
    assert index.classify("new", print_of("new")) is JobStatus.NEW
    assert index.classify("new", print_of("new")) is JobStatus.DUPLICATE
    assert index.classify("done", print_of("done")) is JobStatus.DUPLICATE


def test_a_job_refused_for_its_own_fault_is_tried_again_once_it_has_changed():
    assert knowing(failure("a", permanent=True)).classify("a", print_of("b")) is JobStatus.FAILED


def test_a_failed_row_says_nothing_against_a_reply_and_of_two_rows_the_last_counts():
    assert knowing(reply("a"), failure("a")).classify("a", print_of("a")) is JobStatus.DONE
    assert knowing(reply("a"), reply("a", request="b")).classify("a", print_of("b")) is JobStatus.DONE
    last = knowing(failure("a", permanent=True), failure("a", attempts=9))
    assert last.classify("a", print_of("a")) is JobStatus.FAILED
    assert last.attempts("a") == 9


def test_attempts_count_over_all_runs():
    index = knowing(failure("a", attempts=6))
    assert index.attempts("a") == 6
    assert not index.raise_attempts(job_key("a"), 6)
    assert index.raise_attempts(job_key("a"), 8)
    assert index.raise_attempts(job_key("b"), 1)
    assert (index.attempts("a"), index.attempts("b"), index.attempts("c")) == (8, 1, 0)
    assert index.classify("b", print_of("b")) is JobStatus.NEW
    index.record_row(entry(reply("b", attempts=2)))
    assert index.attempts("b") == 2


def test_the_same_id_in_a_row_of_a_bad_line_is_another_matter():
    index = knowing(reply("a"), bad_line(3, "x", "a", "duplicate_custom_id"))
    assert index.classify("a", print_of("a")) is JobStatus.DONE
    assert not index.classify_invalid(entry(bad_line(3, "x", "a", "duplicate_custom_id")).key)
    assert index.classify_invalid(entry(bad_line(4, "x", "a", "duplicate_custom_id")).key)
    assert index.files_with_stale_rows == 0


def test_what_is_superseded_is_noticed_by_file():
    assert knowing(reply("a"), reply("b"), failure("c")).files_with_stale_rows == 0
    assert knowing(reply("a"), reply("a")).files_with_stale_rows == REPLIED
    assert knowing(reply("a"), failure("a")).files_with_stale_rows == FAILED
    assert knowing(failure("a"), failure("a")).files_with_stale_rows == FAILED
    assert knowing(bad_line(1), bad_line(1)).files_with_stale_rows == FAILED


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(1, 3))
def test_identical_jobs_without_id_are_told_apart_by_their_number(requests, kept):
    """And the same names come out in each run, whatever has its reply already."""

    def run(index):
        named = []
        for request in requests:
            name = index.assign_id(print_of(request))
            named.append((name, index.classify(name, print_of(request))))
        return named

    first = run(JobIndex())
    names = [name for name, _ in first]
    assert len(set(names)) == len(names)
    for request in "abcd":
        count = requests.count(request)
        fingerprint = print_of(request)
        assert [n for n in names if n.startswith(fingerprint)] == [
            fingerprint,
            *(f"{fingerprint}-{k}" for k in range(2, count + 1)),
        ][:count]
    again = knowing(
        *(reply(name, request=request) for name, request in list(zip(names, requests, strict=True))[::kept])
    )
    # The sample's fingerprints are made from the request, as a real one's are.
    assert [name for name, _ in run(again)] == names


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans(), st.sampled_from("xy")), max_size=20))
def test_of_entered_rows_exactly_the_last_of_each_job_is_kept(drawn):
    results = [reply(n, request=r) if ok else failure(n, request=r) for n, ok, r in drawn]
    replies, failures = [r for r in results if r.reply], [r for r in results if r.failure]
    index = knowing(*replies, *failures)
    names = {result.custom_id for result in replies}
    kept = [result for result in replies if index.should_keep(entry(result))]
    assert sorted(result.custom_id for result in kept) == sorted(names)
    assert all(result is [r for r in replies if r.custom_id == result.custom_id][-1] for result in kept)
    kept = [result for result in failures if index.should_keep(entry(result))]
    assert sorted(r.custom_id for r in kept) == sorted({r.custom_id for r in failures} - names)
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
def test_rows_may_be_entered_any_number_at_a_time(drawn, at_a_time, lines_read):
    """A job's reply, its failure, or a bad line by the same name."""
    results = [
        bad_line(line, name) if line else reply(name, request=request) if ok else failure(name, request=request)
        for name, ok, request, line in drawn
    ]
    entries = [PACKED_ENTRY.pack(*entry(result)) for result in sorted(results, key=lambda result: result.reply is None)]

    def learned(step):
        index = JobIndex()
        index.lines_read = lines_read
        for at in range(0, len(entries), step):
            index.load_rows(b"".join(entries[at : at + step]))
        records = [FIELDS.unpack_from(*index._table.find(packed[:KEY_BYTES])) for packed in entries]
        return index.files_with_stale_rows, records, [index.should_keep(unpack_entry(packed)) for packed in entries]

    assert learned(at_a_time) == learned(1)


class TableAgainstDict(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.table = CompactHashTable()
        self.model: dict[bytes, tuple] = {}

    # Keys that share a chain, and tails that look alike at every offset.
    keys = st.builds(
        lambda c, t: bytes([0, c]) + bytes(t), st.integers(0, 1), st.lists(st.integers(0, 2), min_size=7, max_size=7)
    )
    fields = st.tuples(
        st.binary(min_size=4, max_size=4), st.integers(0, 9), st.integers(0, 2**32 - 1), st.integers(0, 255)
    )

    @rule(key=keys, fields=fields)
    def put(self, key, fields):
        if not any(key[2:]):
            return  # seven zeros: what an empty place looks like; a digest is that once in 10**16
        place = self.table.add(key, *fields)
        assert (place is None) == (key not in self.model)
        if place:
            FIELDS.pack_into(*place, *fields)
        self.model[key] = fields

    @rule(flags=st.integers(0, 255))
    def clear(self, flags):
        self.table.clear(flags)
        self.model = {k: (c, a, 0, f & ~flags) for k, (c, a, n, f) in self.model.items()}

    @invariant()
    def the_same(self):
        assert len(self.table) == len(self.model)
        for key, fields in self.model.items():
            assert FIELDS.unpack_from(*self.table.find(key)) == fields


TestTableAgainstDict = TableAgainstDict.TestCase
TestTableAgainstDict.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


def test_a_long_chain_finds_all_its_records():
    table = CompactHashTable()
    for number in range(200):
        table.add(b"\0\0" + key(number)[2:], bytes(4), number, 0, 1)
    for number in range(200):
        assert FIELDS.unpack_from(*table.find(b"\0\0" + key(number)[2:]))[1] == number
    assert table.find(b"\0\0" + key(200)[2:]) is None


def test_a_job_costs_less_than_24_bytes_at_any_time_while_they_grow():
    """Beside what the table takes from the start, and the last step by which it grew, which is not full yet."""
    table = CompactHashTable()

    def taken():
        return len(table._pages) + sum(map(sys.getsizeof, (table._next_page, table._next_offset, table._bloom)))

    before = taken()
    for number in range(1, 200_000):
        table.add(key(number), bytes(4), 0, 0, SEEN_THIS_RUN)
        if number % 10_000 == 0:
            assert (taken() - before - (1 << 20)) / number < 20


def test_identical_jobs_cost_no_more_than_others():
    index = JobIndex()
    for _ in range(20_000):
        index.classify(name := index.assign_id("ab" * 16), "ab" * 16)
    assert name == "ab" * 16 + "-20000"
    assert index.count(SEEN_THIS_RUN) == 20_000
