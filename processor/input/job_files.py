"""The job files of a run, read one after the other as if they were one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from processor.core.models import SourceFile
from processor.core.shards import Shard
from processor.input.done_job_skipper import SkipDone, SkippedJobs
from processor.input.job_file import MAX_LINE_BYTES, InvalidLine, JobFile
from processor.input.job_formats import JobDefaults, ParsedJob
from processor.input.template import Template
from processor.remote.addresses import shown_address

ASSUMED_RATIO = 16
"""Bytes of lines for each byte of a file that is compressed, or of a table."""

T = TypeVar("T")
JobItems = AsyncGenerator[Sequence[ParsedJob | InvalidLine | SkippedJobs], None]


class JobFiles:
    """Open job files, in their order; ``-`` is standard input. Close them after use.

    Where there are several, each job names its own (``ParsedJob.source``), and line numbers begin at 1 in each file.
    """

    def __init__(
        self,
        paths: Sequence[str],
        defaults: JobDefaults,
        *,
        max_line_bytes: int = MAX_LINE_BYTES,
        template: Template | None = None,
    ) -> None:
        """Open them all. ``template`` makes the jobs of tables.

        Raises ConfigError where one cannot be read, or is a file of another format.
        """
        self._files: list[JobFile] = []
        try:
            for number, path in enumerate(paths, 1):
                source = SourceFile(number, _encodable(shown_address(path))) if len(paths) > 1 else None
                self._files.append(
                    JobFile(path, replace(defaults, source=source), max_line_bytes=max_line_bytes, template=template),
                )
        except BaseException:
            self.close()
            raise

    @property
    def files(self) -> Sequence[JobFile]:
        return self._files

    def close(self) -> None:
        for file in self._files:
            file.close()

    def count_lines(self) -> int | None:
        """Return how many lines are not blank; None where that is not known of a file. Raises ConfigError."""
        total = 0
        for file in self._files:
            if (lines := file.count_lines()) is None:
                return None
            total += lines
        return total

    @property
    def can_be_read_again(self) -> bool:
        """Whether all are regular files."""
        return all(file.size is not None for file in self._files)

    @property
    def size(self) -> int | None:
        """About how many bytes their lines have; None where one of them is a pipe or remote."""
        total = 0
        for file in self._files:
            if (size := file.size) is None or file.is_remote:
                return None
            total += size * ASSUMED_RATIO if file.is_converted else size
        return total

    def parse_lines(self) -> Iterator[ParsedJob | InvalidLine]:
        """Yield each line of regular files that is not blank. Blocks while it reads. Raises ConfigError."""
        for file in self._files:
            yield from file.parse_lines()

    def __aiter__(self) -> AsyncGenerator[list[ParsedJob | InvalidLine], None]:
        """Yield lists of the lines that are not blank. Raises InputError where a file cannot be read further."""
        return aiter(self._files[0]) if len(self._files) == 1 else self._all_lines()

    def unfinished(self, skip_done: SkipDone, limit: int | None = None) -> JobItems:
        """Iterate as ``aiter(self)``, but skip done jobs in large files: see ``JobFile.unfinished``."""
        return (
            self._files[0].unfinished(skip_done, limit)
            if len(self._files) == 1
            else self._all_unfinished(skip_done, limit)
        )

    async def _all_lines(self) -> AsyncGenerator[list[ParsedJob | InvalidLine], None]:
        for file in self._files:
            async with aclosing(aiter(file)) as lists:
                async for lines in lists:
                    yield lines

    async def _all_unfinished(self, skip_done: SkipDone, limit: int | None) -> JobItems:
        read = 0
        for file in self._files:
            left = None if limit is None else limit - read
            async with aclosing(file.unfinished(skip_done, left)) as lists:
                async for items in lists:
                    read += sum(item.count if isinstance(item, SkippedJobs) else 1 for item in items)
                    yield items


async def each_item(lists: AsyncIterable[Sequence[T]]) -> AsyncGenerator[T, None]:
    """Yield the items of lists, one by one."""
    async for items in lists:
        for item in items:
            yield item


def is_in_shard(line: ParsedJob | InvalidLine, shard: Shard | None) -> bool:
    """Whether a line belongs to this part of the jobs, by its id, or by its fingerprint where it has none.

    Lines that are no jobs belong to one, too, so that each has one failed row in all parts together.
    """
    if shard is None:
        return True
    custom_id = line.found.custom_id if isinstance(line, InvalidLine) else line.custom_id
    return shard.holds(line.fingerprint if custom_id is None else custom_id)


def _encodable(path: str) -> str:
    """Return the name of a file as it can stand in a row: names need not be UTF-8."""
    return path.encode("utf-8", "replace").decode("utf-8")
