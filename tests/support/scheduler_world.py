"""A run on the virtual clock: the real rooms around a provider and a disk in memory, both of which outlive it.

A killed run is abandoned in the middle: no cleanup of ours can touch the disk any more.
"""

from __future__ import annotations

import asyncio
import tempfile
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson

import processor.core.worker_process
import processor.input.job_file
import processor.input.prescan
from processor.core.errors import ConfigError, OutputError, RequestError
from processor.core.events import RequestEvent, RequestListener, RunEvent, Sent, Transport
from processor.core.models import JSON, Job, Reply, Target, Timeouts
from processor.endpoints.pool import Endpoint, EndpointPool
from processor.health.endpoint_health import EndpointHealth
from processor.input.done_job_skipper import SkippedJobs
from processor.input.job_file import InvalidLine, JobFile
from processor.input.job_formats import JobDefaults, ParsedJob
from processor.output.results_file import ResultsFile
from processor.output.sink import FsyncMode
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.settings import LimitSettings
from processor.retry.policy import RetryPolicy
from processor.scheduler import Dependencies, RunOptions, Scheduler
from processor.scheduler.dependencies import ReplyPrinter
from processor.simulator.fault_injecting_storage import DiskState, FaultInjectingStorage, FaultPlan, Killed
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import SimulatorSettings
from processor.simulator.virtual_clock import VirtualLoop, inline
from processor.tokens.counter import TokenCounter

OUT = Path("/out/results.jsonl")
ERRORS = Path("/out/results.errors.jsonl")
DAMAGED = Path("/out/results.damaged.jsonl")
STATE = Path("/out/results.jsonl.state")

JOBS = "jobs.jsonl"
EPOCH_S = 1_800_000_000.0
"""The wall clock when the provider's is 0."""

QUICK = SimulatorSettings(track_identities=True, write_batch_s=1.0, reply_tokens=(3, 30))
"""Believable, and cheap to simulate."""

Lines = AsyncGenerator[ParsedJob | InvalidLine | SkippedJobs, None]
During = Callable[[Scheduler], None]


