"""Reading several job files, and compressed ones."""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from processor.core import compression
from processor.core.errors import ConfigError, InputError
from processor.core.models import SourceFile
from processor.input import job_file
from processor.input.done_job_skipper import SkippedJobs
from processor.input.job_file import InvalidLine
from processor.input.job_files import JobFiles, each_item
from processor.input.job_formats import JobDefaults, ParsedJob
from processor.output.job_index import JobIndex
from processor.scheduler.deferred_jobs import DeferredJobs
from tests.support.cli_world import zstd_compress

Items = list[ParsedJob | InvalidLine | SkippedJobs]

CODINGS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd_compress}


def lines(prefix: str, number: int, padding: int = 0) -> bytes:
    jobs = (f'{{"id": "{prefix}{at}", "model": "m", "prompt": "x{"x" * padding}"}}\n' for at in range(1, number + 1))
    return "".join(jobs).encode()


def job_files(*paths: Path) -> JobFiles:
    return JobFiles([str(path) for path in paths], JobDefaults())


def read(*paths: Path) -> list[ParsedJob | InvalidLine]:
    async def all_of_them() -> list[ParsedJob | InvalidLine]:
        with closing(job_files(*paths)) as files:
            return [item async for item in each_item(aiter(files))]

    return asyncio.run(all_of_them())


def ids(items: Any) -> list[str]:
    return [item.custom_id for item in items]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_several_files_are_read_in_their_order_and_count_their_own_lines(tmp_path: Path) -> None:
    first = write(tmp_path / "first.jsonl", lines("a", 2) + b"broken")
    second = write(tmp_path / "second.jsonl", b"\xef\xbb\xbf" + lines("b", 2))
    found = read(first, second)
    assert [(item.source, item.line) for item in found] == [
        *((SourceFile(1, str(first)), line) for line in (1, 2, 3)),
        *((SourceFile(2, str(second)), line) for line in (1, 2)),
    ]
    assert isinstance(found[2], InvalidLine), "the end of a file ends its last line"
    positions = [item.position for item in found]
    assert positions == sorted(set(positions))


def test_single_file_is_not_named(tmp_path: Path) -> None:
    (item,) = read(write(tmp_path / "jobs.jsonl", lines("a", 1)))
    assert (item.source, item.position) == (None, 1)


@pytest.mark.parametrize("coding", CODINGS)
def test_compressed_file_holds_the_jobs_of_all_its_members(tmp_path: Path, coding: str) -> None:
    compress = CODINGS[coding]
    # The second member begins within a line, as where a tool has cut its output into blocks.
    whole = lines("a", 2000, 90)
    data = compress(whole[:77]) + compress(b"") + compress(whole[77:])
    path = write(tmp_path / "jobs", data)
    assert ids(read(path)) == [f"a{at}" for at in range(1, 2001)]
    with closing(job_files(path)) as files:
        assert files.count_lines() == 2000
        assert ids(files.parse_lines()) == [f"a{at}" for at in range(1, 2001)]
        assert len(list(files.parse_lines())) == 2000, "it can be read again"


@pytest.mark.parametrize("coding", CODINGS)
def test_compressed_file_that_was_cut_anywhere_is_an_error(tmp_path: Path, coding: str) -> None:
    compress = CODINGS[coding]
    first = compress(lines("a", 3))
    data = first + compress(lines("b", 3))
    for end in range(compression.MAGIC_BYTES, len(data)):
        if end == len(first):
            continue  # a whole file
        with pytest.raises(ConfigError, match=f"cannot read .*: the {coding} file (ends too early|is damaged)"):
            read(write(tmp_path / "jobs", data[:end]))


@pytest.mark.parametrize("coding", CODINGS)
def test_compressed_file_that_was_cut_far_behind_its_beginning_breaks_off(tmp_path: Path, coding: str) -> None:
    path = write(tmp_path / "jobs", CODINGS[coding](lines("a", 20_000, 50)))
    path.write_bytes(path.read_bytes()[:-20])
    found: Items = []

    async def main() -> None:
        with closing(job_files(path)) as files:
            async for item in each_item(aiter(files)):
                found.append(item)

    with pytest.raises(InputError, match="ends too early: it was cut, or is still being written"):
        asyncio.run(main())
    assert 1000 < len(found) < 20_000
    assert all(isinstance(item, ParsedJob) for item in found), "a torn line is no job that failed"
    with closing(job_files(path)) as files, pytest.raises(ConfigError, match="ends too early"):
        files.count_lines()


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("tail", [b"not compressed\n", b'{"id": "z"}\n', b"\x1f\x8b"])
def test_compressed_file_with_something_else_behind_it_is_an_error(tmp_path: Path, coding: str, tail: bytes) -> None:
    with pytest.raises(ConfigError, match=f"the {coding} file (ends too early|is damaged)"):
        read(write(tmp_path / "jobs", CODINGS[coding](lines("a", 3)) + tail))


