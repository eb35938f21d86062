"""Submits the jobs of the file in batches, as there is room for them and in the budget."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from processor.batch.batch_budget import BatchBudget
from processor.batch.batch_watch import BatchWatch
from processor.batch.collection import Collection
from processor.batch.dependencies import BatchDependencies, BatchOptions, Counts
from processor.batch.drafts import BatchDraft, BatchDrafts
from processor.batch.interruptions import Interruptions, RunEnded
from processor.batch.job_reader import JobReader, KeySet
from processor.batch.messages import not_in_batch
from processor.batch.rows import BatchRows
from processor.batch.sizes import EnqueuedRoom
from processor.batch.submission import CreationRefused, Submission
from processor.core import exit_codes
from processor.core.events import Notice
from processor.core.job_keys import job_key
from processor.core.models import Failure, Job
from processor.core.text import place_of
from processor.cost.budget import Fit
from processor.protocols import protocol_for
from processor.scheduler import Outcome
from processor.terminal.formatting import plural


class JobSubmitter:
    """Each call of ``submit_all`` reads the file once, and submits what is to be submitted by then."""

    def __init__(
        self,
        deps: BatchDependencies,
        options: BatchOptions,
        counts: Counts,
        interruptions: Interruptions,
        room: EnqueuedRoom,
        submission: Submission,
        collection: Collection,
        watch: BatchWatch,
    ) -> None:
        self._deps = deps
        self._options = options
        self._counts = counts
        self._interruptions = interruptions
        self._room = room
        self._submission = submission
        self._collection = collection
        self._watch = watch
        self._reader = JobReader(deps, options, counts)
        self._rows = BatchRows(deps, options, counts)
        self._drafts = BatchDrafts(
            deps.storage, deps.log, deps.api, options.limits, room, deps.upload_path, deps.base_url
        )

    def remove_left(self) -> None:
        """Remove the files that a killed run has left. Raises OSError."""
        self._drafts.remove_left()

    def discard_drafts(self) -> None:
        """Forget the batches that are being made. Raises OSError."""
        self._drafts.discard()

    async def submit_all(self) -> bool:
        """Read the file once and submit its jobs. False where nothing more can be submitted now."""
        has_room = True
        self._counts.left = 0
        async with aclosing(self._reader.jobs(KeySet(self._deps.log.job_keys()))) as jobs:
            async for job in jobs:
                self._interruptions.check()
                if not await self._is_allowed(job):
                    continue
                if not has_room:
                    self._counts.left += 1
                    continue
                has_room = await self._add(job)
        for draft in self._drafts.rest():
            has_room = await self._submit(draft) and has_room
        await self._rows.flush()
        return has_room

    async def _is_allowed(self, job: Job) -> bool:
        """Whether the job may be in a batch. Another one gets a failed row, or is streamed later."""
        submissions = self._deps.log.again.get(job_key(job.custom_id), 0)
        is_left = self._options.stream_at is not None and submissions >= self._options.max_submissions
        if job.path in self._options.paths and self._drafts.fits_alone(job) and not is_left:
            return True
        if self._options.stream_at is not None:
            self._counts.left += 1
        else:
            await self._rows.write_unsent(job, not_in_batch(job.path, self._options.paths))
        return False

    async def _add(self, job: Job) -> bool:
        """Add the job to a batch, and submit those that are full. False where nothing more can be submitted now."""
        deps = self._deps
        await deps.counter.load(job.model)
        size = protocol_for(job.path).request_size(job, deps.counter.for_model(job.model))
        worst_pico: int | None = None
        if deps.budget is not None:
            worst = await deps.budget.worst_pico(job, size)
            if isinstance(worst, Failure):
                await self._rows.write_unsent(job, worst)
                return True
            worst_pico = worst
            if not await self._fits_budget(job, worst, deps.budget):
                self._counts.left += 1
                return False
        submissions = deps.log.again.get(job_key(job.custom_id), 0)
        attempts = max(deps.sink.job_index.attempts(job.custom_id), submissions)
        has_room = True
        for draft in self._drafts.add(
            job, size, attempts=attempts + 1, submission=submissions + 1, worst_pico=worst_pico
        ):
            has_room = await self._submit(draft) and has_room
        return has_room

    async def _fits_budget(self, job: Job, worst_pico: int, budget: BatchBudget) -> bool:
        """Whether the job fits, once batches have cost less than they might. Raises RunEnded where it never will."""
        if budget.fit(self._drafts.worst_pico + worst_pico) is Fit.FITS:
            return True
        for draft in self._drafts.rest():
            if not await self._submit(draft):
                return False
        while (fit := budget.fit(worst_pico)) is Fit.WAITS and self._watch.is_waiting and not self._options.detach:
            await self._watch.wait_and_look()
        if fit is Fit.FITS:
            return True
        if fit is Fit.WAITS and self._options.detach:
            return False
        await self._watch.wait_for_all()
        reason = budget.budget.exhaust(worst_pico, place_of(job.line, job.source))
        raise RunEnded(Outcome(exit_code=exit_codes.STOPPED, reason=reason))

    async def _submit(self, draft: BatchDraft) -> bool:
        """Submit a batch once there is room for it. False where the run ends rather than wait."""
        batch = draft.batch
        while not self._room.has_room(batch.model, self._watch.enqueued(batch), batch.size.tokens):
            if self._options.detach:
                self._counts.left += batch.size.jobs
                draft.file.remove()
                self._deps.log.discard_draft(batch)
                return False
            await self._watch.wait_and_look()
        found = await self._submission.submit(draft)
        if isinstance(found, CreationRefused):
            await self._collection.give_up(batch, found.error, enqueued=self._watch.enqueued(batch))
        elif found is not None:
            self._counts.submitted += 1
            size = batch.size
            text = f"batch {found.id} submitted: {plural(size.jobs, 'job')} of {batch.model}"
            self._deps.emit(Notice(at=asyncio.get_running_loop().time(), text=text))
        self._interruptions.check()
        return True
