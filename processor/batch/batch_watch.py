"""Asks for the state of the open batches, collects those that have ended, and cancels them where it is time."""

from __future__ import annotations

import asyncio
from collections import Counter

from processor.batch.collection import Collection
from processor.batch.dependencies import BatchDependencies, BatchOptions
from processor.batch.interruptions import Interruptions
from processor.batch.open_batch import OpenBatch
from processor.batch.polling import PollIntervals
from processor.batch.provider_batches import RemoteBatch
from processor.core.errors import AccessDenied, AddressError, BadRequest, RequestError
from processor.core.events import Notice
from processor.terminal.formatting import plural

MAX_NOT_FOUND = 3
"""A batch that the provider does not know counts as lost after so many questions."""


class BatchWatch:
    """Watches the batches that are with the provider."""

    def __init__(
        self,
        deps: BatchDependencies,
        options: BatchOptions,
        interruptions: Interruptions,
        collection: Collection,
    ) -> None:
        self._deps = deps
        self._interruptions = interruptions
        self._collection = collection
        self._intervals = PollIntervals(options.poll_min_s, options.poll_max_s)
        self._progress: dict[str, tuple[str, int | None]] = {}
        """By name: the state and the requests done, as last told."""
        self._not_found: Counter[str] = Counter()

    @property
    def _working(self) -> list[OpenBatch]:
        """The batches whose end can be awaited."""
        return [one for one in self._deps.log.open_batches if one.state == "submitted" and not one.is_lost]

    @property
    def is_waiting(self) -> bool:
        """Whether the end of a batch can be awaited."""
        return bool(self._working)

    def enqueued(self, batch: OpenBatch) -> int:
        """The prompt tokens of the other open batches of its model."""
        others = (one for one in self._deps.log.open_batches if one.model == batch.model and one is not batch)
        return sum(one.size.tokens for one in others)

    async def wait_for_all(self) -> None:
        """Return when all batches are collected, but for those that cannot be."""
        while self._working:
            await self.wait_and_look()

    async def wait_and_look(self) -> None:
        """Wait until it is time to ask again, ask, and collect what has ended."""
        await self._interruptions.wait(self._intervals.next_s())
        await self.look_once()

    async def look_once(self) -> None:
        """Ask for the state of each batch, and collect those that have ended."""
        for batch in self._working:
            remote = await self._remote(batch)
            if remote is None:
                continue
            self._report(batch, remote)
            if remote.ended_as is not None:
                await self._collect(batch, remote)

    async def cancel_all(self) -> None:
        """Cancel the batches, await their end, and collect what was answered."""
        for batch in self._working:
            await cancel(self._deps, self._interruptions, batch)
        self._intervals.reset()
        await self.wait_for_all()

    async def _remote(self, batch: OpenBatch) -> RemoteBatch | None:
        """Ask for a batch. None where the provider does not know it."""
        name = batch.batch_id or ""
        try:
            remote = await self._interruptions.repeat(
                lambda: self._deps.api.batch(name), "ask for the state of a batch"
            )
        except (AccessDenied, AddressError):
            raise
        except RequestError as error:
            self._not_found[batch.name] += 1
            if isinstance(error, BadRequest) and self._not_found[batch.name] >= MAX_NOT_FOUND:
                batch.is_lost = True
            return None
        self._not_found.pop(batch.name, None)
        return remote

    async def _collect(self, batch: OpenBatch, remote: RemoteBatch) -> None:
        try:
            await self._collection.collect(batch, remote, enqueued=self.enqueued(batch))
        except BadRequest:
            batch.is_lost = True  # its results are gone
        self._intervals.reset()

    def _report(self, batch: OpenBatch, remote: RemoteBatch) -> None:
        """Emit a notice of what has changed."""
        if self._progress.get(batch.name) == (remote.status, remote.done):
            return
        self._intervals.reset()
        self._progress[batch.name] = (remote.status, remote.done)
        jobs = plural(batch.size.jobs, "job")
        done = jobs if remote.done is None else f"{remote.done:,} of {jobs} done"
        text = f"batch {remote.id} {remote.status.replace('_', ' ').lower()}: {done}"
        self._deps.emit(Notice(at=asyncio.get_running_loop().time(), text=text))


async def cancel(deps: BatchDependencies, interruptions: Interruptions, batch: OpenBatch) -> None:
    """Cancel a batch. One that has ended meanwhile cannot be cancelled, which the provider says with a refusal."""
    name = batch.batch_id or ""
    try:
        await interruptions.repeat(lambda: deps.api.cancel(name), "cancel a batch")
    except BadRequest:
        return
