"""The near end of one worker: hands requests to it, and what comes back to those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from processor.cluster.grouping import MessageGroups
from processor.cluster.link import WorkerLink
from processor.cluster.messages import (
    CancelRequest,
    FromWorker,
    RequestReported,
    SendRequest,
    ToWorker,
    WorkerInfo,
    WorkerNotice,
    WorkerSettings,
    decode,
    decode_info,
    encode,
    with_time,
)
from processor.cluster.target_table import TargetTable
from processor.core.errors import InternalError, ProcessorError
from processor.core.events import RequestEvent, RequestListener, Sent
from processor.core.models import Reply
from processor.core.process_errors import WorkerLost

T = TypeVar("T")

SILENCE_S = 30.0
"""A worker that has not answered a call in this time, twice in a row, is lost. Twice, because this process may have
been stopped meanwhile: the answer is then read before the second time is over."""


class NotSent(Exception):
    """The worker was lost before it was given the request, which another one may send."""


@dataclass(slots=True)
class _Request:
    """A request that has not ended. Times are those of this process's event loop."""

    on_event: RequestListener
    ended: asyncio.Future[Reply]
    is_pushed: bool = False
    """It was given to the worker, or may have been."""
    last_at: float | None = None
    """When the last event was; None before the request is known to be sent."""

    def report(self, event: RequestEvent, now: float) -> None:
        """Hand on an event whose time is an age."""
        event = with_time(event, lambda age: max(now - age, self.last_at or 0.0))
        self.last_at = getattr(event, "at", self.last_at)
        self.on_event(event)

    def assume_sent(self, now: float) -> None:
        """The worker may have sent it at any time until now: a limit counts it from now on."""
        if self.is_pushed and self.last_at is None:
            self.report(Sent(0.0), now)


class RemoteWorker:
    """One worker that can be used, from ``start`` until it is lost or closed."""

    def __init__(
        self,
        name: str,
        link: WorkerLink,
        *,
        on_ended: Callable[[], None],
        on_lost: Callable[[RemoteWorker, ProcessorError], None],
        on_notice: Callable[[str], None],
    ) -> None:
        """``on_ended`` is called after each request that the worker has finished, ``on_lost`` once."""
        self.name = name
        self.info: WorkerInfo
        self.ended = 0
        """Requests that it has finished."""
        self.lost_requests = 0
        """Requests that were in flight when it was lost."""
        self._link = link
        self._on_ended = on_ended
        self._on_lost = on_lost
        self._on_notice = on_notice
        self._loop = asyncio.get_running_loop()
        self._requests: dict[int, _Request] = {}
        self._messages: MessageGroups[ToWorker]
        self._targets: TargetTable
        self._announced = 0
        """What ``TargetTable.changes`` was when the worker was told of the targets."""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def in_flight(self) -> int:
        return len(self._requests)

    async def describe(self) -> WorkerInfo:
        """Raises WorkerLost."""
        self.info = decode_info(await _answer(self._link.describe()))
        return self.info

    async def start(self, settings: WorkerSettings, targets: TargetTable) -> None:
        """Raises WorkerLost, and ConfigError where its transport cannot be used."""
        self._messages = MessageGroups(settings.interval_s)
        self._targets = targets
        await _answer(self._link.open(encode(settings)))
        self._tasks = [asyncio.create_task(self._run(work)) for work in (self._pull, self._push)]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.close()

    async def send(self, message: SendRequest, on_event: RequestListener) -> Reply:
        """Raises what the transport raises; WorkerLost; and NotSent."""
        request = self._requests[message.number] = _Request(on_event, self._loop.create_future())
        self._messages.add(message)
        try:
            return await request.ended
        except asyncio.CancelledError:
            if request.ended.done() and not request.ended.cancelled():
                request.ended.exception()  # read, so that asyncio does not log it
            request.assume_sent(self._loop.time())
            self._messages.add(CancelRequest(message.number))
            raise
        finally:
            self._requests.pop(message.number, None)

    # ------------------------------------------------------------ tasks

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do a task's work for as long as the worker lives."""
        try:
            await work()
        except ProcessorError as error:
            self._lose(error)
        except Exception as error:  # noqa: BLE001 - a mistake of this program, which ends the run
            self._lose(InternalError(f"{type(error).__name__} at a worker: {error}"))

    async def _push(self) -> None:
        while True:
            group = [message for message in await self._messages.take() if self._is_wanted(message)]
            if self._announced != self._targets.changes:
                self._announced = await self._targets.announce(self._link)
            if group:
                await self._link.push(encode(group))

    def _is_wanted(self, message: ToWorker) -> bool:
        """Whether to pass on a message. A request that was cancelled before is not sent at all."""
        request = self._requests.get(message.number)
        if isinstance(message, SendRequest) and request is not None:
            request.is_pushed = True
        return isinstance(message, CancelRequest) or request is not None

    async def _pull(self) -> None:
        while True:
            messages = decode(await _answer(self._link.pull()))
            now = self._loop.time()
            for message in messages:
                self._on_message(message, now)

    def _on_message(self, message: FromWorker, now: float) -> None:
        if isinstance(message, WorkerNotice):
            self._on_notice(message.text)
            return
        request = self._requests.get(message.number)
        if request is None or request.ended.done():
            return
        if isinstance(message, RequestReported):
            self._report(request, message, now)
            return
        self.ended += 1
        self._on_ended()
        if isinstance(message.outcome, Reply):
            request.ended.set_result(message.outcome)
        else:
            request.ended.set_exception(message.outcome)

    def _report(self, request: _Request, message: RequestReported, now: float) -> None:
        try:
            request.report(message.event, now)
        except Exception as error:  # noqa: BLE001 - it is raised where the request was made
            request.ended.set_exception(error)
            self._messages.add(CancelRequest(message.number))

    def _lose(self, error: ProcessorError) -> None:
        """Fail the requests in flight, and have the worker replaced."""
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        in_flight = [request for request in self._requests.values() if not request.ended.done()]
        self.lost_requests = sum(request.is_pushed for request in in_flight)
        self._on_lost(self, error)  # first, so that no further request is assigned to this worker
        now = self._loop.time()
        for request in in_flight:
            request.assume_sent(now)
            request.ended.set_exception(_copy(error) if request.is_pushed else NotSent())


def _copy(error: ProcessorError) -> ProcessorError:
    """An error that is raised in several places must not collect the traceback of all of them."""
    return type(error)(*error.args)


async def _answer(call: Awaitable[T]) -> T:
    """Wait for the answer to a call. Raises WorkerLost where none comes: see SILENCE_S."""
    task = asyncio.ensure_future(call)
    try:
        for _ in range(2):
            done, _pending = await asyncio.wait({task}, timeout=SILENCE_S)
            if done:
                return task.result()
        raise WorkerLost(f"it has not answered for {2 * SILENCE_S:.0f} s")
    finally:
        task.cancel()
