"""Reading jobs from files and pipes."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from processor.core import platform
from processor.core.errors import ConfigError, InputError
from processor.input import job_file as job_file_module
from processor.input import readers
from processor.input.fingerprints import raw_fingerprint
from processor.input.job_file import InvalidLine, JobFile
from processor.input.job_files import each_item
from processor.input.job_formats import JobDefaults, ParsedJob
from processor.input.line_splitter import CHUNK_BYTES

JOB = b'{"model": "m", "prompt": "Hi"}'


def read(path: Path | str, **more: Any) -> list[ParsedJob | InvalidLine]:
    async def all_of_it() -> list[ParsedJob | InvalidLine]:
        source = JobFile(str(path), JobDefaults(), **more)
        try:
            return [found async for found in each_item(aiter(source))]
        finally:
            source.close()

    return asyncio.run(all_of_it())


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(JOB + b"\n\nbroken\n" + JOB)
    return path


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace standard input by a pipe, and return its writing end."""
    reader, writer = os.pipe()
    monkeypatch.setattr(readers, "STDIN", reader)
    with open(writer, "wb", buffering=0) as file:
        yield file
    os.close(reader)


def test_file_is_read_line_by_line(jobs: Path) -> None:
    first, broken, last = read(jobs)
    assert isinstance(first, ParsedJob)
    assert isinstance(last, ParsedJob)
    assert (first.line, last.line) == (1, 4)
    assert isinstance(broken, InvalidLine)
    assert (broken.line, broken.code, broken.found.custom_id) == (3, "invalid_json", None)
    assert broken.fingerprint == raw_fingerprint(b"broken")


