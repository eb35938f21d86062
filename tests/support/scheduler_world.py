"""Whole runs on a virtual clock: the real scheduler with a provider and a disk in memory, which outlive the run.

A killed run is abandoned where it stands: its cleanup cannot change the disk any more.
"""

from __future__ import annotations

import asyncio
import tempfile
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, aclosing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson

import processor.core.platform
import processor.input.job_file
import processor.input.prescan
from processor.app.budget import open_budget
from processor.app.endpoint_factory import one_with_budget
from processor.core.errors import ConfigError, OutputError, RequestError
from processor.core.events import RequestEvent, RequestListener, RunEvent, Sent, Transport
from processor.core.models import JSON, Job, Reply, Target, Timeouts
from processor.core.secrets import Secret
from processor.cost.price_list import PriceList
from processor.endpoints.budget_gate import BudgetGate
from processor.endpoints.endpoint import Endpoint
from processor.endpoints.pool import EndpointPool
from processor.health.endpoint_health import EndpointHealth
from processor.input.done_job_skipper import SkippedJobs
from processor.input.job_file import InvalidLine, JobFile
from processor.input.job_files import each_item
from processor.input.job_formats import JobDefaults, ParsedJob
from processor.output.results_file import ResultsFile
from processor.output.sink import FsyncMode
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.settings import LimitSettings
from processor.retry.policy import RetryPolicy
from processor.scheduler import Dependencies, RunOptions, Scheduler
from processor.scheduler.deadline import Deadline
from processor.scheduler.dependencies import ReplyPrinter
from processor.scheduler.reply_validation import ReplyValidation
from processor.simulator.fault_injecting_storage import DiskState, FaultInjectingStorage, FaultPlan, Killed
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import SimulatorSettings
from processor.simulator.virtual_clock import VirtualLoop, inline
from processor.tokens.counter import TokenCounter
from processor.validation.checker import SchemaChecker

RESULTS = Path("/out/results.jsonl")
ERRORS = Path("/out/results.errors.jsonl")
DAMAGED = Path("/out/results.damaged.jsonl")
STATE = Path("/out/results.jsonl.state")

JOBS = "jobs.jsonl"
KEY = "not-a-key-of-anyone"
EPOCH_S = 1_800_000_000.0
"""Unix time at the start of the provider's clock."""

FAST_PROVIDER = SimulatorSettings(track_identities=True, write_batch_s=1.0, reply_tokens=(3, 30))
"""A realistic provider that is cheap to simulate."""

Lines = AsyncGenerator[Sequence[ParsedJob | InvalidLine | SkippedJobs], None]
OnStart = Callable[[Scheduler], None]


@dataclass
class RunRecord:
    """What a run did. ``exit_code`` is None if it was killed."""

    exit_code: int | None = None
    reason: str | None = None
    events: list[RunEvent] = field(default_factory=list)
    sent: list[tuple[float, str, str]] = field(default_factory=list)
    """Every request: seconds since the run began, custom_id, fingerprint."""
    max_in_flight: int = 0
    """Counted from the first byte sent until the row has been written."""
    left_in_flight: list[tuple[str, str]] = field(default_factory=list)
    """custom_id and fingerprint of the requests that had neither failed nor got a row when the run ended."""
    began_at: float = 0.0
    """On the provider's clock, like ``ended_at``."""
    ended_at: float = 0.0
    steps: int = 0
    """I/O operations of the disk."""
    possibly_billed: int | None = None
    """What the results file reports of the run before; None if it could not be opened."""
    budget: BudgetGate | None = None
    items_read: int = 0
    """Items of the job file that the scheduler has taken."""

    def events_of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def took_s(self) -> float:
        return self.ended_at - self.began_at