@dataclass
class Ran:
    """How a run went. ``exit_code`` is None where it was killed."""

    exit_code: int | None = None
    reason: str | None = None
    events: list[RunEvent] = field(default_factory=list)
    sent: list[tuple[float, str, str]] = field(default_factory=list)
    """Every request: when (seconds since the run began), custom_id, fingerprint."""
    most_in_flight: int = 0
    """As the contract counts it: from the first byte sent to the row's write."""
    left_in_flight: list[tuple[str, str]] = field(default_factory=list)
    """custom_id and fingerprint of what was sent, and has neither failed nor got its row when the run ended."""
    began_at: float = 0.0
    """The provider's time."""
    ended_at: float = 0.0
    steps: int = 0
    """I/O steps of the disk."""
    maybe_billed: int | None = None
    """What the journal says of the run before; None where it was not even opened."""
    read: int = 0
    """Lines of the job file that were taken."""

    def said(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def took_s(self) -> float:
        return self.ended_at - self.began_at


class World:
    """What outlives a run: the disk, the provider, the time."""

    def __init__(self, settings: SimulatorSettings = QUICK) -> None:
        self.log: list[dict[str, Any]] = []
        self.provider = SimulatedProvider(replace(settings, track_identities=True), on_request=self.log.append)
        self.platter = DiskState()
        self.now_s = 0.0
        self.runs = 0

    def run(
        self,
        jobs: bytes | Iterable[JSON],
        *,
        options: RunOptions | None = None,
        policy: RetryPolicy | None = None,
        max_outage_s: float = 6 * 3600.0,
        concurrency: int = 8,
        limits: LimitSettings | None = None,
        fsync: FsyncMode = "interval",
        disk: FaultPlan | None = None,
        timeouts: Timeouts | None = None,
        during: During = lambda run: None,
        through: Callable[[Transport], Transport] = lambda stream: stream,
        model: str | None = None,
        max_line_bytes: int = 1 << 20,
        part_bytes: int | None = None,
        printer: ReplyPrinter | None = None,
    ) -> Ran:
        """The whole run. ``disk`` may fail steps, or kill at one; ``during`` may arrange for a stop or a kill;
        ``through`` may put something between the run and the provider; with ``part_bytes`` the job file is read as a
        large one is, in parts of this size."""
        options = options or RunOptions()
        ran = Ran(began_at=self.now_s)
        self.runs += 1
        memory = FaultInjectingStorage(self.platter, disk)
        seam = Seam(through(self._transport(timeouts)), ran, self.platter)
        with tempfile.NamedTemporaryFile() as file:
            file.write(jobs if isinstance(jobs, bytes) else lines(jobs))
            file.flush()
            source = JobFile(file.name, JobDefaults(model=model), max_line_bytes=max_line_bytes)

            async def main() -> None:
                try:
                    sink = ResultsFile.open(OUT, fsync=fsync, run_in_thread=inline, storage=memory)
                except (OutputError, ConfigError) as error:
                    ran.exit_code, ran.reason = 2, str(error)
                    return
                ran.maybe_billed = sink.recovered.possibly_billed
                skip_done = partial(sink.job_index.skip_done, permanent=not options.retry_failed)
                passes = part_bytes and sink.recovered.replied
                found = source.unfinished(skip_done, options.limit) if passes else aiter(source)
                limiter = RateLimiter(limits or LimitSettings(), emit=ran.events.append, concurrency=concurrency)
                target = Target(base_url="http://127.0.0.1/v1")
                health = EndpointHealth(
                    policy or RetryPolicy(), ran.events.append, endpoint=target.address, max_outage_s=max_outage_s
                )
                endpoint = Endpoint(target, limiter, health)
                scheduler = Scheduler(self._dependencies(found, sink, endpoint, seam, ran, printer), options)
                during(scheduler)
                outcome = await scheduler.run()
                ran.exit_code, ran.reason = outcome.exit_code, outcome.reason

            with _large(part_bytes):
                took_s = play(main(), memory)
            source.close()
        ran.steps = memory.steps
        ran.left_in_flight = seam.unwritten()
        self.now_s += took_s
        ran.ended_at = self.now_s
        return ran

    def transport(self, settings: SimulatorSettings) -> Transport:
        """Another provider, of the moment."""
        return MemoryTransport(SimulatedProvider(settings))

    def _transport(self, timeouts: Timeouts | None) -> Transport:
        return MemoryTransport(self.provider, seed=self.runs, clock_offset_s=self.now_s, timeouts=timeouts)

    def _dependencies(
        self,
        source: Lines,
        sink: ResultsFile,
        endpoint: Endpoint,
        transport: Transport,
        ran: Ran,
        printer: ReplyPrinter | None,
    ) -> Dependencies:
        loop, began_at = asyncio.get_running_loop(), self.now_s
        return Dependencies(
            source=_counted(source, ran),
            source_name=JOBS,
            sink=sink,
            endpoints=EndpointPool(endpoint),
            transport=transport,
            counter=TokenCounter("p50k_base", inline),
            emit=ran.events.append,
            wall_clock=lambda: EPOCH_S + began_at + loop.time(),
            printer=printer,
        )

    def open_elsewhere(self) -> str:
        """What another process is told that wants to write here, too."""
        try:
            ResultsFile.open(OUT, run_in_thread=inline, storage=FaultInjectingStorage(self.platter))
        except OutputError as error:
            return str(error)
        return "welcome"

    # ------------------------------------------------------------ what is on disk

    def rows(self, path: Path = OUT) -> list[JSON]:
        """Every line must be a row."""
        return [orjson.loads(line) for line in (self.platter.contents(path) or b"").splitlines()]

    def failures(self) -> list[JSON]:
        return self.rows(ERRORS)

    def replied(self) -> set[tuple[str, str]]:
        """custom_id and fingerprint of the whole rows in the results file, whatever else is in there."""
        return {(row["custom_id"], row["id"]) for row in whole_rows(self.platter.contents(OUT) or b"")}


def whole_rows(data: bytes) -> list[JSON]:
    found = []
    for line in data.split(b"\n"):
        with suppress(orjson.JSONDecodeError):
            row = orjson.loads(line)
            if isinstance(row, dict):
                found.append(row)
    return found


class Seam:
    """Watches the run from outside: what it sends, and how much of it is in flight at once."""

    def __init__(self, stream: Transport, ran: Ran, platter: DiskState) -> None:
        self._stream = stream
        self._ran = ran
        self._platter = platter
        self._read_to = 0
        self._open: dict[tuple[str, str], bool] = {}
        """True once the reply is complete: it is in flight until its row is written."""

    async def __call__(self, job: Job, target: Target, tell: RequestListener) -> Reply:
        name = (job.custom_id, job.fingerprint)

        def hear(signal: RequestEvent) -> None:
            if isinstance(signal, Sent):
                self._ran.sent.append((signal.at, *name))
                self._open[name] = False
                self._count()
            tell(signal)

        try:
            reply = await self._stream(job, target, hear)
        except RequestError:
            self._open.pop(name, None)
            raise
        self._open[name] = True
        return reply

    def _count(self) -> None:
        if any(self._open.values()):
            self._forget_written()
        self._ran.most_in_flight = max(self._ran.most_in_flight, len(self._open))

    def _forget_written(self) -> None:
        """Reads what has been appended since the last look."""
        inode = self._platter.names.get(OUT)
        added = bytes(inode.data[self._read_to :]) if inode else b""
        added = added[: added.rfind(b"\n") + 1]
        self._read_to += len(added)
        for row in whole_rows(added):
            if self._open.get((row["custom_id"], row["id"])):
                del self._open[row["custom_id"], row["id"]]

    def unwritten(self) -> list[tuple[str, str]]:
        written = {(row["custom_id"], row["id"]) for row in whole_rows(self._platter.contents(OUT) or b"")}
        return [name for name in self._open if name not in written]


@contextmanager
def _large(part_bytes: int | None) -> Iterator[None]:
    """Has small files read as only large ones are, and in one process: two would not replay."""
    if part_bytes is None:
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(patch.object(processor.input.job_file, "MIN_SKIP_BYTES", 0))
        stack.enter_context(patch.object(processor.input.prescan, "PART_BYTES", part_bytes))
        stack.enter_context(patch.object(processor.core.worker_process, "_available_cpus", lambda: 1))
        yield


async def _counted(source: Lines, ran: Ran) -> Lines:
    async with aclosing(source) as found:
        async for one in found:
            ran.read += 1
            yield one


def lines(jobs: Iterable[JSON]) -> bytes:
    return b"".join(orjson.dumps(job) + b"\n" for job in jobs)


def ask(number: int, **more: Any) -> JSON:
    """A short job with a name."""
    return {"id": f"job-{number}", "model": "m", "prompt": f"Question {number}?", **more}


def kill_at(at: float) -> During:
    """The process ends at this time, whatever it is doing."""

    def during(run: Scheduler) -> None:
        asyncio.get_running_loop().call_at(at, _kill)

    return during


def _kill() -> None:
    raise Killed


def play(main: Coroutine[Any, Any, None], disk: FaultInjectingStorage) -> float:
    """Run to the end, or to the kill. Returns how long it took."""
    loop = VirtualLoop()
    loop.set_exception_handler(lambda loop, context: None)
    task = loop.create_task(main)
    try:
        loop.run_until_complete(task)
    except BaseException as end:
        disk.dead = True
        _bury(loop, task)
        if not isinstance(end, Killed):
            raise
    finally:
        loop.close()
    return loop.time()


def _bury(loop: asyncio.AbstractEventLoop, main: asyncio.Task[None]) -> None:
    """Let go of what was running. Its ``finally`` blocks run, but on a disk that does nothing any more."""
    if main.done():
        main.exception()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with suppress(BaseException):
                task.get_coro().close()
