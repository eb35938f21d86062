"""The journal of a session that shares a folder with others: a file of its own, and those of the others to read."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

from processor.app.outputs import open_results_file_at
from processor.app.plan import Plan
from processor.core.errors import ConfigError
from processor.output.index_entry import RunTarget
from processor.output.opening import OutputLocked
from processor.output.results_file import ResultsFile
from processor.output.rows_of_others import RowsOfOthers


class JournalFolder:
    """The results files ``journal-1.jsonl``, ``journal-2.jsonl``, ... of a folder that all sessions see.

    A session takes the first one that no other has open, so that one that is started again goes on in the file of one
    that is lost. The file system must have locks that hold between the machines.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: RowsOfOthers
        self.own: Path
        """The file of this session."""
        self._reading = asyncio.Lock()

    async def open(self, plan: Plan, target: RunTarget) -> ResultsFile:
        """Open a file of this session's own, and read all others. Raises ConfigError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.folder} cannot be the folder of a journal: {error}") from None
        own = await asyncio.to_thread(self._take_unused, plan, target)
        self.own = own.paths.replies
        self.rows = RowsOfOthers(target)
        await self.read_new()
        return own

    async def read_new(self) -> None:
        """Read what the others have appended since the last call."""
        async with self._reading:
            self.rows.add(await asyncio.to_thread(self.rows.read_new, self._others()))

    async def spent_by_others(self) -> dict[str, int]:
        """Return what the other files say was spent, in 1e-12 USD, by the name of the file."""
        await self.read_new()
        return {path.name: self.rows.spent_pico(path) for path in self._others()}

    def _others(self) -> list[Path]:
        return [path for path in self._files() if path != self.own]

    def _files(self) -> list[Path]:
        found = self.folder.glob("journal-*.jsonl")
        return [path for path in found if path.stem.removeprefix("journal-").isdecimal()]

    def _take_unused(self, plan: Plan, target: RunTarget) -> ResultsFile:
        for number in count(1):
            try:
                return open_results_file_at(self.folder / f"journal-{number}.jsonl", plan, target)
            except OutputLocked:
                continue
        raise AssertionError