class World:
    """What outlives a run: the disk, the provider and the time."""

    def __init__(self, settings: SimulatorSettings = FAST_PROVIDER) -> None:
        self.log: list[dict[str, Any]] = []
        self.provider = SimulatedProvider(replace(settings, track_identities=True), on_request=self.log.append)
        self.disk = DiskState()
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
        fault_plan: FaultPlan | None = None,
        timeouts: Timeouts | None = None,
        on_start: OnStart = lambda run: None,
        wrap_transport: Callable[[Transport], Transport] = lambda stream: stream,
        model: str | None = None,
        max_line_bytes: int = 1 << 20,
        part_bytes: int | None = None,
        read_once: bool = False,
        printer: ReplyPrinter | None = None,
        max_invalid: int | None = None,
        run_in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] = inline,
        prices: PriceList | None = None,
        max_cost_usd: float | None = None,
        deadline: Callable[[], Deadline] | None = None,
    ) -> RunRecord:
        """Play a whole run and return what it did.

        ``fault_plan`` makes steps of the disk fail, or kills the run at one. ``on_start`` may schedule a stop or a
        kill. ``wrap_transport`` may put something between the scheduler and the provider. With ``part_bytes`` the job
        file is read as a large one is, in parts of this size. ``run_in_thread`` may make the disk slow;
        ``read_once``: the jobs cannot be read again, as those of a pipe. ``max_invalid``: replies are checked against
        the schema in their request, and jobs asked again so many times.
        """
        options = options or RunOptions()
        run = RunRecord(began_at=self.now_s)
        self.runs += 1
        memory = FaultInjectingStorage(self.disk, fault_plan)
        transport = wrap_transport(self._transport(timeouts))
        observer = TransportObserver(transport, run, self.disk)
        with tempfile.NamedTemporaryFile() as file:
            file.write(jobs if isinstance(jobs, bytes) else to_jsonl(jobs))
            file.flush()
            source = JobFile(file.name, JobDefaults(model=model), max_line_bytes=max_line_bytes)

            async def main() -> None:
                try:
                    sink = ResultsFile.open(RESULTS, fsync=fsync, run_in_thread=run_in_thread, storage=memory)
                except (OutputError, ConfigError) as error:
                    run.exit_code, run.reason = 2, str(error)
                    return
                run.possibly_billed = sink.recovered.possibly_billed
                skip_done = partial(sink.job_index.skip_done, permanent=not options.retry_failed)
                skips_done = part_bytes and sink.recovered.replied
                items = source.unfinished(skip_done, options.limit) if skips_done else aiter(source)
                known = prices or PriceList()
                run.budget = open_budget(max_cost_usd, sink, known, run.events.append)
                pool = self._pool(run, policy or RetryPolicy(), limits or LimitSettings(), max_outage_s, concurrency)
                deps = self._dependencies(items, None if read_once else source, sink, pool, observer, run, printer)
                if max_invalid is not None:
                    deps = replace(
                        deps, validation=ReplyValidation(SchemaChecker(inline), None, max_invalid=max_invalid)
                    )
                deps = replace(deps, prices=known, deadline=deadline() if deadline else None)
                scheduler = Scheduler(deps, options)
                on_start(scheduler)
                async with _opened(transport):
                    outcome = await scheduler.run()
                run.exit_code, run.reason = outcome.exit_code, outcome.reason

            with _read_in_parts(part_bytes):
                took_s = run_to_end(main(), memory)
            source.close()
        run.steps = memory.steps
        run.left_in_flight = observer.unwritten()
        self.now_s += took_s
        run.ended_at = self.now_s
        return run

    def _pool(
        self, run: RunRecord, policy: RetryPolicy, limits: LimitSettings, max_outage_s: float, concurrency: int
    ) -> EndpointPool:
        target = Target(base_url="http://127.0.0.1/v1", key=Secret(KEY))
        health = EndpointHealth(policy, run.events.append, endpoint=target.address, max_outage_s=max_outage_s)
        limiter = RateLimiter(limits, emit=health.emit_from_limiter, concurrency=concurrency)
        only = Endpoint(target, limiter, health)
        if run.budget is None:
            return EndpointPool(only)
        return one_with_budget(only, run.events.append, run.budget, concurrency=concurrency)

    def transport(self, settings: SimulatorSettings) -> Transport:
        """The transport to another provider, which does not outlive the run."""
        return MemoryTransport(SimulatedProvider(settings))

    def _transport(self, timeouts: Timeouts | None) -> Transport:
        return MemoryTransport(self.provider, seed=self.runs, clock_offset_s=self.now_s, timeouts=timeouts)

    def _dependencies(
        self,
        source: Lines,
        job_file: JobFile | None,
        sink: ResultsFile,
        endpoints: EndpointPool,
        transport: Transport,
        run: RunRecord,
        printer: ReplyPrinter | None,
    ) -> Dependencies:
        loop, began_at = asyncio.get_running_loop(), self.now_s
        return Dependencies(
            source=_counted(source, run),
            read_again=partial(aiter, job_file) if job_file else None,
            source_name=JOBS,
            sink=sink,
            endpoints=endpoints,
            transport=transport,
            counter=TokenCounter("p50k_base", inline),
            emit=run.events.append,
            wall_clock=lambda: EPOCH_S + began_at + loop.time(),
            printer=printer,
        )

    def error_for_second_writer(self) -> str:
        """Return the error that another process gets when it opens the same results file; "" if it gets none."""
        try:
            ResultsFile.open(RESULTS, run_in_thread=inline, storage=FaultInjectingStorage(self.disk))
        except OutputError as error:
            return str(error)
        return ""

    # ------------------------------------------------------------ what is on disk

    def rows(self, path: Path = RESULTS) -> list[JSON]:
        """Return the rows of a file. Every line must be one."""
        return [orjson.loads(line) for line in (self.disk.contents(path) or b"").splitlines()]

    def failures(self) -> list[JSON]:
        return self.rows(ERRORS)

    def replied(self) -> set[tuple[str, str]]:
        """Return custom_id and fingerprint of all rows in the results file. Lines that are no rows are ignored."""
        return {(row["custom_id"], row["id"]) for row in whole_rows(self.disk.contents(RESULTS) or b"")}


