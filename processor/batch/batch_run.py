"""One run through the batch API.

    settle what an earlier run left ─► read the jobs, cut and submit them as there is room ─► poll ─► collect
                                           ▲                                                            │
                                           └───────────── what expired, or came back unanswered ◄───────┘

One step after the other, in one task: nothing here is urgent, and so each state on disk is simple.
"""

from __future__ import annotations

import asyncio

from processor.batch.batch_watch import BatchWatch
from processor.batch.collection import Collection
from processor.batch.dependencies import BatchDependencies, BatchOptions, BatchOutcome, Counts
from processor.batch.interruptions import Interruptions, RunEnded, StreamTime
from processor.batch.job_submitter import JobSubmitter
from processor.batch.messages import end_reason, no_batch_api
from processor.batch.sizes import EnqueuedRoom
from processor.batch.submission import CreationRefused, Submission
from processor.core import exit_codes
from processor.core.errors import ConfigError, InputError, OutputError, RequestError, UrlNotFound
from processor.core.events import Stopping
from processor.output.sink import END_OF_FILE
from processor.output.storage import as_output_error
from processor.ratelimit.snapshot import LimiterSnapshot
from processor.scheduler import Outcome
from processor.scheduler.job_state import JobState


class BatchRun:
    """One run, to be used once: ``await BatchRun(deps, options).run()``."""

    def __init__(self, deps: BatchDependencies, options: BatchOptions) -> None:
        self._deps = deps
        self._options = options
        self._counts = Counts()
        self._room = EnqueuedRoom(options.enqueued_tokens)
        self._interruptions = Interruptions(
            deps.wall_clock,
            deps.emit,
            stream_at=options.stream_at,
            end_at=options.end_at,
            max_outage_s=options.max_outage_s,
        )
        self._collection = Collection(deps, options, self._counts, self._interruptions, self._room)
        self._submission = Submission(deps.api, deps.log, self._interruptions, deps.wall_clock, deps.emit, deps.budget)
        self._watch = BatchWatch(deps, options, self._interruptions, self._collection)
        self._submitter = JobSubmitter(
            deps,
            options,
            self._counts,
            self._interruptions,
            self._room,
            self._submission,
            self._collection,
            self._watch,
        )
        self._task: asyncio.Task[object] | None = None
        self._is_aborted = False

    # ------------------------------------------------------------ stopping

    @property
    def is_stopping(self) -> bool:
        return self._interruptions.is_stopping

    def stop(self, reason: str, *, exit_code: int) -> None:
        """End the run before its next step. The batches go on at the provider."""
        self._interruptions.stop(Outcome(exit_code=exit_code, reason=reason))

    def abort(self) -> None:
        """End the present step, too. A later run finds out what became of it."""
        if self._task is not None and not self._is_aborted:
            self._is_aborted = True
            self._task.cancel()

    @property
    def limiter_snapshots(self) -> list[LimiterSnapshot]:
        """Nothing limits a batch from here."""
        return []

    @property
    def in_flight(self) -> list[JobState]:
        """No request is in flight: the provider sends them."""
        return []

    # ------------------------------------------------------------ the run

    async def run(self) -> BatchOutcome:
        """Return how the run ended. Raises nothing but CancelledError."""
        self._task = asyncio.current_task()
        stream_rest = False
        try:
            with as_output_error(self._deps.log.path):
                stream_rest = await self._run()
            outcome = self._ordinary_outcome()
        except RunEnded as ended:
            outcome = ended.outcome
        except asyncio.CancelledError:
            if not self._is_aborted:
                raise
            outcome = Outcome(exit_code=exit_codes.INTERRUPTED, reason="interrupted twice")
        except (OutputError, InputError) as error:
            outcome = Outcome(exit_code=self._code_of_error, reason=str(error))
        except (RequestError, ConfigError) as error:
            is_unknown = isinstance(error, UrlNotFound) and self._code_of_error == exit_codes.NOTHING_SENT
            reason = no_batch_api(self._deps.base_url, error) if is_unknown else str(error)
            code = self._code_of_error if is_unknown or isinstance(error, ConfigError) else exit_codes.STOPPED
            outcome = Outcome(exit_code=code, reason=reason)
        outcome = await self._close(outcome, stream_rest=stream_rest)
        return BatchOutcome(outcome=outcome, stream_rest=stream_rest and outcome.reason is None)

    async def _run(self) -> bool:
        """Return whether jobs are left to be streamed."""
        if (budget := self._deps.budget) is not None:
            for batch in self._deps.log.open_batches:
                budget.reserve(batch)
        self._submitter.remove_left()
        try:
            await self._settle_earlier()
            await self._watch.look_once()
            await self._submit_all()
        except StreamTime:
            self._submitter.discard_drafts()
            self._interruptions.stream_no_more()
            await self._settle_unsubmitted(may_create=False)
            await self._watch.cancel_all()
            return True
        return self._options.stream_at is not None and (self._counts.left > 0 or bool(self._deps.log.again))

    async def _settle_earlier(self) -> None:
        """Find out what became of the batches that were about to be submitted, and delete files at the provider."""
        for batch in [one for one in self._deps.log.batches.values() if one.state == "collected"]:
            await self._collection.remove_files(batch)
        await self._settle_unsubmitted(may_create=True)

    async def _settle_unsubmitted(self, *, may_create: bool) -> None:
        for batch in [one for one in self._deps.log.open_batches if one.state != "submitted"]:
            found = await self._submission.settle(batch, may_create=may_create)
            if isinstance(found, CreationRefused):
                await self._collection.give_up(batch, found.error, enqueued=self._watch.enqueued(batch))

    async def _submit_all(self) -> None:
        """Submit the jobs of the file, and again those that come back unanswered, until none is left."""
        while True:
            has_room = await self._submitter.submit_all()
            if self._options.detach:
                return
            assert has_room, "only a run that is to end at once does not wait for room"
            await self._watch.wait_for_all()
            await self._wait_for_candidates()
            if self._counts.refused:
                return
            if not self._deps.log.again or (self._options.stream_at is not None and self._is_exhausted()):
                return

    async def _wait_for_candidates(self) -> None:
        """Wait while a batch may be one of the provider's that have not ended: when they do, their results show it."""
        while any(batch.has_candidates for batch in self._deps.log.open_batches):
            await self._interruptions.wait(self._options.poll_max_s)
            await self._settle_unsubmitted(may_create=True)
            await self._watch.wait_for_all()

    def _is_exhausted(self) -> bool:
        """Whether the jobs that are left have been submitted often enough: they are streamed."""
        return all(count >= self._options.max_submissions for count in self._deps.log.again.values())

    # ------------------------------------------------------------ the end

    @property
    def _code_of_error(self) -> int:
        """The exit code for what cannot be used."""
        has_sent = self._counts.submitted or self._deps.log.open_batches
        return exit_codes.STOPPED if has_sent else exit_codes.NOTHING_SENT

    def _ordinary_outcome(self) -> Outcome:
        if self._counts.refused:
            return Outcome(exit_code=exit_codes.STOPPED, reason="; ".join(self._counts.refused))
        if self._deps.log.open_batches or (self._options.detach and (self._counts.left or self._deps.log.again)):
            return Outcome(exit_code=exit_codes.STOPPED, reason=self._end_reason())
        if not self._counts.jobs:
            name = self._deps.source_name
            if self._counts.lines:
                return Outcome(exit_code=exit_codes.INCOMPLETE, reason=f"{name} holds no job: every line is invalid")
            return Outcome(exit_code=exit_codes.COMPLETE, reason=f"{name} holds no job")
        has_failed = self._counts.failed + self._counts.failed_earlier > 0
        return Outcome(exit_code=exit_codes.INCOMPLETE if has_failed else exit_codes.COMPLETE)

    def _end_reason(self) -> str:
        waiting = self._counts.left + len(self._deps.log.again)
        options = self._options
        return end_reason(self._deps.log.open_batches, waiting, options.output, options.connection_flags)

    async def _close(self, outcome: Outcome, *, stream_rest: bool) -> Outcome:
        """Write what is left, and release the files. Returns the outcome, which an error may change."""
        deps = self._deps
        if outcome.reason is not None and outcome.reason != self._end_reason() and deps.log.open_batches:
            outcome = Outcome(exit_code=outcome.exit_code, reason=f"{outcome.reason}; {self._end_reason()}")
        if outcome.reason is not None and outcome.exit_code in (exit_codes.STOPPED, exit_codes.INTERRUPTED):
            deps.emit(Stopping(at=asyncio.get_running_loop().time(), reason=outcome.reason, grace_s=0.0))
        rows_without_job = 0
        try:
            with as_output_error(deps.log.path):
                self._submitter.discard_drafts()
                if outcome.reason is None and not stream_rest:
                    deps.log.forget_again()
                deps.log.compact()
                deps.log.close()
            if self._counts.last_line == END_OF_FILE:
                rows_without_job = deps.sink.job_index.count_rows_without_job()
            nothing_sent = outcome.exit_code == exit_codes.NOTHING_SENT
            await deps.sink.close(self._counts.last_line, nothing_sent=nothing_sent)
        except OutputError as error:
            outcome = Outcome(exit_code=exit_codes.STOPPED, reason=str(error))
        return Outcome(exit_code=outcome.exit_code, reason=outcome.reason, rows_without_job=rows_without_job)
