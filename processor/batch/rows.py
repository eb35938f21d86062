"""Turns the results of a batch into rows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from processor.batch.costs import SERVED_BY, cost_of_reply
from processor.batch.dependencies import BatchDependencies, BatchOptions, Counts
from processor.batch.open_batch import OpenBatch
from processor.batch.records import JobRecord
from processor.batch.verdicts import Answered, Failed
from processor.core.events import JobFinished
from processor.core.job_keys import job_key
from processor.core.models import Failure, Job, Result, Timing, Usage
from processor.core.urls import endpoint_address
from processor.output.index_entry import MAX_ATTEMPTS
from processor.protocols import protocol_for
from processor.scheduler.masking import mask_error, masked_reply
from processor.scheduler.result_builder import result_of_failure, result_of_reply

_ROWS_AT_ONCE = 64


class BatchRows:
    """Writes rows, many with one write. ``flush`` writes the last ones."""

    def __init__(self, deps: BatchDependencies, options: BatchOptions, counts: Counts) -> None:
        self._deps = deps
        self._options = options
        self._counts = counts
        self._pending: list[Result] = []

    async def write_reply(self, batch: OpenBatch, record: JobRecord, answered: Answered) -> None:
        """Raises OutputError."""
        deps = self._deps
        protocol, job = protocol_for(batch.path), record.job(batch.path, batch.model)
        reply = masked_reply(answered.reply)
        await deps.counter.load(batch.model)
        count = protocol.count_reply(reply.body, job.body, deps.counter.for_model(batch.model))
        usage = Usage(prompt_tokens=record.prompt_tokens, completion_tokens=count.tokens)
        reported = protocol.reported_usage(reply.body)
        billed = reported if reported and reported.is_plausible else usage
        tariff = await deps.prices.tariff(deps.base_url, batch.model)
        submitted_at = batch.submitted_at or batch.intended_at
        cost_usd = cost_of_reply(tariff, self._options.price_factor, reply, billed, submitted_at)
        if deps.budget is not None:
            deps.budget.spend(cost_usd, record.worst_pico)
        result = result_of_reply(
            job,
            protocol,
            reply,
            usage,
            reported,
            usage_estimated=(*record.prompt_estimated, *count.estimate_reasons),
            attempts=record.attempts,
            timing=self._timing(batch),
            endpoint=endpoint_address(deps.base_url, batch.path),
            streamed=False,
            simulated=self._options.run.simulated,
            cost_usd=cost_usd,
            served_by=SERVED_BY,
        )
        if deps.validation is not None:
            result = await deps.validation.judge_once(protocol, job, result, billed, deps.emit)
            self._counts.failed += result.failure is not None
        await self._add(result)

    async def write_failure(self, batch: OpenBatch, record: JobRecord, failed: Failed) -> None:
        """Raises OutputError."""
        error = failed.error
        if error is not None:
            mask_error(error)
        result = result_of_failure(
            record.job(batch.path, batch.model),
            failed.failure,
            error or Exception(),
            attempts=record.attempts,
            timing=self._timing(batch),
            endpoint=endpoint_address(self._deps.base_url, batch.path),
            streamed=False,
            simulated=self._options.run.simulated,
            served_by=SERVED_BY,
        )
        self._counts.failed += 1
        await self._add(result)

    async def write_unsent(self, job: Job, failure: Failure) -> None:
        """Write the failed row of a job that was not sent. Raises OutputError."""
        result = result_of_failure(
            job,
            failure,
            Exception(),
            attempts=self._deps.sink.job_index.attempts(job.custom_id),
            timing=None,
            endpoint=None,
            streamed=None,
            simulated=self._options.run.simulated,
        )
        await self.write_line(result)

    async def write_line(self, result: Result) -> None:
        """Write the failed row of a line that is not sent. Raises OutputError."""
        self._counts.failed += 1
        await self._add(result)

    def has_reply(self, record: JobRecord) -> bool:
        """Whether an earlier run, which was killed while it collected the batch, has written the job's reply."""
        index = self._deps.sink.job_index
        is_as_late = record.attempts <= index.attempts(record.custom_id) < MAX_ATTEMPTS
        return is_as_late and index.has_reply(job_key(record.custom_id))

    def _timing(self, batch: OpenBatch) -> Timing:
        """From the submission of the batch to its collection."""
        submitted_at = batch.submitted_at or batch.intended_at
        started_at = datetime.fromtimestamp(submitted_at, UTC).isoformat(timespec="milliseconds")
        return Timing(
            started_at=started_at.replace("+00:00", "Z"),
            queued_s=0.0,
            first_token_s=None,
            total_s=round(max(self._deps.wall_clock() - submitted_at, 0.0), 3),
        )

    async def _add(self, result: Result) -> None:
        self._pending.append(result)
        if len(self._pending) >= _ROWS_AT_ONCE:
            await self.flush()

    async def flush(self) -> None:
        """Write what is left. Raises OutputError."""
        rows, self._pending = self._pending, []
        if not rows:
            return
        await asyncio.gather(*(self._deps.sink.append(row) for row in rows))
        at = asyncio.get_running_loop().time()
        for row in rows:
            self._deps.emit(JobFinished(at=at, result=row, model=row.asked_model, endpoint=row.endpoint))
