"""Large job files: what is done is passed over, and nothing else changes."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.core import worker_process
from processor.core.job_keys import job_key, request_check
from processor.input import done_job_skipper, prescan
from processor.input import job_file as source_module
from processor.input.done_job_skipper import SkippedJobs
from processor.input.job_file import InvalidLine, JobFile
from processor.input.job_formats import JobDefaults, ParsedJob, parse_job
from processor.output.index_entry import FAILED, PACKED_ENTRY, PERMANENT, REPLIED
from processor.output.job_index import JobIndex, JobStatus

DEFAULTS = JobDefaults(model="m")
MAX_LINE_BYTES = 400
MARK = b"\xef\xbb\xbf"


def ledger(rows: list[tuple[bytes, int]]) -> JobIndex:
    known = JobIndex()
    for raw, flags in rows:
        draft = parse_job(raw, 0, DEFAULTS)
        name = draft.custom_id or draft.fingerprint
        known.load_rows(PACKED_ENTRY.pack(job_key(name), request_check(draft.fingerprint), 1, flags, 0))
    return known


class Learned(NamedTuple):
    lines: list[Any]
    """What a run learns, line by line: lines at a stretch about which nothing is to be done are as many ``True``, the
    last of them with its number."""
    refused: int
    """How many of those were refused for their own fault."""

    def without_places(self) -> Learned:
        lines = [True if type(each) is tuple and each[1] is True else each for each in self.lines]
        return Learned(lines, self.refused)


async def met(
    found: AsyncIterator[ParsedJob | InvalidLine | SkippedJobs],
    known: JobIndex,
    limit: int | None,
    settled: tuple[JobStatus, ...],
) -> Learned:
    learned: list[Any] = []
    refused = 0
    async for each in found:
        if isinstance(each, SkippedJobs):
            learned += [True] * (each.count - 1)
            learned.append((each.last_line, True))
            refused += each.permanent_failures
        elif isinstance(each, InvalidLine):
            learned.append(each)
        else:
            name = each.custom_id if each.custom_id is not None else known.assign_id(each.fingerprint)
            standing = known.classify(name, each.fingerprint)
            learned.append((each.line, True) if standing in settled else (each, name, standing))
            refused += standing in settled and standing is JobStatus.FAILED_PERMANENTLY
        if len(learned) == limit:
            break
    return Learned(learned, refused)


def both_ways(
    path: Path, rows: list[tuple[bytes, int]], limit: int | None = None, *, refused: bool = False
) -> tuple[Learned, Learned]:
    """Without and with passing over."""
    settled = (JobStatus.DONE, JobStatus.FAILED_PERMANENTLY) if refused else (JobStatus.DONE,)

    async def run() -> tuple[Learned, Learned]:
        source = JobFile(str(path), DEFAULTS, max_line_bytes=MAX_LINE_BYTES)
        try:
            known = ledger(rows)
            async with aclosing(aiter(source)) as lines:
                plain = await met(lines, known, limit, settled)
            known = ledger(rows)
            skip_done = partial(known.skip_done, permanent=refused)
            async with aclosing(source.unfinished(skip_done, limit)) as lines:
                return plain, await met(lines, known, limit, settled)
        finally:
            source.close()

    return asyncio.run(run())


def last_line_of(item: ParsedJob | InvalidLine | SkippedJobs) -> int:
    return item.last_line if isinstance(item, SkippedJobs) else item.line


def make_small(patch: pytest.MonkeyPatch) -> None:
    """So small that lines are longer than parts, and parts than chunks."""
    patch.setattr(source_module, "MIN_SKIP_BYTES", 1)
    patch.setattr(prescan, "PART_BYTES", 300)
    patch.setattr(prescan, "MAX_SCAN_BYTES", 1000)
    patch.setattr(prescan, "STEP_BYTES", 7)
    patch.setattr(done_job_skipper, "CHUNK_BYTES", 100)


JOBS = [orjson.dumps({"id": f"job-{n}", "prompt": f"Say {n % 4}"}) for n in range(8)]
JOBS += [orjson.dumps({"id": f"job-{n}", "prompt": "Changed"}) for n in range(3)]
JOBS += [orjson.dumps({"prompt": f"Without a name {n}", "metadata": n}) for n in range(3)]
JOBS += [orjson.dumps({"custom_id": "batch", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user"}]}})]
BAD = [b"broken", b"[]", b'{"id": "job-1"}', b'{"id": "job-2", "method": "GET", "prompt": "Say 2"}', b"\xff\xfe"]
LONG = b'{"id": "long", "prompt": "' + b"x" * 380 + b'"}'
BLANK = [b"", b"   ", b"\t"]
ENDS = [b"\n", b"\r\n", b" \n"]


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(JOBS), st.sampled_from([REPLIED, REPLIED, REPLIED, FAILED, FAILED | PERMANENT])),
        max_size=20,
    ),
    lines=st.lists(
        st.tuples(st.sampled_from(JOBS * 2 + BAD + BLANK + [LONG, b" " * 2000]), st.sampled_from(ENDS)), max_size=60
    ),
    mark=st.booleans(),
    ended=st.booleans(),
    limit=st.none() | st.integers(1, 70),
    refused=st.booleans(),
)
def test_skipped_jobs_are_those_that_full_reading_finds_done(
    rows: list[tuple[bytes, int]],
    lines: list[tuple[bytes, bytes]],
    mark: bool,
    ended: bool,
    limit: int | None,
    refused: bool,
) -> None:
    data = MARK * mark + b"".join(raw + end for raw, end in lines)
    with tempfile.NamedTemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        patch.setattr(worker_process, "_available_cpus", lambda: 1)
        file.write(data if ended else data.rstrip())
        file.flush()
        plain, passed = both_ways(Path(file.name), rows, limit, refused=refused)
    assert passed.without_places() == plain.without_places()
    if passed.lines and type(passed.lines[-1]) is tuple and passed.lines[-1][1] is True:
        assert passed.lines[-1][0] >= plain.lines[-1][0]


def all_of(path: Path, known: JobIndex, limit: int | None = None) -> list[ParsedJob | InvalidLine | SkippedJobs]:
    async def run() -> list[ParsedJob | InvalidLine | SkippedJobs]:
        source = JobFile(str(path), DEFAULTS)
        try:
            return [found async for found in source.unfinished(known.skip_done, limit)]
        finally:
            source.close()

    return asyncio.run(run())


@pytest.fixture
def thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A thousand jobs in parts of about seven."""
    make_small(monkeypatch)
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b"".join(b'{"id": "job-%d", "prompt": "Say it"}\n' % n for n in range(1, 1001)))
    return path


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.process
def test_worker_process_does_not_change_what_is_skipped(thousand: Path, refused: bool) -> None:
    lines = [raw for raw in thousand.read_bytes().splitlines() if raw[13:14] != b"7"]
    rows = [(raw, FAILED | PERMANENT if raw[13:14] == b"3" else REPLIED) for raw in lines]
    plain, passed = both_ways(thousand, rows, refused=refused)
    assert passed.refused == (99 if refused else 0)
    assert passed.without_places() == plain.without_places()