@pytest.mark.parametrize("coding", CODINGS)
def test_damaged_byte_is_an_error(tmp_path: Path, coding: str) -> None:
    data = bytearray(CODINGS[coding](lines("a", 3)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ConfigError, match=f"the {coding} file (ends too early|is damaged)"):
        read(write(tmp_path / "jobs", bytes(data)))


def test_other_format_inside_a_compressed_file_is_recognized(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is one JSON array"):
        read(write(tmp_path / "jobs.gz", gzip.compress(b'[{"id": 1},\n{"id": 2}]')))


def test_lines_of_a_large_compressed_file_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "jobs.gz", gzip.compress(lines("a", 3000, 90)))
    for bound, value in (("MAX_COUNTED_BYTES", 128 * 1024), ("MAX_COUNTED_COMPRESSED_BYTES", 100)):
        with monkeypatch.context() as changed, closing(job_files(path)) as files:
            assert files.count_lines() == 3000
            changed.setattr(job_file, bound, value)
            assert files.count_lines() is None


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "jobs.zst", zstd_compress(lines("a", 1)))
    monkeypatch.setattr(compression, "ZSTD_MODULE", "no.such.module")
    compression._reader_and_error.cache_clear()
    with pytest.raises(ConfigError, match=r"jobs.zst: zstd needs a package: pip install 'processor\[compression\]'"):
        read(path)


@pytest.mark.process
def test_done_jobs_are_skipped_in_each_file_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_file, "MIN_SKIP_BYTES", 0)
    paths = [
        write(tmp_path / "a.jsonl", lines("a", 2000, 100)),
        write(tmp_path / "b.gz", gzip.compress(lines("b", 3))),
        write(tmp_path / "c.jsonl", lines("c", 2000, 100)),
    ]
    asked: list[int] = []

    def skip_done(identities: bytes, begin: int, end: int) -> tuple[int, int]:
        asked.append(end - begin)
        return end, 0

    async def items(limit: int | None) -> Items:
        with closing(job_files(*paths)) as files:
            return [item async for item in each_item(files.unfinished(skip_done, limit))]

    found = asyncio.run(items(None))
    skipped = sum(item.count for item in found if isinstance(item, SkippedJobs))
    assert skipped > 2000
    assert skipped + sum(not isinstance(item, SkippedJobs) for item in found) == 4003
    assert {item.source and item.source.number for item in found if isinstance(item, SkippedJobs)} == {1, 3}
    asked.clear()
    limited = asyncio.run(items(2503))
    counts = [item.count if isinstance(item, SkippedJobs) else 1 for item in limited]
    assert sum(counts) >= 2503
    assert sum(asked) <= 2503, "no job behind the limit is marked as seen"


def test_deferred_jobs_are_read_again_from_compressed_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.gz", gzip.compress(lines(name, 5))) for name in "ab"]

    async def main() -> list[str]:
        deferred, index = DeferredJobs(), JobIndex()
        with closing(job_files(*paths)) as files:
            async for item in each_item(aiter(files)):
                assert isinstance(item, ParsedJob)
                assert item.custom_id is not None
                index.classify(item.custom_id, item.fingerprint)
                if item.line in (2, 5):
                    deferred.add(item.with_id(item.custom_id), item.line)
            return [f"{job.custom_id} {attempts}" async for job, attempts in deferred.read_again(aiter(files))]

    assert asyncio.run(main()) == ["a2 2", "a5 5", "b2 2", "b5 5"]


@pytest.mark.slow
@pytest.mark.process
def test_memory_does_not_depend_on_the_size_of_a_compressed_file(tmp_path: Path) -> None:
    import subprocess

    program = (
        "import asyncio, resource, sys\n"
        "from processor.input.job_files import JobFiles\n"
        "from processor.input.job_formats import JobDefaults\n"
        "async def main():\n"
        "    files = JobFiles(sys.argv[1:], JobDefaults())\n"
        "    return sum([len(items) async for items in files])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(asyncio.run(main()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    member = zstd_compress(lines("a", 1000, 10_000))
    path = write(tmp_path / "jobs.zst", member * 40)  # 400 MB
    found = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    jobs, grown_kib = map(int, found.stdout.split())
    assert jobs == 40_000
    assert grown_kib < 16 * 1024
