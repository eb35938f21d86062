"""The run: reads jobs, gives each a task, and brings all of it to an orderly end. The file that wires the rooms.

feed ──► a task a job (worker) ──► rows
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

from processor.core import exit_codes
from processor.core.errors import ConfigError, InputError, OutputError
from processor.core.events import JobSkipped, SkipReason, Stopping
from processor.core.models import Job, Result
from processor.health.canary import Canary
from processor.health.endpoint_health import EndpointHealth
from processor.health.parked_jobs import MAX_DISTINCT_NOT_FOUND
from processor.input.done_job_skipper import SkippedJobs
from processor.input.fingerprints import raw_fingerprint
from processor.input.job_file import InvalidLine
from processor.input.job_formats import ParsedJob
from processor.output.index_entry import REPLIED
from processor.output.job_index import JobStatus
from processor.output.sink import END_OF_FILE
from processor.ratelimit.limiter import LimiterSnapshot
from processor.scheduler import result_builder
from processor.scheduler.attempt import JobState
from processor.scheduler.dependencies import Dependencies, Outcome, RunOptions
from processor.scheduler.job_registry import JobRegistry
from processor.scheduler.worker import Worker

LINES_PER_YIELD = 16
"""Lines between two breaths of the loop: a million finished jobs must not hold up a Ctrl-C, nor all jobs connect at
once."""


class Scheduler:
    """One run, once: ``await Run(rooms, terms)()`` inside a running loop."""

    def __init__(self, rooms: Dependencies, terms: RunOptions) -> None:
        self._rooms = rooms
        self._terms = terms
        self._sink = rooms.sink
        self._loop = asyncio.get_running_loop()
        self._tasks = asyncio.TaskGroup()
        self._phases = JobRegistry()
        self._scout = Canary()
        self._provider = EndpointHealth(
            terms.policy, rooms.listen, endpoint=rooms.target.address, max_outage_s=terms.max_outage_s
        )
        self._worker = Worker(
            rooms,
            self._phases,
            self._provider,
            simulated=terms.simulated,
            response_started=self._scout.response,
            waits_in_doubt=self._waits_in_doubt,
        )
        self._feeder: asyncio.Task[None] | None = None
        self._loading: set[str] = set()
        self._ended: Outcome | None = None
        self._lines = self._jobs = self._failed_before = 0
        self._read_to = 0
        self._fed = False

    async def __call__(self) -> Outcome:
        """Whatever ends a run is in its Outcome; nothing is raised but cancellation."""
        async with self._tasks:
            self._feeder = self._start(self._feed())
        try:
            await self._sink.close(self._read_to)
        except OutputError as error:
            self.stop(str(error), exit_code=exit_codes.STOPPED)
        return self._ended or self._verdict()

    def stop(self, why: str, *, exit_code: int, grace_s: float | None = None) -> None:
        """No new requests; those in flight may finish within the grace period. The first reason counts."""
        if self._ended is not None:
            return
        self._ended = Outcome(exit_code=exit_code, why=why)
        grace_s = self._terms.grace_s if grace_s is None else grace_s
        self._rooms.listen(Stopping(at=self._loop.time(), reason=why, grace_s=grace_s))
        self._phases.close()
        if self._feeder:
            # At whatever it waits for, even a row: that one is on its way to the disk already.
            self._feeder.cancel()
        self._loop.call_later(grace_s, self.abort)

    def abort(self) -> None:
        """Break off what is in flight; what is being written is written whole."""
        self._phases.abort()

    @property
    def is_stopping(self) -> bool:
        return self._ended is not None

    @property
    def gate(self) -> LimiterSnapshot:
        return self._rooms.gate.snapshot()

    @property
    def in_flight(self) -> list[JobState]:
        return self._phases.in_flight

    def _verdict(self) -> Outcome:
        if not self._jobs:
            what = "no job: every line is broken" if self._lines else "no job"
            return Outcome(exit_code=exit_codes.NOTHING_SENT, why=f"{self._rooms.source_name} holds {what}")
        return Outcome(
            exit_code=exit_codes.INCOMPLETE if self._failed_before + self._worker.failures else exit_codes.COMPLETE
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._tasks.create_task(self._edge(work))

    async def _edge(self, work: Coroutine[Any, Any, None]) -> None:
        """The one place where anything may come up: failing files, or a fault of ours, end the run in order."""
        try:
            await work
        except OutputError as error:
            self.stop(str(error), exit_code=exit_codes.STOPPED, grace_s=0)
        except (InputError, ConfigError) as error:
            code = exit_codes.STOPPED if self._worker.has_sent else exit_codes.NOTHING_SENT
            self.stop(str(error), exit_code=code)
        except Exception as error:  # noqa: BLE001
            self.stop(f"a fault of this program: {type(error).__name__}: {error}", exit_code=exit_codes.INTERNAL_ERROR)

    # ------------------------------------------------------------ feeding

    async def _feed(self) -> None:
        await self._read()
        self._fed = True
        self._despair()

    async def _read(self) -> None:
        async with aclosing(self._rooms.source) as source:
            async for found in source:
                await self._take(found)
                if self._lines == self._terms.limit:
                    return
        self._read_to = END_OF_FILE

    async def _take(self, found: ParsedJob | InvalidLine | SkippedJobs) -> None:
        lines = found.jobs if isinstance(found, SkippedJobs) else 1
        self._lines += lines
        self._read_to = found.line
        if self._lines % LINES_PER_YIELD < lines:
            await asyncio.sleep(0)
        if isinstance(found, SkippedJobs):
            self._pass(found)
            return
        if isinstance(found, InvalidLine):
            await self._worker.give_up(self._no_job(found))
            return
        self._jobs += 1
        job = await self._meet(found)
        if job is None:
            return
        await self._phases.room(self._terms.ahead)
        self._load(job.model)
        self._start(self._serve(job))
        await self._scout.wait()

    def _pass(self, passed: SkippedJobs) -> None:
        self._jobs += passed.jobs
        self._failed_before += passed.refused
        if done := passed.jobs - passed.refused:
            self._rooms.listen(JobSkipped(reason="done", count=done))
        if passed.refused:
            self._rooms.listen(JobSkipped(reason="failed_permanently", count=passed.refused))

    async def _meet(self, draft: ParsedJob) -> Job | None:
        """The job, if there is something to do about it."""
        job_index, terms = self._sink.job_index, self._terms
        custom_id = draft.custom_id if draft.custom_id is not None else job_index.assign_id(draft.fingerprint)
        match job_index.classify(custom_id, draft.fingerprint):
            case JobStatus.DUPLICATE:
                await self._worker.give_up(self._no_job(_duplicate(draft, custom_id)))
            case JobStatus.DONE:
                self._emit_skipped(draft, custom_id, "done")
            case JobStatus.CHANGED if not terms.resend_changed:
                self._emit_skipped(draft, custom_id, "changed")
            case JobStatus.FAILED_PERMANENTLY if not terms.retry_failed:
                self._failed_before += 1
                self._emit_skipped(draft, custom_id, "failed_permanently")
            case _:
                return draft.with_id(custom_id)
        return None

    def _emit_skipped(self, draft: ParsedJob, custom_id: str, reason: SkipReason) -> None:
        self._rooms.listen(JobSkipped(reason=reason, custom_id=custom_id, line=draft.line, model=draft.model))

    def _load(self, model: str) -> None:
        """Have the model's encoding loaded beside the first requests."""
        if model not in self._loading:
            self._loading.add(model)
            self._start(self._rooms.counter.load(model))

    async def _serve(self, job: Job) -> None:
        try:
            stop = await self._worker.serve(job)
        finally:
            self._phases.leave()
            self._scout.ended()
        if stop is not None:
            self.stop(stop.why, exit_code=exit_codes.STOPPED)
        self._despair()

    def _waits_in_doubt(self) -> None:
        self._scout.ended()
        self._despair()

    def _despair(self) -> None:
        """Stop, where everybody waits for a first success, and nobody who could have it is left, or can be read."""
        doubt = self._provider.doubt
        if doubt.is_over:
            return
        waiting = self._phases.all_in_doubt
        nobody_comes = self._fed or self._phases.is_full_of_doubt
        if not (doubt.is_despair or (waiting and nobody_comes)):
            return
        if 0 < waiting < MAX_DISTINCT_NOT_FOUND and self._sink.job_index.count(REPLIED):
            doubt.succeeded()
        else:
            self.stop(doubt.why(), exit_code=exit_codes.STOPPED)

    def _no_job(self, bad: InvalidLine) -> Result:
        return result_builder.no_job(bad, self._rooms.source_name, simulated=self._terms.simulated)


def _duplicate(draft: ParsedJob, custom_id: str) -> InvalidLine:
    return InvalidLine(
        line=draft.line,
        fingerprint=raw_fingerprint(draft.raw),
        code="duplicate_custom_id",
        message=f"custom_id {custom_id!r} is taken by an earlier line",
        custom_id=custom_id,
    )