class FailingFile:
    """A file of which only the first chunks can be read."""

    def __init__(self, file: Any, chunks: int) -> None:
        self._file = file
        self._chunks = chunks

    def read(self, size: int) -> bytes:
        self._chunks -= 1
        if self._chunks < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        chunk: bytes = self._file.read(size)
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def failing_after(chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = readers.open_input
    monkeypatch.setattr(job_file_module, "open_input", lambda path: FailingFile(opened(path), chunks))


def test_read_error_raises_input_error_after_the_lines_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes((JOB + b"\n") * (CHUNK_BYTES // 8))
    failing_after(1, monkeypatch)
    last = 0

    async def all_of_it() -> None:
        nonlocal last
        with closing(JobFile(str(path), JobDefaults())) as source:
            async for found in each_item(aiter(source)):
                last = found.line

    with pytest.raises(InputError, match=r"cannot read .*jobs.jsonl: input/output error"):
        asyncio.run(all_of_it())
    assert last == CHUNK_BYTES // len(JOB + b"\n")


def test_read_error_while_counting_raises_config_error(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_after(0, monkeypatch)
    with closing(JobFile(str(jobs), JobDefaults())) as source, pytest.raises(ConfigError, match="input/output error"):
        source.count_lines()


@pytest.mark.process
def test_read_error_while_skipping_done_jobs_raises_input_error(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*args: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(job_file_module, "MIN_SKIP_BYTES", 0)
    monkeypatch.setattr(platform, "read_at", unreadable)

    async def all_of_it() -> None:
        with closing(JobFile(str(jobs), JobDefaults())) as source:
            async for _ in source.unfinished(lambda identities, begin, end: begin):
                pass

    with pytest.raises(InputError, match="input/output error"):
        asyncio.run(all_of_it())


def test_line_longer_than_a_chunk_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b'{"model": "m", "prompt": "%b"}\n' % (b"x" * 3 * CHUNK_BYTES) + JOB)
    assert [type(found) for found in read(path)] == [ParsedJob, ParsedJob]


def test_overlong_line_is_invalid_and_reading_continues(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b"x" * 3 * 2**20 + b"\n" + JOB + b"\n")
    bad, good = read(path, max_line_bytes=2**20)
    assert isinstance(good, ParsedJob)
    assert isinstance(bad, InvalidLine)
    assert (bad.code, bad.message) == ("line_too_long", "3 MiB, over the 1 MiB that a line may have")
    assert bad.fingerprint == raw_fingerprint(b"x" * 3 * 2**20)


def test_file_is_read_from_its_start_after_counting(jobs: Path) -> None:
    source = JobFile(str(jobs), JobDefaults())

    async def all_of_it() -> int:
        return len([found async for found in each_item(aiter(source))])

    assert source.count_lines() == 3
    assert asyncio.run(all_of_it()) == 3
    assert source.count_lines() == 3
    source.close()


def test_line_of_a_pipe_is_read_before_the_next_is_complete(stdin: Any) -> None:
    async def run() -> list[ParsedJob | InvalidLine]:
        source = JobFile("-", JobDefaults())
        assert source.count_lines() is None
        found = []
        stdin.write(JOB + b"\n" + JOB[:10])
        async for line in each_item(aiter(source)):
            found.append(line)
            if len(found) == 1:  # the first line was read before the second was complete
                stdin.write(JOB[10:])
                stdin.close()
        source.close()
        return found

    assert [type(line) for line in asyncio.run(run())] == [ParsedJob, ParsedJob]


def test_waiting_for_a_pipe_can_be_cancelled(stdin: Any) -> None:
    async def run() -> None:
        source = JobFile("-", JobDefaults())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                async for _ in source:
                    raise AssertionError("there is nothing to read")
        source.close()

    asyncio.run(run())


def test_stdin_may_be_a_file(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with jobs.open("rb") as file:
        monkeypatch.setattr(readers, "STDIN", file.fileno())
        assert len(read("-")) == 3


def test_empty_device_has_no_lines() -> None:
    assert read(os.devnull) == []


def test_named_pipe_is_read_as_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)  # without a writer, opening the pipe would block
    os.write(writer, JOB + b"\n")

    async def run() -> ParsedJob | InvalidLine:
        source = JobFile(str(path), JobDefaults())
        found = await anext(each_item(aiter(source)))
        source.close()
        return found

    assert isinstance(asyncio.run(run()), ParsedJob)
    os.close(writer)


def test_missing_job_file_raises_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot read .*nope\.jsonl: no such file or directory$"):
        JobFile(str(tmp_path / "nope.jsonl"), JobDefaults())


def test_folder_as_job_file_raises_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot read .*: is a directory$"):
        JobFile(str(tmp_path), JobDefaults())


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_job_file_raises_config_error(jobs: Path) -> None:
    jobs.chmod(0)
    with pytest.raises(ConfigError, match=r"^cannot read .*: permission denied$"):
        JobFile(str(jobs), JobDefaults())


def test_closed_stdin_raises_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    monkeypatch.setattr(readers, "STDIN", reader)
    with pytest.raises(ConfigError, match=r"^cannot read stdin: bad file descriptor$"):
        JobFile("-", JobDefaults())


# ---------------------------------------------------------------- a file that is cut, a pipe of another format


@pytest.mark.parametrize("reader", ["whole", "in parts"])
@pytest.mark.parametrize("left", [0, 1000, 70_000])
def test_file_that_is_cut_while_it_is_read_raises_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, left: int
) -> None:
    monkeypatch.setattr(platform, "available_cpus", lambda: 1)
    if reader == "in parts":
        monkeypatch.setattr(job_file_module, "MIN_SKIP_BYTES", 0)
    path = tmp_path / "jobs.jsonl"
    path.write_bytes((JOB + b"\n") * 20_000)
    found: list[object] = []

    async def read_and_cut() -> None:
        with closing(JobFile(str(path), JobDefaults())) as source:
            async for item in each_item(source.unfinished(lambda identities, begin, end: (begin, 0))):
                if not found:
                    os.truncate(path, left)
                found.append(item)

    with pytest.raises(InputError, match=r"jobs\.jsonl: another program has cut the file while it was read"):
        asyncio.run(read_and_cut())
    assert 0 < len(found) < 20_000
    assert all(isinstance(item, ParsedJob) for item in found), "a torn line is no job that failed"


ARRAY = b'[\n  {"model": "m",\n   "prompt": "Hi"}\n]\n'


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ARRAY, "one JSON array"),
        (b"\x1f\x8b\x08\0\0", r"is compressed \(gzip\)"),
        (JOB.decode().encode("utf-16"), "UTF-16"),
        (b"id,prompt\n1,Hello\n", "CSV"),
        (JOB + b"\r" + JOB + b"\r", "carriage returns"),
    ],
)
def test_pipe_of_another_format_is_recognized_in_pieces_of_any_size(
    stdin: Any, data: bytes, message: str, step: int
) -> None:
    async def feed() -> None:
        for at in range(0, len(data), step):
            stdin.write(data[at : at + step])
            await asyncio.sleep(0.001)
        stdin.close()

    async def main() -> None:
        feeding = asyncio.create_task(feed())
        try:
            with closing(JobFile("-", JobDefaults())) as source:
                async with aclosing(aiter(source)) as items:
                    async for _ in items:
                        pass
        finally:
            await feeding

    with pytest.raises(InputError, match=f"stdin .*{message}"):
        asyncio.run(main())
