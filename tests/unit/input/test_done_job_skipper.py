"""Skipping done jobs in large job files changes nothing else."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core import platform
from processor.core.errors import InputError
from processor.core.job_keys import job_key, request_check
from processor.input import done_job_skipper, prescan
from processor.input import job_file as job_file_module
from processor.input.done_job_skipper import SkippedJobs
from processor.input.job_file import InvalidLine, JobFile
from processor.input.job_files import each_item
from processor.input.job_formats import JobDefaults, ParsedJob, parse_job
from processor.output.index_entry import (
    FAILED,
    OTHER_ENDPOINT,
    OTHER_MODEL,
    PACKED_ENTRY,
    PERMANENT,
    REPLIED,
)
from processor.output.job_index import JobIndex, JobStatus

DEFAULTS = JobDefaults(model="m")
MAX_LINE_BYTES = 400
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def index_of(rows: list[tuple[bytes, int]]) -> JobIndex:
    index = JobIndex()
    for raw, flags in rows:
        parsed = parse_job(raw, 0, DEFAULTS)
        custom_id = parsed.custom_id or parsed.fingerprint
        index.load_rows(PACKED_ENTRY.pack(job_key(custom_id), request_check(parsed.fingerprint), 1, flags, 0))
    return index


class ReadLines(NamedTuple):
    lines: list[Any]
    """One value for item line: its item, or True where it was skipped. The last of consecutive skipped lines is a
    pair of its number and True."""
    permanent_failures: int
    """How many of the skipped jobs have failed permanently."""

    def without_numbers(self) -> ReadLines:
        lines = [True if type(item) is tuple and item[1] is True else item for item in self.lines]
        return ReadLines(lines, self.permanent_failures)


async def read_items(
    lists: AsyncIterator[Sequence[ParsedJob | InvalidLine | SkippedJobs]],
    index: JobIndex,
    limit: int | None,
    skippable: tuple[JobStatus, ...],
) -> ReadLines:
    values: list[Any] = []
    permanent_failures = 0
    async for item in each_item(lists):
        if isinstance(item, SkippedJobs):
            values += [True] * (item.count - 1)
            values.append((item.last_line, True))
            permanent_failures += item.permanent_failures
        elif isinstance(item, InvalidLine):
            values.append(item)
        else:
            name = item.custom_id if item.custom_id is not None else index.assign_id(item.fingerprint)
            status = index.classify(name, item.fingerprint, names_model=item.names_model)
            values.append((item.line, True) if status in skippable else (item, name, status))
            permanent_failures += status in skippable and status is JobStatus.FAILED_PERMANENTLY
        if len(values) == limit:
            break
    return ReadLines(values, permanent_failures)


def read_both_ways(
    path: Path, rows: list[tuple[bytes, int]], limit: int | None = None, *, permanent: bool = False
) -> tuple[ReadLines, ReadLines]:
    """Read the file without skipping and with it."""
    skippable = (JobStatus.DONE, JobStatus.FAILED_PERMANENTLY) if permanent else (JobStatus.DONE,)

    async def run() -> tuple[ReadLines, ReadLines]:
        source = JobFile(str(path), DEFAULTS, max_line_bytes=MAX_LINE_BYTES)
        try:
            index = index_of(rows)
            async with aclosing(aiter(source)) as lines:
                plain = await read_items(lines, index, limit, skippable)
            index = index_of(rows)
            skip_done = partial(index.skip_done, permanent=permanent)
            async with aclosing(source.unfinished(skip_done, limit)) as lines:
                return plain, await read_items(lines, index, limit, skippable)
        finally:
            source.close()

    return asyncio.run(run())


def last_line_of(item: ParsedJob | InvalidLine | SkippedJobs) -> int:
    return item.last_line if isinstance(item, SkippedJobs) else item.line


def shrink_sizes(patch: pytest.MonkeyPatch) -> None:
    """Make parts smaller than lines, and chunks smaller than parts."""
    patch.setattr(job_file_module, "MIN_SKIP_BYTES", 1)
    patch.setattr(prescan, "PART_BYTES", 300)
    patch.setattr(prescan, "MAX_SCAN_BYTES", 1000)
    patch.setattr(prescan, "STEP_BYTES", 7)
    patch.setattr(done_job_skipper, "CHUNK_BYTES", 100)


JOBS = [orjson.dumps({"id": f"job-{n}", "prompt": f"Say {n % 4}"}) for n in range(8)]
JOBS += [orjson.dumps({"id": f"job-{n}", "prompt": "Changed"}) for n in range(3)]
JOBS += [orjson.dumps({"prompt": f"Without a name {n}", "metadata": n}) for n in range(3)]
JOBS += [orjson.dumps({"id": f"job-{n}", "prompt": f"Say {n % 4}", "model": "n"}) for n in range(8, 11)]
JOBS += [orjson.dumps({"custom_id": "batch", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user"}]}})]
ROW_FLAGS = [REPLIED, REPLIED, REPLIED, FAILED, FAILED | PERMANENT]
ROW_FLAGS += [REPLIED | OTHER_MODEL, REPLIED | OTHER_ENDPOINT, FAILED | PERMANENT | OTHER_MODEL]
INVALID = [b"broken", b"[]", b'{"id": "job-1"}', b'{"id": "job-2", "method": "GET", "prompt": "Say 2"}', b"\x80\xfe"]
LONG = b'{"id": "long", "prompt": "' + b"x" * 380 + b'"}'
BLANK = [b"", b"   ", b"\t"]
ENDS = [b"\n", b"\r\n", b" \n"]


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(JOBS), st.sampled_from(ROW_FLAGS)),
        max_size=20,
    ),
    lines=st.lists(
        st.tuples(st.sampled_from(JOBS * 2 + INVALID + BLANK + [LONG, b" " * 2000]), st.sampled_from(ENDS)), max_size=60
    ),
    has_byte_order_mark=st.booleans(),
    ended=st.booleans(),
    limit=st.none() | st.integers(1, 70),
    permanent=st.booleans(),
)
def test_skipped_jobs_are_those_that_full_reading_finds_done(
    rows: list[tuple[bytes, int]],
    lines: list[tuple[bytes, bytes]],
    has_byte_order_mark: bool,
    ended: bool,
    limit: int | None,
    permanent: bool,
) -> None:
    data = BYTE_ORDER_MARK * has_byte_order_mark + b"".join(raw + end for raw, end in lines)
    with tempfile.NamedTemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        shrink_sizes(patch)
        patch.setattr(platform, "available_cpus", lambda: 1)
        file.write(data if ended else data.rstrip())
        file.flush()
        plain, skipped = read_both_ways(Path(file.name), rows, limit, permanent=permanent)
    assert skipped.without_numbers() == plain.without_numbers()
    if skipped.lines and type(skipped.lines[-1]) is tuple and skipped.lines[-1][1] is True:
        assert skipped.lines[-1][0] >= plain.lines[-1][0]


def all_of(path: Path, index: JobIndex, limit: int | None = None) -> list[ParsedJob | InvalidLine | SkippedJobs]:
    async def run() -> list[ParsedJob | InvalidLine | SkippedJobs]:
        source = JobFile(str(path), DEFAULTS)
        try:
            return [found async for found in each_item(source.unfinished(index.skip_done, limit))]
        finally:
            source.close()

    return asyncio.run(run())


@pytest.fixture
def thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A thousand jobs in parts of about seven."""
    shrink_sizes(monkeypatch)
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b"".join(b'{"id": "job-%d", "prompt": "Say it"}\n' % n for n in range(1, 1001)))
    return path


