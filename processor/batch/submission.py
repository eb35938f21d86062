"""Submits a batch: once, whatever happens between the intent and the provider's answer.

intend ─► upload ─► create ─┬─► submitted
                      ▲     ├─► refused                       not created: its jobs are submitted again, or fail
                      │     └─► no answer ─► search ─┬─► submitted       found at the provider
                      └──────────────────────────────┤ not found: it was not created
                                                     └─► uncertain       nothing more is done with it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from processor.batch.batch_budget import BatchBudget
from processor.batch.batch_log import BatchLog
from processor.batch.drafts import BatchDraft
from processor.batch.interruptions import Interruptions, RunEnded, StreamTime
from processor.batch.open_batch import OpenBatch
from processor.batch.provider_batches import BatchError, ProviderBatches, RemoteBatch
from processor.batch.records import index_of
from processor.core.api_calls import FileBody
from processor.core.errors import (
    AccessDenied,
    AddressError,
    BadRequest,
    ConnectError,
    Redirected,
    RequestError,
    StatusError,
    Throttled,
    UrlNotFound,
)
from processor.core.events import Listener, Notice
from processor.core.fast_dataclass import dataclass

SEARCH_WAITS_S = (2.0, 8.0, 20.0)
"""Before each look for a batch whose creation had no answer: a list may show it late."""
MAX_UNANSWERED = 3
"""After so many creations without an answer, none of which the provider's list shows, the list is not trusted."""
_FIRST_WAIT_S = 1.0
_MAX_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CreationRefused:
    """The provider has refused the batch: it was not created."""

    error: BatchError


class Submission:
    """Submits batches, and finds out what became of those that an earlier run has begun to submit."""

    def __init__(
        self,
        api: ProviderBatches,
        log: BatchLog,
        interruptions: Interruptions,
        wall_clock: Callable[[], float],
        emit: Listener,
        budget: BatchBudget | None = None,
    ) -> None:
        self._emit = emit
        self._budget = budget
        self._api = api
        self._log = log
        self._interruptions = interruptions
        self._wall_clock = wall_clock

    async def submit(self, draft: BatchDraft) -> RemoteBatch | CreationRefused | None:
        """Upload and create a batch. None where it is uncertain whether it was created; it is marked so.

        Raises the RequestErrors that concern all batches, RunEnded and StreamTime.
        """
        batch, file = draft.batch, draft.file.finish()
        if self._budget is not None:
            self._budget.reserve(batch)
        self._log.intend(batch, self._now())
        try:
            file_id = await self._interruptions.repeat(lambda: self._api.upload(batch, file), "upload a batch")
            if file_id is not None:
                self._log.record_upload(batch, file_id)
                draft.file.remove()
            found = await self._create(batch, None if file_id is not None else file)
        except RequestError:
            draft.file.remove()
            await self._abandon(batch)
            raise
        except (RunEnded, StreamTime, asyncio.CancelledError):
            draft.file.remove()
            if batch.state == "intended" and self._api.uploads_first:
                self._drop(batch)  # it was being uploaded, and so is certainly not created
            raise
        draft.file.remove()
        return found

    async def settle(self, batch: OpenBatch, *, may_create: bool) -> RemoteBatch | CreationRefused | None:
        """Find out whether a batch was created that was about to be. As ``submit``; also None where it is dropped.

        ``may_create``: create it now, if it was not and its file is at the provider.
        """
        if batch.state == "intended" and self._api.uploads_first:
            with suppress(RequestError):
                await self._api.delete_uploads(batch)
            self._drop(batch)  # nothing was created from its file
            return None
        found = await self._search(batch)
        if found is not None or batch.is_uncertain:
            return found
        if self._api.uploads_first and may_create:
            return await self._create(batch, None)
        await self._abandon(batch)
        return None

    async def _abandon(self, batch: OpenBatch) -> None:
        """Drop a batch that was certainly not created."""
        if batch.file_id is not None:
            with suppress(RequestError):
                await self._api.delete_file(batch.file_id)
        self._drop(batch)

    def _drop(self, batch: OpenBatch) -> None:
        self._log.drop(batch)
        if self._budget is not None:
            self._budget.release(batch)

    async def _create(self, batch: OpenBatch, file: FileBody | None) -> RemoteBatch | CreationRefused | None:
        began_at, wait_s, unanswered = asyncio.get_running_loop().time(), _FIRST_WAIT_S, 0
        while True:
            self._interruptions.check()
            try:
                return self._submitted(batch, await self._api.create(batch, file))
            except (AccessDenied, AddressError, Redirected, UrlNotFound):
                raise
            except BadRequest as error:
                return CreationRefused(error=_batch_error(error))
            except (ConnectError, Throttled) as error:
                failure: RequestError = error  # it was certainly not created
            except RequestError as error:
                found = await self._search(batch)
                unanswered += 1
                batch.is_uncertain = batch.is_uncertain or (found is None and unanswered >= MAX_UNANSWERED)
                if found is not None or batch.is_uncertain:
                    return found
                failure = error
            await self._interruptions.wait_after(failure, "create a batch", began_at, wait_s)
            wait_s = min(2 * wait_s, _MAX_WAIT_S)

    async def _search(self, batch: OpenBatch) -> RemoteBatch | None:
        """Look for the batch at the provider. None where it was not created, or, with its mark, is uncertain."""
        waits = SEARCH_WAITS_S if self._now() - batch.intended_at < sum(SEARCH_WAITS_S) else (0.0,)
        candidates: list[RemoteBatch] = []
        text = f"looks whether batch {batch.name} has been created, for {sum(waits):.0f} s at most"
        self._emit(Notice(at=asyncio.get_running_loop().time(), text=text))
        for wait_s in waits:
            await self._interruptions.wait(wait_s)
            try:
                found, candidates = await self._interruptions.repeat(lambda: self._look(batch), "list the batches")
            except (AccessDenied, AddressError):
                raise
            except RequestError:
                batch.is_uncertain = True  # the provider has no list
                return None
            if found is not None:
                return self._submitted(batch, found)
        batch.is_uncertain = batch.has_candidates = bool(candidates)
        return None

    async def _look(self, batch: OpenBatch) -> tuple[RemoteBatch | None, list[RemoteBatch]]:
        """Return the batch, if it is found, and the batches that it may be."""
        known = {one.batch_id for one in self._log.batches.values()}
        candidates = []
        # A clock that has been put back since then says nothing of how old a batch is.
        since = batch.intended_at if batch.intended_at <= self._now() else 0.0
        async for remote in self._api.list_since(since):
            if remote.name == batch.name or (batch.file_id is not None and remote.input_file == batch.file_id):
                return remote, []
            if self._api.is_found_in_list or remote.id in known:
                continue
            if remote.ended_as is None:
                candidates.append(remote)
            elif await self._has_jobs_of(batch, remote):
                return remote, []
        return None, candidates

    async def _has_jobs_of(self, batch: OpenBatch, remote: RemoteBatch) -> bool:
        """Whether the first result of a batch that has ended is one of this batch."""
        async for line in self._api.results(remote):
            return index_of(batch.name, line.own_id, batch.size.jobs) is not None
        return False

    def _submitted(self, batch: OpenBatch, remote: RemoteBatch) -> RemoteBatch:
        self._log.record_submission(batch, remote.id, self._now())
        return remote

    def _now(self) -> float:
        return self._wall_clock()


def _batch_error(error: StatusError) -> BatchError:
    return BatchError(code=error.error_code or "rejected", message=str(error))
