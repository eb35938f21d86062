"""Runs one job from its line to its row: acquire a permit, send, settle, write; or wait, and try again.

run_job ─► _attempt ─► _send ─┬─► _on_reply ───► RowWriter  the row
              ▲               │        └► AskAgain            not valid: the next attempt asks once more
              │               └─► _on_failure ─┬─► RowWriter  a failed row
              └── wait ◄── Retry ──────────────┤
                       ◄── ParkedAttempt ──────┤              what follows depends on the requests of other jobs
                    Defer, LeaveJob, StopRun ◄─┘              no row: it is sent again at the end, or by the next run
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from processor.core.errors import RequestError, ServerError, Throttled
from processor.core.models import Failure, Job, Reply
from processor.endpoints.budget_gate import BudgetExhausted, UnknownCost
from processor.endpoints.endpoint import EndpointClosed, EndpointPermit
from processor.health.failed_attempt import FailedAttempt
from processor.protocols import protocol_for
from processor.ratelimit.limit_group import TooLarge
from processor.retry.policy import Defer, FailJob, LeaveJob, Park, Retry, StopRun
from processor.scheduler.attempt import AskAgain, Attempt, AttemptResult, ParkedAttempt
from processor.scheduler.attempt_events import failed_event, interrupted_event, replied_event, started_event
from processor.scheduler.deferred_jobs import DeferredJobs
from processor.scheduler.dependencies import Dependencies
from processor.scheduler.job_registry import JobRegistry
from processor.scheduler.job_state import SETTLING, JobState
from processor.scheduler.masking import mask_error, masked_reply
from processor.scheduler.request_costs import RequestCosts
from processor.scheduler.result_builder import result_of_reply
from processor.scheduler.row_writer import RowWriter


class Worker:
    """Runs any number of jobs at a time, each in a task of its own."""

    def __init__(self, deps: Dependencies, registry: JobRegistry, *, simulated: bool) -> None:
        self._deps = deps
        self._registry = registry
        self._simulated = simulated
        self._loop = asyncio.get_running_loop()
        self.rows = RowWriter(deps, simulated=simulated)
        self._costs = RequestCosts(deps)
        self.left_jobs = 0
        """Jobs that were left without a row, for the next run."""
        self.deferred = DeferredJobs()
        self.has_sent = False
        """Whether a request was sent."""
        self.has_begun = asyncio.Event()
        """Set once the first job has been sent, or has ended without."""

    async def run_job(self, state: JobState) -> StopRun | None:
        """Return None once the job has its row or goes without one, or the verdict that ends the run.

        Raises OutputError.
        """
        if self._deps.validation and (failure := await self._deps.validation.begin(state)):
            await self.rows.write(self.rows.failed_result(state, failure, ValueError(), timing=None), state)
            return None
        try:
            while (result := await self._attempt(state)) is not None:
                if isinstance(result, AskAgain):
                    continue
                self._record_ended_attempt(state, result)
                if isinstance(result, ParkedAttempt):
                    result = await self._after_park(state, result)
                if result is None or isinstance(result, StopRun):
                    return result
                if isinstance(result, Defer):
                    self.deferred.add(state.job, state.attempts - state.earlier_attempts)
                    return None
                if isinstance(result, LeaveJob):
                    self._withdraw()
                    raise EndpointClosed
                state.retry()
                self._registry.wait(state)
                await asyncio.sleep(result.delay_s)
        except (EndpointClosed, asyncio.CancelledError) as error:
            if not _is_withdrawn(state, error):
                raise
            self._leave(state)
        return None

    def _leave(self, state: JobState) -> None:
        """Leave a job without a row, since nothing like it is sent any more."""
        self.left_jobs += 1
        if state.attempt_started_at:
            self._deps.sink.record_parked(state.job.custom_id, state.attempts)

    def _record_ended_attempt(self, state: JobState, result: AttemptResult) -> None:
        """Record in the in-flight log that nothing of the job is in flight, and whether the next run sends it last."""
        is_parked = isinstance(result, ParkedAttempt | LeaveJob) or (isinstance(result, StopRun) and result.is_parked)
        record = self._deps.sink.record_parked if is_parked else self._deps.sink.clear_in_flight
        record(state.job.custom_id, state.attempts)

    async def _after_park(self, state: JobState, parked: ParkedAttempt) -> Retry | LeaveJob | None:
        """Hold the job until it is known whether it is at fault; then write its failed row, or return what follows."""
        self._registry.park(state)
        is_at_fault = await parked.park.is_at_fault
        state.phase = SETTLING
        if not is_at_fault:
            assert state.permit is not None, "only an attempt is parked"
            self._withdraw()
            return self._deps.endpoints.leave(state.permit.endpoint, state.job, state.excluded)
        if parked.result is not None:
            await self.rows.write(parked.result, state, print_header=True)
            return None
        self._deps.sink.clear_in_flight(state.job.custom_id, state.attempts)
        state.history.is_at_fault = True
        assert isinstance(parked.park.at_fault, Retry)
        return parked.park.at_fault

    def _withdraw(self) -> None:
        """Something is closed: end the tasks of jobs that no endpoint takes any more."""
        self._registry.withdraw(lambda state: self._deps.endpoints.is_closed_for(state.job, state.excluded))

    def new_state(self, job: Job, attempts: int) -> JobState:
        """Return the state of a job that is to be run. ``attempts``: requests sent for it earlier in this run."""
        index = self._deps.sink.job_index
        earlier = index.attempts(job.custom_id) if index.has_earlier_attempts else 0
        protocol = protocol_for(job.path)
        return JobState(
            job=job,
            protocol=protocol,
            size=self._costs.size_of(job, protocol),
            enqueued_at=self._loop.time(),
            attempts=earlier + attempts,
            earlier_attempts=earlier,
        )

    # ------------------------------------------------------------ before a request is sent

    async def _attempt(self, state: JobState) -> AttemptResult:
        """Send the job's request, once it may be sent. The permit is held until the row is written."""
        endpoints, job = self._deps.endpoints, state.job
        if (too_late := self._too_late()) is not None:
            return too_late
        if self._costs.has_budget and state.size.bounds is None:
            await self._costs.bound(state)
        try:
            if state.is_asked_again:
                self._registry.ask_again(state)
            else:
                self._registry.wait(state)
            permit = await endpoints.acquire(job, state.size, is_retry=state.is_retry, exclude=state.excluded)
        except (TooLarge, UnknownCost) as error:
            state.phase = SETTLING
            failure = Failure(code=error.code, message=str(error), permanent=isinstance(error, TooLarge))
            await self.rows.write(self.rows.failed_result(state, failure, error, timing=None), state)
            return None
        except BudgetExhausted as error:
            return StopRun(reason=str(error))
        except asyncio.CancelledError:
            if state.is_asked_again and not state.is_withdrawn:  # what it has cost is known, and nothing is in flight
                self._deps.sink.clear_in_flight(job.custom_id, state.attempts)
            raise
        try:
            return self._too_late() or await self._send(state, permit)
        finally:
            permit.release()

    def _too_late(self) -> StopRun | None:
        """Return the end of the run where its deadline leaves no time for a further reply."""
        return None if self._deps.deadline is None else self._deps.deadline.verdict()

    # ------------------------------------------------------------ the request

    async def _send(self, state: JobState, permit: EndpointPermit) -> AttemptResult:
        """Send the request and handle its outcome: a reply, an error, or a cancellation because the run is stopped."""
        deps, job = self._deps, permit.job
        attempt = self._start_attempt(state, permit)
        self._registry.send(state)
        try:
            reply = await deps.transport(job, permit.endpoint.target, attempt.on_event)
        except RequestError as error:
            state.phase = SETTLING
            mask_error(error)
            state.attempts += attempt.sent_at is not None
            return await self._on_failure(state, permit, attempt, error)
        except asyncio.CancelledError:
            if attempt.sent_at is None:
                deps.sink.clear_in_flight(job.custom_id, state.attempts)
            unconfirmed_pico = self._costs.of_interrupted(state, permit, attempt)
            deps.emit(interrupted_event(state, permit, attempt, self._loop.time(), unconfirmed_pico))
            raise
        state.phase = SETTLING
        state.attempts += 1
        follows = await self._on_reply(state, permit, attempt, masked_reply(reply))
        permit.endpoint.health.on_reply_written(job, permit.limit_group, state.attempt_started_at)
        return follows

    def _start_attempt(self, state: JobState, permit: EndpointPermit) -> Attempt:
        """Record that a request is about to be sent: in the in-flight log, the state, the health and an event."""
        deps, job, printer = self._deps, state.job, self._deps.printer
        if printer and not state.attempt_started_at:
            printer.begin(job)
        worst_pico = None if permit.reserved is None else permit.reserved.worst_pico
        deps.sink.record_in_flight(job.custom_id, state.attempts + 1, worst_pico)
        attempt = Attempt(state, permit, deps.prices, printer.on_event if printer else None)
        if not self.has_sent:
            self.has_sent = True
            self.has_begun.set()
        state.permit = permit
        state.attempt_started_at = self._loop.time()
        permit.endpoint.health.on_sent(job.position, state.attempt_started_at)
        deps.emit(started_event(state, permit))
        return attempt

    async def _on_reply(self, state: JobState, permit: EndpointPermit, attempt: Attempt, reply: Reply) -> AttemptResult:
        """Turn the reply into a row. If the disk is full, OutputError ends the run and the next one sends it again."""
        job, now, unix_now_s = permit.job, self._loop.time(), self._deps.wall_clock()
        timing = attempt.timing(now, unix_now_s)
        permit.endpoint.health.on_success(state.job.position, state.attempt_started_at, now)
        self._deps.emit(replied_event(state, permit, attempt, reply, now))
        computed, estimated = self.rows.count_now(state, reply) or await self.rows.count_later(state, reply)
        reported = state.protocol.reported_usage(reply.body)
        is_reported = reported is not None and reported.is_plausible
        billed = reported if reported is not None and is_reported else computed
        permit.settled(billed, now)  # before the cost, which may have to be looked up
        sent_at_unix_s = unix_now_s - (now - state.attempt_started_at)
        cost = await self._costs.of_reply(
            state, permit, reply, billed, sent_at_unix_s, is_exact=is_reported or not estimated
        )
        result = result_of_reply(
            job,
            state.protocol,
            reply,
            computed,
            reported,
            usage_estimated=estimated,
            attempts=state.attempts,
            timing=timing,
            endpoint=permit.endpoint.address_of(job.path, job.model),
            streamed=state.streamed,
            simulated=self._simulated,
            cost_usd=cost.usd,
            unconfirmed_cost_usd=state.unconfirmed_cost_usd,
        )
        if self._deps.validation is not None:
            judged = await self._deps.validation.judge(self._deps, state, result, billed)
            if isinstance(judged, AskAgain):
                self._costs.on_asked_again(state, permit, cost)
                return judged
            result = judged
        await self.rows.write(result, state)
        self._costs.on_written(state.job, permit, cost, reported, computed.prompt_tokens)
        return None

    async def _on_failure(
        self, state: JobState, permit: EndpointPermit, attempt: Attempt, error: RequestError
    ) -> AttemptResult:
        unconfirmed_pico = await self._costs.on_failure(state, permit, attempt, error)
        now, unix_now_s = self._loop.time(), self._deps.wall_clock()
        health = permit.endpoint.health
        if isinstance(error, Throttled) or (isinstance(error, ServerError) and error.retry_after_s):
            attempt.on_wait_requested(error, now, is_too_long=health.asks_for_long_wait(error))
        failed = FailedAttempt(
            job=permit.job,
            limit_group=permit.limit_group,
            sent_at=state.attempt_started_at,
            now=now,
            local_time=datetime.fromtimestamp(unix_now_s),
            had_first_token=attempt.first_token_at is not None,
            is_singled_out=state.is_singled_out,
        )
        own_verdict = health.on_failure(error, failed, state.history)
        verdict = self._deps.endpoints.verdict(
            permit.endpoint, state.job, own_verdict, error, state.excluded, is_singled_out=state.is_singled_out
        )
        if verdict is not own_verdict and isinstance(own_verdict, StopRun | LeaveJob):
            self._withdraw()
        if isinstance(verdict, Defer) and (self._deps.read_again is None or state.is_asked_again):
            verdict = FailJob(failure=verdict.failure)
        self._deps.emit(failed_event(state, permit, attempt, error, verdict, now, unconfirmed_pico))
        decided = verdict.at_fault if isinstance(verdict, Park) else verdict
        result = None
        if isinstance(decided, FailJob):
            timing = attempt.timing(now, unix_now_s)
            result = self.rows.failed_result(state, decided.failure, error, timing=timing)
        if isinstance(verdict, Park):
            return ParkedAttempt(park=verdict, result=result)
        if not isinstance(verdict, FailJob):
            return verdict
        assert result is not None
        await self.rows.write(result, state)
        return None


def _is_withdrawn(state: JobState, error: EndpointClosed | asyncio.CancelledError) -> bool:
    """Whether the job's task ends because nothing like the job is sent any more, and not because the run is stopped."""
    if isinstance(error, EndpointClosed):
        return True
    task = asyncio.current_task()
    return state.is_withdrawn and task is not None and not task.uncancel()
