"""Collects a batch that has ended: each of its jobs gets its row, or is noted to be submitted again."""

from __future__ import annotations

from contextlib import suppress

from processor.batch.dependencies import BatchDependencies, BatchOptions, Counts
from processor.batch.interruptions import Interruptions
from processor.batch.open_batch import OpenBatch
from processor.batch.provider_batches import BatchError, RemoteBatch
from processor.batch.records import JobRecord, index_of
from processor.batch.rows import BatchRows
from processor.batch.sizes import EnqueuedRoom
from processor.batch.verdicts import (
    ENQUEUED_LIMIT,
    EXPIRED,
    NO_RESULT,
    AccountRefused,
    Answered,
    BatchVerdict,
    Failed,
    SubmitAgain,
    verdict_on,
    verdict_on_batch_error,
    without_response,
)
from processor.core.errors import RequestError
from processor.core.job_keys import job_key

_CODE_OF_ENDING = {"expired": EXPIRED, "cancelled": "batch_cancelled"}


class Collection:
    """Collects one batch after the other."""

    def __init__(
        self,
        deps: BatchDependencies,
        options: BatchOptions,
        counts: Counts,
        interruptions: Interruptions,
        room: EnqueuedRoom,
    ) -> None:
        self._deps = deps
        self._options = options
        self._counts = counts
        self._interruptions = interruptions
        self._room = room
        self._rows = BatchRows(deps, options, counts)

    async def collect(self, batch: OpenBatch, remote: RemoteBatch, *, enqueued: int) -> None:
        """Write the rows of a batch that has ended, and record that it is collected.

        ``enqueued``: the tokens of the other batches of its model that have not ended. Raises OutputError, RunEnded
        and StreamTime, before it is recorded; the batch is then collected once more.
        """
        again: dict[bytes, int] = {}
        settled = bytearray(batch.size.jobs)
        by_index, for_all = self._batch_errors(batch, remote, enqueued)
        for index, verdict in by_index.items():
            await self._settle(batch, index, verdict, settled, again)
        await self._interruptions.repeat(
            lambda: self._read_results(batch, remote, settled, again), "fetch the results of a batch"
        )
        ending = remote.ended_as or "failed"
        for index in range(batch.size.jobs):
            if not settled[index]:
                verdict = for_all or without_response(_CODE_OF_ENDING.get(ending, ""), "")
                await self._settle(batch, index, verdict, settled, again)
        await self._rows.flush()
        await self._deps.sink.sync()
        files = (*remote.result_files, *((batch.file_id,) if batch.file_id else ()))
        self._deps.log.record_collection(batch, again, () if self._options.keep_remote_files else files)
        if self._deps.budget is not None:
            self._deps.budget.release(batch)
        await self.remove_files(batch)

    async def give_up(self, batch: OpenBatch, error: BatchError, *, enqueued: int) -> None:
        """The batch was not created: settle its jobs."""
        refused = RemoteBatch(id="", status="failed", ended_as="failed", errors=(error,))
        await self.collect(batch, refused, enqueued=enqueued)

    async def remove_files(self, batch: OpenBatch) -> None:
        """Delete the files of a collected batch at the provider. What is not possible now is left to a later run."""
        try:
            for name in batch.remote_files:
                with suppress(RequestError):
                    await self._deps.api.delete_file(name)
        finally:
            self._deps.log.record_removal(batch)

    async def _read_results(
        self, batch: OpenBatch, remote: RemoteBatch, settled: bytearray, again: dict[bytes, int]
    ) -> None:
        async for line in self._deps.api.results(remote):
            if self._interruptions.is_stopping:
                self._interruptions.check()  # the batch is collected once more by the next run
            index = index_of(batch.name, line.own_id, batch.size.jobs)
            if index is None or settled[index]:
                continue  # of no job of this program, or read before the download broke off
            record = self._deps.log.job(batch, index)
            verdict = verdict_on(line, record.job(batch.path, batch.model))
            await self._settle(batch, index, verdict, settled, again)

    async def _settle(
        self, batch: OpenBatch, index: int, verdict: BatchVerdict, settled: bytearray, again: dict[bytes, int]
    ) -> None:
        settled[index] = True
        record = self._deps.log.job(batch, index)
        if self._rows.has_reply(record):
            return
        if isinstance(verdict, Answered):
            await self._rows.write_reply(batch, record, verdict)
        elif isinstance(verdict, Failed):
            await self._rows.write_failure(batch, record, verdict)
        elif isinstance(verdict, AccountRefused):
            self._note_refusal(str(verdict.error))
            again[job_key(record.custom_id)] = record.submission - 1
        else:
            await self._submit_again(batch, record, verdict, again)

    async def _submit_again(
        self, batch: OpenBatch, record: JobRecord, verdict: SubmitAgain, again: dict[bytes, int]
    ) -> None:
        if self._deps.budget is not None and verdict.failed.failure.code == NO_RESULT:
            self._deps.budget.spend(None, record.worst_pico)  # it may have been billed
        is_last = verdict.is_counted and record.submission >= self._options.max_submissions
        if is_last and self._options.stream_at is None:
            await self._rows.write_failure(batch, record, verdict.failed)
        else:
            again[job_key(record.custom_id)] = record.submission - (not verdict.is_counted)

    def _batch_errors(
        self, batch: OpenBatch, remote: RemoteBatch, enqueued: int
    ) -> tuple[dict[int, BatchVerdict], BatchVerdict | None]:
        """Why the batch failed as a whole: for single jobs, and for all others."""
        by_index: dict[int, BatchVerdict] = {}
        for_all: BatchVerdict | None = None
        if remote.ended_as != "failed":
            return by_index, for_all
        for error in remote.errors:
            verdict = verdict_on_batch_error(error)
            if error.line is not None and error.line <= batch.size.jobs:
                by_index[error.line - 1] = verdict
            elif isinstance(verdict, AccountRefused) or for_all is None:
                for_all = verdict
            if error.code == ENQUEUED_LIMIT and not self._room.refused(batch.model, enqueued, batch.size):
                for_all = verdict.failed if isinstance(verdict, SubmitAgain) else verdict
        if by_index and for_all is None:
            for_all = without_response("batch_cancelled", "")  # the other jobs were not tried
        return by_index, for_all

    def _note_refusal(self, reason: str) -> None:
        if reason not in self._counts.refused:
            self._counts.refused.append(reason)
