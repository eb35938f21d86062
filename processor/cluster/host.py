"""The far end: sends the requests that come as messages, and reports what happens to them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Protocol

from processor.cluster.grouping import MessageGroups
from processor.cluster.messages import (
    FromWorker,
    NumberedTarget,
    RequestEnded,
    RequestReported,
    SendRequest,
    ToWorker,
    WorkerNotice,
    WorkerSettings,
    decode,
    encode,
    encode_aged,
    encode_info,
    target_with_key,
)
from processor.cluster.program_version import own_info
from processor.core.errors import InternalError, ProcessorError
from processor.core.events import RequestListener
from processor.core.models import Job, Reply, Target
from processor.core.text import Surface, messages_for
from processor.http.settings import TransportSettings

HEARTBEAT_S = 15.0
"""A call of ``pull`` returns after this time at the latest, so that the driver knows that the worker runs."""


class SendingTransport(Protocol):
    """What sends the requests of a worker: ``HttpTransport``."""

    async def __aenter__(self) -> SendingTransport: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply: ...

    def replace_key(self, before: Target, after: Target) -> None: ...


MakeTransport = Callable[[TransportSettings, Callable[[str], None]], SendingTransport]
"""Makes the transport of a worker from its settings; the function takes messages for the user."""


class WorkerHost:
    """Sends requests, each in a task of its own.

    | call          | takes                          | returns                                           |
    |---------------|--------------------------------|---------------------------------------------------|
    | `describe`    | nothing                        | a WorkerInfo, as JSON                             |
    | `open`        | WorkerSettings                 | nothing                                           |
    | `set_targets` | a list of NumberedTarget       | the numbers of those whose key it lacks           |
    | `push`        | a list of ToWorker messages    | nothing                                           |
    | `pull`        | nothing                        | a list of FromWorker messages, after some time    |
    """

    def __init__(
        self,
        make_transport: MakeTransport,
        *,
        node: str,
        max_connections: int,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._make_transport = make_transport
        self._node = node
        self._max_connections = max_connections
        self._environ = environ
        self._transport: SendingTransport
        self._targets: dict[int, Target] = {}
        self._messages: MessageGroups[FromWorker]
        self._surface: Surface = "command line"
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._last_number = 0
        self._stack = AsyncExitStack()

    async def describe(self) -> bytes:
        return encode_info(own_info(self._node, max_connections=self._max_connections))

    async def open(self, settings: bytes) -> None:
        """Raises ConfigError where the transport cannot be used here."""
        given: WorkerSettings = decode(settings)
        self._messages = MessageGroups(given.interval_s)
        self._surface = given.surface
        transport = self._make_transport(given.transport, lambda text: self._messages.add(WorkerNotice(text)))
        self._transport = await self._stack.enter_async_context(transport)

    async def set_targets(self, targets: bytes) -> bytes:
        given: list[NumberedTarget] = decode(targets)
        return encode([one.number for one in given if not self._set_target(one)])

    def _set_target(self, numbered: NumberedTarget) -> bool:
        """Use the target from now on. Return whether its key is known."""
        target = numbered.target
        if numbered.digest:
            own = self._environ.get(numbered.variable, "").strip() if numbered.variable else ""
            key = numbered.key if numbered.key is not None else own
            if not numbered.matches(key):
                return False
            target = target_with_key(numbered, key)
        before = self._targets.get(numbered.number)
        self._targets[numbered.number] = target
        if before is not None and before != target:
            self._transport.replace_key(before, target)
        return True

    async def push(self, group: bytes) -> None:
        messages: list[ToWorker] = decode(group)
        for message in messages:
            if not isinstance(message, SendRequest):
                if (task := self._tasks.get(message.number)) is not None:
                    task.cancel()
            elif message.number > self._last_number:  # else it has come before
                self._last_number = message.number
                self._tasks[message.number] = asyncio.create_task(self._send(message))

    async def pull(self) -> bytes:
        messages = await self._messages.take(within_s=HEARTBEAT_S)
        return encode_aged(messages, asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Cancel all requests, and close the connections."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._stack.aclose()

    async def _send(self, request: SendRequest) -> None:
        number = request.number
        outcome: Reply | ProcessorError
        try:
            with messages_for(self._surface):
                outcome = await self._transport(
                    request.job, self._targets[request.target], partial(_report, self._messages, number)
                )
        except ProcessorError as error:
            outcome = error
        except Exception as error:  # noqa: BLE001 - it is reported to the driver, and ends the run
            outcome = InternalError(f"{type(error).__name__} in a worker: {error}")
        finally:
            del self._tasks[number]
        self._messages.add(RequestEnded(number, outcome))


def _report(messages: MessageGroups[FromWorker], number: int, event: object) -> None:
    messages.add(RequestReported(number, event))  # type: ignore[arg-type]