@pytest.mark.parametrize("permanent", [False, True])
@pytest.mark.process
def test_worker_process_does_not_change_what_is_skipped(thousand: Path, permanent: bool) -> None:
    lines = [raw for raw in thousand.read_bytes().splitlines() if raw[13:14] != b"7"]
    rows = [(raw, FAILED | PERMANENT if raw[13:14] == b"3" else REPLIED) for raw in lines]
    plain, skipped = read_both_ways(thousand, rows, permanent=permanent)
    assert skipped.permanent_failures == (99 if permanent else 0)
    assert skipped.without_numbers() == plain.without_numbers()


@pytest.mark.process
def test_done_jobs_are_skipped_many_at_a_time(thousand: Path) -> None:
    found = all_of(thousand, index_of([(raw, REPLIED) for raw in thousand.read_bytes().splitlines()[:-1]]))
    skipped = [item for item in found if isinstance(item, SkippedJobs)]
    read_lines = [item.line for item in found if not isinstance(item, SkippedJobs)]
    assert sum(item.count for item in skipped) > 950
    assert max(item.count for item in skipped) > 5
    assert read_lines == [*range(1, len(read_lines)), 1000]  # the first part, and the job that is not done


@pytest.mark.process
def test_overlong_line_with_a_reply_is_not_skipped(thousand: Path) -> None:
    lines = thousand.read_bytes().splitlines()
    thousand.write_bytes(b"\n".join([*lines[:500], LONG, *lines[500:]]))
    plain, skipped = read_both_ways(thousand, [(raw, REPLIED) for raw in [*lines, LONG]])
    assert skipped.without_numbers() == plain.without_numbers()
    assert isinstance(skipped.lines[500], InvalidLine)


@pytest.mark.process
def test_byte_order_mark_before_a_blank_line_keeps_line_numbers(thousand: Path) -> None:
    lines = thousand.read_bytes().splitlines()
    thousand.write_bytes(BYTE_ORDER_MARK + b"\n" + thousand.read_bytes())
    plain, skipped = read_both_ways(thousand, [(raw, REPLIED) for raw in lines])
    assert skipped.without_numbers() == plain.without_numbers() == ReadLines([True] * 1000, 0)


@pytest.mark.process
def test_jobs_are_skipped_only_up_to_the_limit(thousand: Path) -> None:
    index = index_of([(raw, REPLIED) for raw in thousand.read_bytes().splitlines()])
    lines = 0
    for item in all_of(thousand, index, limit=500):
        lines += item.count if isinstance(item, SkippedJobs) else 1
        if lines == 500:
            assert last_line_of(item) == 500
            return
    raise AssertionError("skipped beyond the limit")


def test_small_file_is_read_without_skipping(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(JOBS[0])
    assert [type(found) for found in all_of(path, index_of([(JOBS[0], REPLIED)]))] == [ParsedJob]


@pytest.mark.process
def test_file_cut_during_reading_raises_input_error(thousand: Path) -> None:
    lines = 0

    async def run() -> None:
        nonlocal lines
        with closing(JobFile(str(thousand), DEFAULTS)) as source:
            async with aclosing(source.unfinished(JobIndex().skip_done)) as found:
                async for item in each_item(found):
                    lines += 1
                    if last_line_of(item) == 3:
                        os.truncate(thousand, 4000)  # one step, because the worker process may be reading

    with pytest.raises(InputError, match="another program has cut the file"):
        asyncio.run(run())
    assert 100 < lines < 200
