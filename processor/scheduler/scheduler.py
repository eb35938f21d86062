"""One run: reads the jobs, starts a task for each, and brings all of it to an orderly end.

    SourceReader ─► _open_job ─► a task for each job (Worker) ─► rows
                    ▲
                    └── waits while enough jobs wait to be sent

Every end of a run but the ordinary one goes through ``stop``: a verdict of a worker, jobs that were left, a full disk,
an unreadable job file or an internal error (``_supervise``), the user's Ctrl-C (``app.signals``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from processor.core import exit_codes
from processor.core.errors import ConfigError, InputError, InternalError, OutputError
from processor.core.events import Stopping
from processor.core.job_keys import job_key
from processor.core.models import Job
from processor.core.secrets import mask_text
from processor.health.parked_jobs import MAX_PARKED_JOBS
from processor.output.sink import END_OF_FILE
from processor.ratelimit.snapshot import LimiterSnapshot
from processor.retry.policy import StopRun
from processor.scheduler.deadline import DeadlineWatch
from processor.scheduler.deferred_jobs import DeferredJobs
from processor.scheduler.dependencies import Dependencies, NoJobYet, Outcome, RunOptions, ignore_job
from processor.scheduler.job_registry import JobRegistry
from processor.scheduler.job_state import JobState
from processor.scheduler.parked_decision import decide_parked
from processor.scheduler.source_reader import SourceReader
from processor.scheduler.worker import Worker


class Scheduler:
    """One run, to be used once: ``await Scheduler(deps, options).run()``."""

    def __init__(self, deps: Dependencies, options: RunOptions) -> None:
        self._deps = deps
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._tasks = asyncio.TaskGroup()
        self._registry = JobRegistry()
        self._worker = Worker(deps, self._registry, simulated=options.simulated)
        self._producer: asyncio.Task[None] | None = None
        self._loading_models: set[str] = set()
        """Models whose encodings are loaded, or have been."""
        self._outcome: Outcome | None = None
        """Set when the run is stopped before its ordinary end."""
        self._abort_timer: asyncio.TimerHandle | None = None
        self._reader = SourceReader(deps, options, self._worker.rows)
        self._to_send_last: list[Job] = []
        """Jobs that an earlier run left parked: they must not keep the others from being answered."""

    async def run(self) -> Outcome:
        """Return how the run ended. Raises nothing but CancelledError."""
        deadline = self._deps.deadline
        watch = None if deadline is None else DeadlineWatch(deadline, self._stop_by, self.abort)
        try:
            return await self._run()
        finally:
            if watch is not None:
                watch.close()
            if self._abort_timer is not None:  # it would keep all of the run until the grace period is over
                self._abort_timer.cancel()

    async def _run(self) -> Outcome:
        try:
            async with self._tasks:
                self._producer = self._start(self._produce)
            await self._registry.wait_until_all_have_ended()
        except asyncio.CancelledError:
            await self._registry.cancel_all()
            raise
        rows_without_job = 0
        if self._reader.last_line == END_OF_FILE:
            rows_without_job = self._deps.sink.job_index.count_rows_without_job()
        if self._worker.left_jobs:
            self.stop("; ".join(self._deps.endpoints.closed_reasons), exit_code=exit_codes.STOPPED)
        outcome = self._outcome or self._ordinary_outcome()
        try:
            nothing_sent = outcome.exit_code == exit_codes.NOTHING_SENT
            await self._deps.sink.close(self._reader.last_line, nothing_sent=nothing_sent)
        except OutputError as error:
            self.stop(str(error), exit_code=exit_codes.STOPPED)
        return replace(self._outcome or outcome, rows_without_job=rows_without_job)

    # ------------------------------------------------------------ stopping

    def stop(self, reason: str, *, exit_code: int, grace_s: float | None = None) -> None:
        """Send no new requests; those in flight may finish within the grace period. The first reason counts."""
        if self._outcome is not None:
            return
        reason = mask_text(reason)
        self._outcome = Outcome(exit_code=exit_code, reason=reason)
        grace_s = self._options.grace_s if grace_s is None else grace_s
        self._deps.emit(Stopping(at=self._loop.time(), reason=reason, grace_s=grace_s))
        self._registry.cancel_waiting()
        if self._producer:
            # It may be cancelled wherever it waits: a row that it is writing is completed by the sink.
            self._producer.cancel()
        self._abort_timer = self._loop.call_later(grace_s, self.abort)

    def abort(self) -> None:
        """Cancel the requests in flight. Rows that are being written are completed."""
        self._registry.cancel_in_flight()

    @property
    def is_stopping(self) -> bool:
        return self._outcome is not None

    @property
    def stop_reason(self) -> str | None:
        """Why no new requests are sent; None while they are."""
        return None if self._outcome is None else self._outcome.reason

    # ------------------------------------------------------------ a source that waits for its jobs

    def wake(self) -> None:
        """The source that had no job has one now, or has ended: see ``NoJobYet``."""
        self._registry.wake()

    def withdraw(self, line: int) -> None:
        """End the job of this line without a row, if it waits for a permit or in its back-off."""
        self._registry.cancel_waiting_job(line)

    # ------------------------------------------------------------ what it is doing

    @property
    def limiter_snapshots(self) -> list[LimiterSnapshot]:
        return self._deps.endpoints.snapshots()

    def next_start_at(self) -> float | None:
        """When the next request may start, on the event loop's clock; None where that depends on something else."""
        return self._deps.endpoints.next_start_at()

    @property
    def in_flight(self) -> list[JobState]:
        return self._registry.in_flight

    # ------------------------------------------------------------ tasks

    def _start(self, work: Callable[..., Coroutine[Any, Any, None]], *args: object) -> asyncio.Task[None]:
        """Start a task that calls ``work``: only there, since a task may be cancelled before it begins."""
        return self._tasks.create_task(self._supervise(work, args))

    async def _supervise(self, work: Callable[..., Coroutine[Any, Any, None]], args: tuple[object, ...]) -> None:
        """Do a task's work and turn every error into an orderly stop."""
        try:
            await work(*args)
        except Exception as error:  # noqa: BLE001
            self._stop_for(error)

    async def _run_job(self, state: JobState) -> None:
        """Do the work of a job's task, and turn every error into an orderly stop."""
        try:
            verdict = await self._worker.run_job(state)
            if verdict is not None:
                self._stop_by(verdict)
        except Exception as error:  # noqa: BLE001
            self._stop_for(error)
        finally:
            self._registry.remove(state)
            if not self._worker.has_sent:
                self._worker.has_begun.set()

    def _stop_for(self, error: Exception) -> None:
        """Stop because of an error. The exit code for a file or a setting tells whether anything was sent."""
        code = exit_codes.STOPPED if self._worker.has_sent else exit_codes.NOTHING_SENT
        match error:
            case OutputError():
                self.stop(str(error), exit_code=code, grace_s=0)
            case InputError() | ConfigError():
                self.stop(str(error), exit_code=code)
            case InternalError():
                self.stop(f"internal error: {error}", exit_code=exit_codes.INTERNAL_ERROR)
            case _:
                text = f"internal error: {type(error).__name__}: {error}"
                self.stop(text, exit_code=exit_codes.INTERNAL_ERROR)

    def _stop_by(self, verdict: StopRun) -> None:
        self.stop(verdict.reason, exit_code=exit_codes.STOPPED, grace_s=verdict.grace_s)

    def _ordinary_outcome(self) -> Outcome:
        if not self._reader.jobs_read:
            return self._outcome_without_jobs()
        has_failed_jobs = self._reader.failed_earlier + self._worker.rows.failed_jobs > 0
        return Outcome(exit_code=exit_codes.INCOMPLETE if has_failed_jobs else exit_codes.COMPLETE)

    def _outcome_without_jobs(self) -> Outcome:
        """The exit codes speak of the files: all of no jobs are done. Nothing on stdin is a mistake before the pipe."""
        name = self._deps.source_name or "the session"
        if self._options.shard is not None and self._reader.lines_read == self._reader.lines_of_other_shards:
            reason = f"part {self._options.shard} of {name} holds no job"
            return Outcome(exit_code=exit_codes.COMPLETE, reason=reason)
        if self._reader.lines_read:
            return Outcome(exit_code=exit_codes.INCOMPLETE, reason=f"{name} holds no job: every line is invalid")
        code = exit_codes.NOTHING_SENT if name == "stdin" else exit_codes.COMPLETE
        return Outcome(exit_code=code, reason=f"{name} holds no job")

    # ------------------------------------------------------------ reading jobs

    async def _produce(self) -> None:
        start_job = self._start_unless_parked if self._deps.sink.recovered.parked else self._open_job
        await self._reader.read(start_job, self._wait_for_jobs)
        await self._open_last_jobs()
        while await self._settle():
            pass

    async def _open_last_jobs(self) -> None:
        last_jobs, self._to_send_last = self._to_send_last, []
        for job in last_jobs:
            await self._open_job(job)

    async def _settle(self, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Decide for the jobs that wait for others, once no other job is open. Return False where no job is.

        The only place that does it, and one step at a time: what a decision leads to is awaited before the next one.
        Returns before there is anything to decide where ``is_over`` becomes true.
        """
        endpoints = self._deps.endpoints
        await self._registry.wait_while_others_are_open(endpoints.count_parked, is_over)
        if is_over():
            return True
        if endpoints.count_parked():
            await decide_parked(self._deps)
        elif self._worker.deferred:
            await self._send_deferred()
        else:
            return False
        return True

    async def _wait_for_jobs(self, pause: NoJobYet) -> None:
        """Do meanwhile what is otherwise done at the end of the job file: the jobs that wait need an answer now."""
        await self._open_last_jobs()
        while not pause.is_over():
            if not await self._settle(pause.is_over) and not pause.is_over():
                await self._registry.wait_for_change()

    async def _send_deferred(self) -> None:
        """Send the jobs once more that failed while no more could be parked."""
        assert self._deps.read_again is not None, "jobs that can be read only once are not deferred"
        deferred, self._worker.deferred = self._worker.deferred, DeferredJobs()
        async for job, attempts in deferred.read_again(self._deps.read_again()):
            await self._open_job(job, attempts)

    async def _start_unless_parked(self, job: Job) -> None:
        """Start the job; one that an earlier run left parked, after all others."""
        parked_earlier = self._deps.sink.recovered.parked
        if job_key(job.custom_id) in parked_earlier and len(self._to_send_last) < MAX_PARKED_JOBS:
            self._to_send_last.append(job)
        else:
            await self._open_job(job)

    async def _open_job(self, job: Job, attempts: int = 0) -> None:
        """Start the job's task, once fewer jobs wait. ``attempts``: requests sent for it earlier in this run."""
        on_ended = self._deps.on_job_ended
        if self._deps.endpoints.is_closed_for(job):
            self._worker.left_jobs += 1
            on_ended(job)
            return
        if not self._registry.has_room(self._options.look_ahead):
            await self._wait_for_room(job)
        self._preload_encoding(job.model)
        state = self._worker.new_state(job, attempts)
        task = self._loop.create_task(self._run_job(state))
        self._registry.add(state, task)
        if on_ended is not ignore_job:
            task.add_done_callback(lambda _: on_ended(job))
        if not self._worker.has_begun.is_set():
            await self._worker.has_begun.wait()  # a job file that breaks off must not be taken for an unreadable one

    async def _wait_for_room(self, job: Job) -> None:
        try:
            await self._registry.wait_for_room(self._options.look_ahead)
        except asyncio.CancelledError:
            self._deps.on_job_ended(job)
            raise

    def _preload_encoding(self, model: str) -> None:
        """Load the model's encoding while the first requests are sent."""
        if model not in self._loading_models:
            self._loading_models.add(model)
            self._start(self._deps.counter.load, model)