def _opened(transport: Transport) -> AbstractAsyncContextManager[object]:
    """Open the transport, if it has to be opened."""
    return transport if isinstance(transport, AbstractAsyncContextManager) else nullcontext()


def whole_rows(data: bytes) -> list[JSON]:
    found = []
    for line in data.split(b"\n"):
        with suppress(orjson.JSONDecodeError):
            row = orjson.loads(line)
            if isinstance(row, dict):
                found.append(row)
    return found


class TransportObserver:
    """Stands between the scheduler and the transport, and records what is sent and how much is in flight at once."""

    def __init__(self, stream: Transport, run: RunRecord, disk: DiskState) -> None:
        self._stream = stream
        self._run = run
        self._disk = disk
        self._read_to = 0
        self._open: dict[tuple[str, str], bool] = {}
        """The requests in flight. True once the reply is complete and its row is to be written."""

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        name = (job.custom_id, job.fingerprint)

        def observe(event: RequestEvent) -> None:
            if isinstance(event, Sent):
                self._run.sent.append((event.at, *name))
                self._open[name] = False
                self._count()
            on_event(event)

        try:
            reply = await self._stream(job, target, observe)
        except RequestError:
            self._open.pop(name, None)
            raise
        self._open[name] = True
        return reply

    def _count(self) -> None:
        """The rows are read only where the number would be a new maximum, which those that are written make smaller."""
        if len(self._open) > self._run.max_in_flight and any(self._open.values()):
            self._forget_written()
        self._run.max_in_flight = max(self._run.max_in_flight, len(self._open))

    def _forget_written(self) -> None:
        """Remove the requests whose rows have been written since the last call."""
        inode = self._disk.names.get(RESULTS)
        added = bytes(inode.data[self._read_to :]) if inode else b""
        added = added[: added.rfind(b"\n") + 1]
        self._read_to += len(added)
        for row in whole_rows(added):
            if self._open.get((row["custom_id"], row["id"])):
                del self._open[row["custom_id"], row["id"]]

    def unwritten(self) -> list[tuple[str, str]]:
        written = {(row["custom_id"], row["id"]) for row in whole_rows(self._disk.contents(RESULTS) or b"")}
        return [name for name in self._open if name not in written]


@contextmanager
def _read_in_parts(part_bytes: int | None) -> Iterator[None]:
    """Make small files be read as large ones are, and in one process, because two could not be replayed."""
    if part_bytes is None:
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(patch.object(processor.input.job_file, "MIN_SKIP_BYTES", 0))
        stack.enter_context(patch.object(processor.input.prescan, "PART_BYTES", part_bytes))
        stack.enter_context(patch.object(processor.core.platform, "available_cpus", lambda: 1))
        yield


async def _counted(source: Lines, run: RunRecord) -> Lines:
    async with aclosing(source) as lists:
        async for item in each_item(lists):
            run.items_read += 1
            yield [item]


def to_jsonl(jobs: Iterable[JSON]) -> bytes:
    return b"".join(orjson.dumps(job) + b"\n" for job in jobs)


def short_job(number: int, **more: Any) -> JSON:
    """A short job with an id."""
    return {"id": f"job-{number}", "model": "m", "prompt": f"Question {number}?", **more}


def kill_at(at: float) -> OnStart:
    """Kill the run at this time, in seconds since its start."""

    def on_start(run: Scheduler) -> None:
        asyncio.get_running_loop().call_at(at, _kill)

    return on_start


def _kill() -> None:
    raise Killed


def run_to_end(main: Coroutine[Any, Any, None], disk: FaultInjectingStorage) -> float:
    """Run to the end, or until the run is killed. Returns how many seconds of virtual time it took."""
    loop = VirtualLoop()
    loop.set_exception_handler(lambda loop, context: None)
    task = loop.create_task(main)
    try:
        loop.run_until_complete(task)
    except BaseException as end:
        disk.is_dead = True
        _discard_tasks(loop, task)
        if not isinstance(end, Killed):
            raise
    finally:
        loop.close()
    return loop.time()


def _discard_tasks(loop: asyncio.AbstractEventLoop, main: asyncio.Task[None]) -> None:
    """Close what was running. Its ``finally`` blocks run, but their disk does nothing any more."""
    if main.done():
        main.exception()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen: set[asyncio.Task[Any]] = set()
        while tasks := asyncio.all_tasks(loop) - seen:  # a ``finally`` block may have started more of them
            seen |= tasks
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(BaseException):
                    task.get_coro().close()