@pytest.mark.process
def test_done_jobs_are_skipped_many_at_a_time(thousand: Path) -> None:
    found = all_of(thousand, ledger([(raw, REPLIED) for raw in thousand.read_bytes().splitlines()[:-1]]))
    passed = [each for each in found if isinstance(each, SkippedJobs)]
    looked_at = [each.line for each in found if not isinstance(each, SkippedJobs)]
    assert sum(each.count for each in passed) > 950
    assert max(each.count for each in passed) > 5
    assert looked_at == [*range(1, len(looked_at)), 1000]  # the first part, and what is not done


@pytest.mark.process
def test_overlong_line_with_a_reply_is_not_skipped(thousand: Path) -> None:
    lines = thousand.read_bytes().splitlines()
    thousand.write_bytes(b"\n".join([*lines[:500], LONG, *lines[500:]]))
    plain, passed = both_ways(thousand, [(raw, REPLIED) for raw in [*lines, LONG]])
    assert passed.without_places() == plain.without_places()
    assert isinstance(passed.lines[500], InvalidLine)


@pytest.mark.process
def test_byte_order_mark_before_a_blank_line_keeps_line_numbers(thousand: Path) -> None:
    lines = thousand.read_bytes().splitlines()
    thousand.write_bytes(MARK + b"\n" + thousand.read_bytes())
    plain, passed = both_ways(thousand, [(raw, REPLIED) for raw in lines])
    assert passed.without_places() == plain.without_places() == Learned([True] * 1000, 0)


@pytest.mark.process
def test_jobs_are_skipped_only_up_to_the_limit(thousand: Path) -> None:
    known = ledger([(raw, REPLIED) for raw in thousand.read_bytes().splitlines()])
    lines = 0
    for each in all_of(thousand, known, limit=500):
        lines += each.count if isinstance(each, SkippedJobs) else 1
        if lines == 500:
            assert last_line_of(each) == 500
            return
    raise AssertionError("passed over the limit")


def test_small_file_is_read_without_skipping(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(JOBS[0])
    assert [type(found) for found in all_of(path, ledger([(JOBS[0], REPLIED)]))] == [ParsedJob]


@pytest.mark.process
def test_file_truncated_during_reading_ends_early(thousand: Path) -> None:
    async def run() -> int:
        source = JobFile(str(thousand), DEFAULTS)
        lines = 0
        async with aclosing(source.unfinished(JobIndex().skip_done)) as found:
            async for each in found:
                lines += 1
                if last_line_of(each) == 3:
                    os.truncate(thousand, 4000)  # in one step: the second process may be reading
        source.close()
        return lines

    assert 100 < asyncio.run(run()) < 200
