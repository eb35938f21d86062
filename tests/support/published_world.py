"""Object stores whose operations are watched, machines with work folders, and runs that are killed at a given step."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from processor.core import platform
from processor.core.events import Notice, RunEvent
from processor.core.models import Result
from processor.export.row_index import RowIndex
from processor.output.job_index import JobStatus
from processor.output.results_file import ResultsFile
from processor.output.sink import END_OF_FILE
from processor.publishing.catch_up import caught_up
from processor.publishing.lease import LeaseTerms
from processor.publishing.publication import PublishingTerms, opened_publication
from processor.publishing.published_results import PublishedResults
from processor.publishing.work_folder import WorkFolder
from processor.remote.object_folder import ObjectFolder
from processor.simulator.virtual_clock import inline, run
from tests.support.results_samples import failure, invalid_line, reply

ADDRESS = "s3://bucket/folder/r.jsonl"
INTERVAL_S = 10.0
TERM_S = 120.0

BeforeAndAfter = Callable[[str, bool], None]
"""Called before and after each operation that changes something: with its name, and whether it is done."""


class Killed(BaseException):
    """The process is gone: from now on nothing that it does has an effect."""


class MemoryFolder:
    """An ``ObjectFolder`` in memory."""

    name = ADDRESS

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.ignores_create = False
        """It overwrites where it should create."""

    def list(self) -> Sequence[str]:
        return sorted(self.objects)

    def read(self, name: str) -> bytes:
        return self.objects[name]

    def create(self, name: str, data: bytes) -> bool:
        if name in self.objects and not self.ignores_create:
            return False
        self.objects[name] = data
        return True

    def put(self, name: str, data: bytes) -> None:
        self.objects[name] = data

    def remove(self, name: str) -> None:
        self.objects.pop(name, None)


class WatchedFolder:
    """An ``ObjectFolder`` that reports what is done to another one, and checks that parts never change."""

    def __init__(self, inner: ObjectFolder) -> None:
        self._inner = inner
        self.on_operation: BeforeAndAfter = lambda name, is_done: None
        """May raise OSError or Killed."""

    @property
    def name(self) -> str:
        return ADDRESS

    def list(self) -> Sequence[str]:
        self.on_operation("list", False)
        return self._inner.list()

    def read(self, name: str) -> bytes:
        self.on_operation(f"read {name}", False)
        return self._inner.read(name)

    def create(self, name: str, data: bytes) -> bool:
        self.on_operation(f"create {name}", False)
        if not self._inner.create(name, data):
            return False
        self.on_operation(f"create {name}", True)
        return True

    def put(self, name: str, data: bytes) -> None:
        assert name.startswith("lease-"), "a part is never changed"
        self.on_operation(f"put {name}", False)
        self._inner.put(name, data)
        self.on_operation(f"put {name}", True)

    def remove(self, name: str) -> None:
        assert name.startswith("lease-"), "a part is never removed"
        self.on_operation(f"remove {name}", False)
        self._inner.remove(name)
        self.on_operation(f"remove {name}", True)

    def parts(self) -> Sequence[str]:
        return [name for name in sorted(self._inner.list()) if not name.startswith("lease-")]

    def expire_leases(self) -> None:
        """Let so much time pass that all leases have expired."""
        for name in (name for name in self._inner.list() if name.startswith("lease-")):
            self._inner.put(name, self._inner.read(name).replace(b'"renewed_at": ', b'"renewed_at": -'))


class MemoryStore(WatchedFolder):
    """A watched folder in memory."""

    def __init__(self) -> None:
        self.folder = MemoryFolder()
        self.objects = self.folder.objects
        super().__init__(self.folder)


@dataclass
class Kill:
    """Kills a run behind the operation with a given number, or never."""

    at: int | None = None
    operations: list[str] = field(default_factory=list)
    frozen: Path | None = None

    def on_operation(self, name: str, folder: Path) -> None:
        if self.frozen is not None:
            raise Killed
        self.operations.append(name)
        if self.at is not None and len(self.operations) > self.at:
            self.frozen = folder.with_name(f"{folder.name}.frozen")
            shutil.copytree(folder, self.frozen)
            raise Killed


@dataclass
class Machine:
    """A machine with its work folder."""

    path: Path
    store: WatchedFolder
    notices: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    """The ids of the jobs that its runs have sent."""

    @property
    def work_folder(self) -> WorkFolder:
        return WorkFolder(self.path, ADDRESS)

    def emit(self, event: RunEvent) -> None:
        if isinstance(event, Notice):
            self.notices.append(event.text)

    async def run(
        self,
        answers: Iterable[Result],
        on_row: Callable[[], object] = lambda: None,
        *,
        interval_s: float = INTERVAL_S,
        lines_read: int = END_OF_FILE,
    ) -> None:
        """Run to the end: each job without a reply gets its row, and every second one is published at once.

        Raises as a run does: ConfigError where it cannot start, OutputError where not all could be published.
        """
        loop = asyncio.get_running_loop()
        async with opened_publication(
            self.store,
            self.work_folder,
            PublishingTerms(interval_s=interval_s, give_up_s=30.0),
            LeaseTerms(term_s=TERM_S, wall_clock=lambda: 1e6 + loop.time(), sleep=lambda _: None),
            emit=self.emit,
            run_in_thread=inline,
        ) as publication:
            results = ResultsFile.open(self.work_folder.paths.replies, fsync="never", run_in_thread=inline)
            async with PublishedResults(results, publication) as sink:
                await publication.begin(results.sync)
                for number, result in enumerate(answers):
                    if sink.job_index.classify(result.custom_id or "", result.fingerprint) is JobStatus.DONE:
                        continue
                    sink.record_in_flight(result.custom_id or "", 1)
                    await sink.append(result)
                    self.sent.append(result.custom_id or "")
                    on_row()
                    if number % 2:
                        await asyncio.sleep(interval_s + 1)
                await sink.close(lines_read)

    def run_killed(self, answers: Iterable[Result], kill: Kill) -> bool:
        """Run until the kill, or to the end. Return whether it was killed."""
        folder = self.path
        replace_file = platform.replace_file

        def replace_and_count(source: Path, target: Path) -> None:
            if kill.frozen is not None:
                raise Killed
            replace_file(source, target)
            kill.on_operation(f"replace {target.name}", folder)

        self.store.on_operation = lambda name, is_done: (
            kill.on_operation(name, folder) if is_done or kill.frozen else None
        )
        platform.replace_file = replace_and_count
        try:
            run(self.run(answers, lambda: kill.on_operation("row", folder)))
        except Killed:
            pass
        finally:
            platform.replace_file = replace_file
            self.store.on_operation = lambda name, is_done: None
        if kill.frozen is None:
            return False
        shutil.rmtree(folder)
        kill.frozen.rename(folder)
        return True

    def exported(self) -> list[str]:
        """Return the ids of the rows that count, as ``process export --with-failed`` finds them in the parts alone."""
        work_folder = self.work_folder
        with work_folder.locked():
            work_folder.save_record(caught_up(self.store, work_folder.paths, work_folder.load_record()))
        ids = []
        with RowIndex((work_folder.paths.replies, work_folder.paths.failures)) as index:
            assert index.damaged == 0
            for place in index.places:
                row = index.raw(place)
                ids.append(("-" if place & 1 else "+") + row.partition(b'"custom_id":')[2].split(b",")[0].decode())
        return sorted(name.replace('"', "") for name in ids)


NIGHTS: tuple[tuple[Result, ...], ...] = (
    (reply("a"), failure("f"), invalid_line(3), reply("b"), failure("g"), reply("c")),
    (reply("a", request="other"), reply("f"), reply("b"), failure("g"), reply("c"), reply("d")),
)
"""In the second one the invalid line was corrected, a failed job gets its reply, and an edited job is sent again: both
files lose rows."""
EXPECTED = ["+a", "+b", "+c", "+d", "+f", "-g"]


def play(folder: Path, store: WatchedFolder, kill: Kill, *, resume_elsewhere: bool, night: int) -> None:
    """Play all nights, one of them killed, and each on the machine that the last one ended on."""
    machine = Machine(folder / "a", store)
    for number, answers in enumerate(NIGHTS):
        if number == night and machine.run_killed(answers, kill) and resume_elsewhere:
            store.expire_leases()
            machine = Machine(folder / "b", store)
        run(machine.run(answers))


def play_with_a_kill_at_each_step(
    folder: Path, make_store: Callable[[], WatchedFolder], *, resume_elsewhere: bool, night: int, kind: str = ""
) -> int:
    """Play the nights once for each step of one of them, or each whose name begins so. Return the number of steps."""
    count = Kill()
    play(folder / "count", make_store(), count, resume_elsewhere=False, night=night)
    steps = [at for at, name in enumerate(count.operations) if name.startswith(kind)]
    for at in steps:
        kill, store, here = Kill(at), make_store(), folder / str(at)
        play(here, store, kill, resume_elsewhere=resume_elsewhere, night=night)
        assert kill.frozen is not None
        run(Machine(here / "a", store).run(NIGHTS[-1]))  # a machine that was killed finds the parts of the other
        for machine in ("reader", "a"):
            assert Machine(here / machine, store).exported() == EXPECTED, (at, kill.operations[-1])
    return len(steps)
