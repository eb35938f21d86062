"""The run: every job's way from its line to its row, and how all of it stops. The only file that knows the rooms.

    feed ──► a task a job ──► admit ─► attempt ─► settle ─► row
                  ▲                       │
                  └──── wait, and again ──┘

A job's task is in one of three places, and each is stopped in its own way: *waiting* (for a permit, its backoff or
the end of an outage) it is cancelled at once, nothing was sent; *streaming* it is given the grace period; *saving*
it is never disturbed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from processor import settling
from processor.care import Attempt, Care, demand
from processor.errors import ConfigError, OutputError, ProcessorError, RateLimited, RequestError
from processor.events import (
    AttemptStarted,
    BoundBy,
    Event,
    JobFinished,
    JobSkipped,
    Listen,
    Notice,
    Stopping,
    Stream,
    Tell,
    Then,
)
from processor.limits.gate import Gate, Permit
from processor.limits.lane import TooLarge
from processor.models import Failure, Job, Reply, Result, Target
from processor.reading.fingerprints import digest
from processor.reading.formats import Draft
from processor.reading.source import BadLine
from processor.results.ledger import Standing as Known
from processor.results.sink import WHOLE, Sink
from processor.retrying.decisions import Again, Decision, Fail, Policy, Standing, Stop, is_own_failure
from processor.retrying.outage import Outages, is_sign
from processor.tokens.counter import TokenCounter
from processor.tokens.counting import Count

SCOUT_S = 2.0
"""The first request goes ahead alone for at most so long."""

BREATH_LINES = 128
"""Lines between two breaths of the loop while nothing is sent: a million finished jobs must not hold up a Ctrl-C."""


class Echoing(Protocol):
    """Shows replies live; see ``terminal.echo``."""

    def begin(self, job: Job) -> None: ...
    @property
    def tell(self) -> Tell: ...
    def end(self, result: Result) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What a run is made of."""

    source: AsyncGenerator[Draft | BadLine, None]
    source_name: str
    sink: Sink
    gate: Gate
    stream: Stream
    target: Target
    counter: TokenCounter
    listen: Listen
    wall: Callable[[], float]
    """Unix seconds."""
    echo: Echoing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a run goes about it."""

    policy: Policy = field(default_factory=Policy)
    max_outage_s: float = 6 * 3600.0
    grace_s: float = 30.0
    open_jobs: int = 1000
    """Jobs between their line and their row: what is in flight, and what waits."""
    limit: int | None = None
    retry_failed: bool = False
    resend_changed: bool = False
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    exit_code: int
    why: str | None
    """What ended the run before its end."""


class Run:
    """One run, once: ``await Run(rooms, terms)()``."""

    def __init__(self, rooms: Rooms, terms: Terms) -> None:
        self._rooms = rooms
        self._terms = terms
        self._listen = rooms.listen
        self._sink = rooms.sink
        self._loop = asyncio.get_running_loop()
        self._tasks = asyncio.TaskGroup()
        self._open = asyncio.Semaphore(terms.open_jobs)
        self._waiting: set[asyncio.Task[None]] = set()
        self._streaming: dict[asyncio.Task[None], Care] = {}
        self._scouted = asyncio.Event()
        self._standing = Standing()
        self._outages = Outages(max_outage_s=terms.max_outage_s)
        self._probe = asyncio.Lock()
        self._loading: set[str] = set()
        self._ended: Outcome | None = None
        self._lines = self._jobs = self._missing = 0
        self._read_to = 0

    # ------------------------------------------------------------ beginning and end

    async def __call__(self) -> Outcome:
        """Raises nothing but what is nobody's doing here; whatever ends a run is in its Outcome."""
        async with self._tasks:
            self._tasks.create_task(self._edge(self._feed()))
        try:
            await self._sink.close(self._read_to)
        except OutputError as error:
            self.stop(str(error), exit_code=3)
        return self._ended or self._verdict()

    def stop(self, why: str, *, exit_code: int, grace_s: float | None = None) -> None:
        """No new requests; those in flight may finish within the grace period."""
        if self._ended is not None:
            return
        self._ended = Outcome(exit_code=exit_code, why=why)
        self._listen(Stopping(at=self._loop.time(), why=why))
        for task in self._waiting:
            task.cancel()
        self._loop.call_later(self._terms.grace_s if grace_s is None else grace_s, self.abort)

    def abort(self) -> None:
        """Break off what is in flight; what is being written is written whole."""
        for task in self._streaming:
            task.cancel()

    def in_flight(self) -> Iterator[tuple[Job, int]]:
        """The jobs on the wire, and which of their attempts it is."""
        return ((care.job, care.attempts) for care in self._streaming.values())

    def _verdict(self) -> Outcome:
        if not self._jobs:
            what = "no job: every line is broken" if self._lines else "no job"
            return Outcome(exit_code=2, why=f"{self._rooms.source_name} holds {what}")
        return Outcome(exit_code=1 if self._missing else 0, why=None)

    async def _edge(self, work: Coroutine[Any, Any, None]) -> None:
        """The one place where anything may come up: the output's failures and our own end the run in order."""
        try:
            await work
        except OutputError as error:
            self.stop(str(error), exit_code=3, grace_s=0)
        except ProcessorError as error:
            self.stop(str(error), exit_code=2 if isinstance(error, ConfigError) else 70)
        except Exception as error:  # noqa: BLE001
            self.stop(f"a fault of this program: {type(error).__name__}: {error}", exit_code=70)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Inside, the task waits for something and may be cancelled without loss."""
        task = asyncio.current_task()
        assert task is not None
        if self._ended is not None:
            raise asyncio.CancelledError
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)

    # ------------------------------------------------------------ feeding

    async def _feed(self) -> None:
        async with aclosing(self._rooms.source) as source:
            async for found in source:
                await self._take(found)
                if self._ended is not None or self._lines == self._terms.limit:
                    return
        self._read_to = WHOLE

    async def _take(self, found: Draft | BadLine) -> None:
        self._lines += 1
        self._read_to = found.line
        if self._lines % BREATH_LINES == 0:
            await asyncio.sleep(0)
        if isinstance(found, BadLine):
            await self._give_up(settling.no_job(found, self._rooms.source_name, simulated=self._terms.simulated))
            return
        self._jobs += 1
        if (job := await self._meet(found)) is None:
            return
        with self._interruptible():
            await self._open.acquire()
            self._tasks.create_task(self._edge(self._work(job)))
            await self._scout()

    async def _meet(self, draft: Draft) -> Job | None:
        """The job, if there is something to do about it."""
        ledger = self._sink.ledger
        custom_id = draft.custom_id if draft.custom_id is not None else ledger.name(draft.fingerprint)
        known = ledger.meet(custom_id, draft.fingerprint)
        if known is Known.DUPLICATE:
            await self._give_up(
                settling.no_job(_duplicate(draft), self._rooms.source_name, simulated=self._terms.simulated)
            )
        elif known is Known.DONE:
            self._listen(JobSkipped(custom_id=custom_id, why="done"))
        elif known is Known.CHANGED and not self._terms.resend_changed:
            self._listen(JobSkipped(custom_id=custom_id, why="changed"))
        elif known is Known.OWN_FAULT and not self._terms.retry_failed:
            self._missing += 1
            self._listen(JobSkipped(custom_id=custom_id, why="own_fault"))
        else:
            return draft.named(custom_id)
        return None

    async def _scout(self) -> None:
        """One request goes ahead alone: a wrong key, model or address costs one request."""
        if self._scouted.is_set():
            return
        try:
            async with asyncio.timeout(SCOUT_S):
                await self._scouted.wait()
        except TimeoutError:
            self._scouted.set()

    # ------------------------------------------------------------ one job

    async def _work(self, job: Job) -> None:
        try:
            care = self._prepare(job)
            while (decision := await self._try(care)) is not None:
                match decision:
                    case Stop(why=why):
                        self._sink.rest(job.custom_id)
                        self.stop(why, exit_code=3)
                        return
                    case Again(after_s=after_s):
                        self._sink.rest(job.custom_id)
                        care.again = True
                        with self._interruptible():
                            await asyncio.sleep(after_s)
        finally:
            self._open.release()

    def _prepare(self, job: Job) -> Care:
        counter = self._rooms.counter
        prompt = None
        if counter.ready(job.model):
            prompt = counter.prompt(job.path, job.body)
        elif job.model not in self._loading:
            self._loading.add(job.model)
            self._tasks.create_task(self._edge(counter.load(job.model)))
        tokens = prompt.tokens if prompt else counter.guess(job.body)
        return Care(
            job=job,
            demand=demand(job, tokens, counter.characters(job.body)),
            prompt=prompt,
            read_at=self._loop.time(),
            attempts=self._sink.ledger.attempts(job.custom_id),
        )

    async def _try(self, care: Care) -> Decision | None:
        """One attempt, when it may go. None: the job has its row."""
        while self._outages.down_since is not None:
            with self._interruptible():
                await self._probe.acquire()
            try:
                if self._outages.down_since is not None:
                    return await self._try_as_probe(care)
            finally:
                self._probe.release()
        return await self._attempt(care)

    async def _try_as_probe(self, care: Care) -> Decision | None:
        with self._interruptible():
            await asyncio.sleep(max(0.0, self._outages.probe_at() - self._loop.time()))
        self._outages.probing(self._loop.time())
        return await self._attempt(care, probes=True)

    async def _attempt(self, care: Care, *, probes: bool = False) -> Decision | None:
        try:
            with self._interruptible():
                permit = await self._rooms.gate.admit(care.demand, retry=care.again)
        except TooLarge as error:
            self._scouted.set()
            failure = Failure(code=error.code, message=str(error), own_fault=True)
            await self._fail(care, failure, error, None)
            return None
        try:
            if self._outages.down_since is not None and not probes:
                return Again(after_s=0.0)
            return await self._stream(care, permit)
        finally:
            permit.release()

    async def _stream(self, care: Care, permit: Permit) -> Decision | None:
        job, echo = care.job, self._rooms.echo
        if echo and not care.again:
            echo.begin(job)
        self._sink.intend(job.custom_id, care.attempts + 1)
        self._listen(self._started(care, permit))
        attempt = Attempt(permit, self._scouted.set, echo.tell if echo else None)
        try:
            with self._on_the_wire(care, attempt):
                reply = await self._rooms.stream(job, self._rooms.target, attempt.tell)
        except RequestError as error:
            care.attempts += attempt.sent_at is not None
            return await self._failed(care, permit, attempt, error)
        care.attempts += 1
        await self._reply(care, permit, attempt, reply)
        return None

    @contextmanager
    def _on_the_wire(self, care: Care, attempt: Attempt) -> Iterator[None]:
        """Inside, the task is cancelled only when the grace period is over."""
        task = asyncio.current_task()
        assert task is not None
        self._streaming[task] = care
        try:
            yield
        except asyncio.CancelledError:
            self._listen(attempt.ended(care, self._loop.time(), then="stop"))
            raise
        finally:
            del self._streaming[task]
            self._scouted.set()

    # ------------------------------------------------------------ what became of it

    async def _reply(self, care: Care, permit: Permit, attempt: Attempt, reply: Reply) -> None:
        job, now = care.job, self._loop.time()
        self._standing.succeeded = True
        self._answered()
        self._listen(attempt.ended(care, now, reply=reply, then="done"))
        prompt, completion = await self._count(care, reply)
        result = settling.replied(
            job,
            reply,
            prompt,
            completion,
            attempts=care.attempts,
            timing=attempt.timing(care.read_at, now, self._rooms.wall()),  # type: ignore[arg-type]
            simulated=self._terms.simulated,
        )
        permit.settle(settling.reported_usage(reply.body) or result.usage, now)
        await self._write(result)

    async def _count(self, care: Care, reply: Reply) -> tuple[Count, Count]:
        counter, job = self._rooms.counter, care.job
        await counter.load(job.model)
        if care.prompt is None:
            care.prompt = counter.prompt(job.path, job.body)
        return care.prompt, counter.reply(job.path, job.model, reply.body)

    async def _failed(self, care: Care, permit: Permit, attempt: Attempt, error: RequestError) -> Decision | None:
        now = self._loop.time()
        if isinstance(error, RateLimited):
            permit.refused(error.retry_after_s, now)
        permit.release()
        self._standing.heard(error)
        decision = self._decide(care, error, now)
        if isinstance(decision, Again) and decision.replaces:
            care.history.replaced = True
        self._listen(self._ended_after(care, attempt, error, decision))
        if not isinstance(decision, Fail):
            return decision
        await self._fail(care, decision.failure, error, attempt)
        return None

    def _decide(self, care: Care, error: RequestError, now: float) -> Decision:
        if not is_sign(error):
            self._answered()
        elif self._outages.failed(error, care.job.line, now):
            self._notice(f"the provider is down: {error}; probing until it is back")
            self._listen(BoundBy(at=now, bound="outage"))
        if self._outages.too_long(now):
            return Stop(why=f"the provider has been down for {self._terms.max_outage_s / 3600:g} h: {error}")
        if is_own_failure(error):
            care.history.failed_at.append(now)
        own = sum(not self._outages.excuses(at) for at in care.history.failed_at)
        local = datetime.fromtimestamp(self._rooms.wall())
        decision = self._terms.policy.decide(error, care.history, self._standing, now=local, own=own)
        care.history.held_up += not is_own_failure(error)
        if self._outages.down_since is not None and isinstance(decision, Again):
            return replace(decision, after_s=0.0)
        return decision

    def _answered(self) -> None:
        if self._outages.answered():
            self._notice("the provider is back")
            self._listen(BoundBy(at=self._loop.time(), bound=None))

    async def _fail(self, care: Care, failure: Failure, error: Exception, attempt: Attempt | None) -> None:
        timing = attempt.timing(care.read_at, self._loop.time(), self._rooms.wall()) if attempt else None
        simulated = self._terms.simulated
        await self._give_up(
            settling.failed(care.job, failure, error, attempts=care.attempts, timing=timing, simulated=simulated)
        )

    async def _give_up(self, result: Result) -> None:
        self._missing += 1
        await self._write(result)

    async def _write(self, result: Result) -> None:
        await self._sink.append(result)
        self._listen(JobFinished(at=self._loop.time(), result=result))
        if self._rooms.echo:
            self._rooms.echo.end(result)

    # ------------------------------------------------------------ telling

    def _notice(self, text: str) -> None:
        self._listen(Notice(at=self._loop.time(), text=text))

    def _started(self, care: Care, permit: Permit) -> Event:
        return AttemptStarted(
            at=self._loop.time(),
            custom_id=care.job.custom_id,
            attempt=care.attempts + 1,
            tokens=permit.cost.tokens or permit.cost.input_tokens + permit.cost.output_tokens,
            waited_s=permit.granted_at - care.read_at,
        )

    def _ended_after(self, care: Care, attempt: Attempt, error: RequestError, decision: Decision) -> Event:
        then, wait_s = _then(decision)
        return attempt.ended(care, self._loop.time(), error=error, then=then, wait_s=wait_s)


def _then(decision: Decision) -> tuple[Then, float | None]:
    match decision:
        case Again(after_s=after_s, replaces=replaces):
            return "replace" if replaces else "retry", after_s
        case Fail():
            return "fail", None
        case Stop():
            return "stop", None


def _duplicate(draft: Draft) -> BadLine:
    return BadLine(
        line=draft.line,
        fingerprint=digest(draft.raw),
        code="duplicate_custom_id",
        message=f"custom_id {draft.custom_id!r} is taken by an earlier line",
        custom_id=draft.custom_id,
    )
