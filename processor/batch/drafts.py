"""Cuts the jobs into batches: by API path and model, and within the provider's limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from processor.batch.batch_log import BatchLog
from processor.batch.open_batch import OpenBatch
from processor.batch.provider_batches import ProviderBatches
from processor.batch.records import JobRecord, own_id, record_of
from processor.batch.sizes import BatchLimits, BatchSize, EnqueuedRoom
from processor.batch.upload_file import UploadFile, UploadPath
from processor.core.fast_dataclass import dataclass
from processor.core.models import Job, RequestSize
from processor.output.storage import Storage
from processor.protocols import protocol_for

MAX_DRAFTS = 16
"""Batches of so many models and API paths are made at a time."""
_NAME_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDraft:
    """A batch that jobs are added to, and its file."""

    batch: OpenBatch
    file: UploadFile


class BatchDrafts:
    """The batches that are being made. Methods raise OSError where the disk refuses to take them."""

    def __init__(
        self,
        storage: Storage,
        log: BatchLog,
        api: ProviderBatches,
        limits: BatchLimits,
        room: EnqueuedRoom,
        upload_path: UploadPath,
        address: str,
        make_name: Callable[[], str] = lambda: os.urandom(_NAME_BYTES).hex(),
    ) -> None:
        self._storage = storage
        self._log = log
        self._api = api
        self._limits = limits
        self._room = room
        self._upload_path = upload_path
        self._address = address
        self._make_name = make_name
        self._open: dict[tuple[str, str], BatchDraft] = {}
        """By API path and model."""

    def fits_alone(self, job: Job) -> bool:
        """Whether the job may be in a batch at all."""
        size = self._size(job, self._api.line(own_id("0" * 2 * _NAME_BYTES, self._limits.jobs), job), 0)
        return self._limits.allow(size, None)

    @property
    def worst_pico(self) -> int:
        """The most that all of them can cost."""
        return sum(draft.batch.worst_pico or 0 for draft in self._open.values())

    def add(
        self, job: Job, size: RequestSize, *, attempts: int, submission: int, worst_pico: int | None = None
    ) -> Iterator[BatchDraft]:
        """Add a job to a batch. Yields the batches that are full, or make room for others: submit them.

        ``worst_pico``: the most that it can cost; None where the run has no budget.
        """
        key = job.path, job.model
        draft = self._open.get(key)
        if draft is not None:
            line = self._line(draft, job)
            if not self._fits(draft, self._size(job, line, size.prompt_tokens)):
                yield self._open.pop(key)
                draft = None
        if draft is None:
            if len(self._open) >= MAX_DRAFTS:
                largest = max(self._open, key=lambda one: self._open[one].batch.size.jobs)
                yield self._open.pop(largest)
            draft = self._open[key] = self._begin(job)
            line = self._line(draft, job)
        draft.file.add(line)
        draft.batch.size += self._size(job, line, size.prompt_tokens)
        if worst_pico is not None:
            draft.batch.worst_pico = (draft.batch.worst_pico or 0) + worst_pico
        self._log.add_job(draft.batch, self._record(job, size, attempts, submission, worst_pico))

    def rest(self) -> Iterator[BatchDraft]:
        """The batches that are not full, at the end of the jobs."""
        while self._open:
            yield self._open.pop(next(iter(self._open)))

    def discard(self) -> None:
        """Forget the batches that are being made, and remove their files."""
        for draft in self.rest():
            draft.file.remove()
        self._log.discard_drafts()

    def remove_left(self) -> None:
        """Remove the files that a killed run has left: no batch is submitted from them any more."""
        for name in self._log.names_found:
            with suppress(OSError):
                path = self._upload_path(name)
                if self._storage.exists(path):
                    self._storage.remove(path)
        self._log.names_found.clear()

    def _begin(self, job: Job) -> BatchDraft:
        batch = OpenBatch(name=self._make_name(), path=job.path, model=job.model, address=self._address)
        self._log.begin(batch)
        file = UploadFile(self._storage, self._upload_path(batch.name), self._api)
        return BatchDraft(batch=self._log.batches[batch.name], file=file)

    def _line(self, draft: BatchDraft, job: Job) -> bytes:
        return self._api.line(own_id(draft.batch.name, draft.batch.size.jobs), job)

    def _fits(self, draft: BatchDraft, further: BatchSize) -> bool:
        return self._limits.allow(draft.batch.size + further, self._room.limit(draft.batch.model))

    def _size(self, job: Job, line: bytes, tokens: int) -> BatchSize:
        frame = len(self._api.head) + len(self._api.tail) + len(self._api.separator)
        inputs = job.body.get("input") if job.path == "/v1/embeddings" else None
        count = len(inputs) if isinstance(inputs, list) and inputs and not isinstance(inputs[0], int) else 1
        return BatchSize(jobs=1, bytes=len(line) + frame, tokens=tokens, inputs=count)

    @staticmethod
    def _record(job: Job, size: RequestSize, attempts: int, submission: int, worst_pico: int | None) -> JobRecord:
        return record_of(
            job,
            size,
            attempts=attempts,
            submission=submission,
            prompt_fields=protocol_for(job.path).prompt_fields,
            worst_pico=worst_pico,
        )
