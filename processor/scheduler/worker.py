"""One job's way from its line to its row: admit, stream, settle, write; wait, and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial

from processor.core.errors import RequestError, Throttled
from processor.core.events import JobFinished
from processor.core.models import Failure, Job, Reply, Result, Usage
from processor.health.endpoint_health import EndpointHealth
from processor.ratelimit.limit_group import TooLarge
from processor.ratelimit.permit import Permit
from processor.retry.policy import FailJob, Park, Retry, StopRun
from processor.scheduler import result_builder
from processor.scheduler.attempt import Attempt, JobState, request_size
from processor.scheduler.dependencies import Dependencies
from processor.scheduler.job_registry import JobRegistry
from processor.tokens.rules import TokenCount

AttemptResult = Retry | StopRun | Result | None
"""What follows an attempt. None: the job has its row; a Result: it has this one, if anything else succeeds."""


class Worker:
    """Serves any number of jobs at a time. ``failures`` counts those that got a failed row; ``has_sent``: a request."""

    def __init__(
        self,
        rooms: Dependencies,
        phases: JobRegistry,
        provider: EndpointHealth,
        *,
        simulated: bool,
        response_started: Callable[[int], None],
        waits_in_doubt: Callable[[], None],
    ) -> None:
        self._rooms = rooms
        self._phases = phases
        self._provider = provider
        self._simulated = simulated
        self._response_started = response_started
        self._waits_in_doubt = waits_in_doubt
        self._loop = asyncio.get_running_loop()
        self._endpoint = rooms.target.address
        self._probe_turn = asyncio.Lock()
        self.failures = 0
        self.has_sent = False

    async def serve(self, job: Job) -> StopRun | None:
        """Returns when the job has its row, or with what must end the run. Raises OutputError."""
        care = self._prepare(job)
        while (decision := await self._try(care)) is not None:
            self._rooms.sink.clear_in_flight(job.custom_id, care.attempts)
            if isinstance(decision, StopRun):
                return decision
            if isinstance(decision, Result):
                await self._while_in_doubt(care)
                await self.give_up(decision, care, is_late=True)
                return None
            care.again = True
            with self._phases.waiting(care):
                await asyncio.sleep(decision.after_s)
        return None

    async def give_up(self, result: Result, care: JobState | None = None, *, is_late: bool = False) -> None:
        """Writes a failed row. ``care`` is None for an invalid line. ``is_late``: others may have been echoed since."""
        self.failures += 1
        await self._write(result, care, is_late=is_late)

    def _prepare(self, job: Job) -> JobState:
        counter = self._rooms.counter
        prompt = counter.prompt(job.path, job.body) if counter.ready(job.model) else None
        tokens = prompt.tokens if prompt else counter.guess(job.body)
        task = asyncio.current_task()
        assert task is not None, "every job has a task of its own"
        return JobState(
            task=task,
            job=job,
            size=request_size(job, tokens, counter.characters(job.body)),
            prompt=prompt,
            read_at=self._loop.time(),
            attempts=self._rooms.sink.job_index.attempts(job.custom_id),
        )

    # ------------------------------------------------------------ when it may go

    async def _while_in_doubt(self, care: JobState) -> None:
        with self._phases.waiting(care), self._phases.in_doubt(care):
            self._waits_in_doubt()
            await self._provider.doubt.success()

    async def _try(self, care: JobState) -> AttemptResult:
        """One attempt, when it may go. While the provider is down, one at a time."""
        if self._provider.doubt.covers(care.job):
            await self._while_in_doubt(care)
        while self._provider.is_down:
            with self._phases.waiting(care):
                await self._probe_turn.acquire()
            try:
                if self._provider.is_down:
                    return await self._probe(care)
            finally:
                self._probe_turn.release()
        return await self._attempt(care)

    async def _probe(self, care: JobState) -> AttemptResult:
        outages = self._provider.outages
        with self._phases.waiting(care):
            await asyncio.sleep(max(0.0, outages.probe_at() - self._loop.time()))
        outages.probing(self._loop.time())
        return await self._attempt(care, probes=True)

    async def _attempt(self, care: JobState, *, probes: bool = False) -> AttemptResult:
        try:
            with self._phases.waiting(care):
                permit = await self._rooms.gate.acquire(care.size, is_retry=care.again)
        except TooLarge as error:
            failure = Failure(code=error.code, message=str(error), permanent=True)
            await self.give_up(self._failure(care, failure, error, None), care)
            return None
        try:
            if (self._provider.is_down and not probes) or self._provider.doubt.covers(care.job):
                return Retry(after_s=0.0)
            return await self._stream(care, permit)
        finally:
            permit.release()

    # ------------------------------------------------------------ on the wire

    async def _stream(self, care: JobState, permit: Permit) -> AttemptResult:
        rooms, job, echo = self._rooms, care.job, self._rooms.echo
        if echo and not care.streaming_since:
            echo.begin(job)
        rooms.sink.record_in_flight(job.custom_id, care.attempts + 1)
        attempt = Attempt(
            permit,
            self._endpoint,
            self._response_started,
            partial(self._provider.began, care),
            echo.tell if echo else None,
        )
        self.has_sent = True
        care.streaming_since = self._loop.time()
        care.limit_group = permit.limit_group
        self._provider.asking(care)
        rooms.listen(attempt.started(care))
        try:
            with self._phases.streaming(care):
                reply = await rooms.stream(job, rooms.target, attempt.tell)
        except RequestError as error:
            care.attempts += attempt.sent_at is not None
            return await self._failed(care, attempt, error)
        except asyncio.CancelledError:
            if attempt.sent_at is None:
                rooms.sink.clear_in_flight(job.custom_id, care.attempts)
            rooms.listen(attempt.ended(care, self._loop.time(), outcome="stop"))
            raise
        care.attempts += 1
        await self._replied(care, permit, attempt, reply)
        self._provider.doubt.succeeded()
        return None

    async def _replied(self, care: JobState, permit: Permit, attempt: Attempt, reply: Reply) -> None:
        now = self._loop.time()
        timing = attempt.timing(care.read_at, now, self._rooms.wall())
        self._provider.replied(care, now)
        self._rooms.listen(attempt.ended(care, now, reply=reply, outcome="success"))
        prompt, completion = await self._count(care, reply)
        reported = Usage.reported(reply.body)
        result = result_builder.replied(
            care.job,
            reply,
            prompt,
            completion,
            reported=reported,
            attempts=care.attempts,
            timing=timing,
            simulated=self._simulated,
        )
        permit.settled(reported or result.usage, now)
        await self._write(result, care)

    async def _count(self, care: JobState, reply: Reply) -> tuple[TokenCount, TokenCount]:
        counter, job = self._rooms.counter, care.job
        if care.prompt is None:
            await counter.load(job.model)
            care.prompt = counter.prompt(job.path, job.body)
        return care.prompt, counter.reply(job.path, job.model, reply.body)

    async def _failed(self, care: JobState, attempt: Attempt, error: RequestError) -> AttemptResult:
        now = self._loop.time()
        if isinstance(error, Throttled):
            attempt.throttled(error, now)
        local = datetime.fromtimestamp(self._rooms.wall())
        decision = self._provider.failed(error, care, now, local, begun=attempt.first_token_at is not None)
        self._rooms.listen(attempt.ended_in(care, now, error, decision))
        if not isinstance(decision, FailJob | Park):
            return decision
        result = self._failure(care, decision.failure, error, attempt)
        if isinstance(decision, Park):
            return result
        await self.give_up(result, care)
        return None

    # ------------------------------------------------------------ its row

    def _failure(self, care: JobState, failure: Failure, error: Exception, attempt: Attempt | None) -> Result:
        timing = attempt.timing(care.read_at, self._loop.time(), self._rooms.wall()) if attempt else None
        return result_builder.failed(
            care.job, failure, error, attempts=care.attempts, timing=timing, simulated=self._simulated
        )

    async def _write(self, result: Result, care: JobState | None, *, is_late: bool = False) -> None:
        echo = self._rooms.echo
        await self._rooms.sink.append(result)
        self._rooms.listen(self._finished_event(result, care))
        if echo and care and is_late:
            echo.begin(care.job)
        if echo:
            echo.end(result)

    def _finished_event(self, result: Result, care: JobState | None) -> JobFinished:
        at = self._loop.time()
        if care is None:
            return JobFinished(at=at, result=result)
        endpoint = self._endpoint if care.limit_group is not None else None
        return JobFinished(at=at, result=result, model=care.job.model, endpoint=endpoint, limit_group=care.limit_group)
