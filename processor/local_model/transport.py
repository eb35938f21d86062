"""Sends requests to a local model, and starts its process once more where that dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from processor.core.errors import TransportError
from processor.core.events import RequestListener, Transport
from processor.core.models import Job, Reply, Target
from processor.core.process_errors import LocalModelFailed, LocalModelRestarted
from processor.local_model.child import LocalModelProcess, LocalModelSettings

NOTICED_WITHIN_S = 0.5
"""Time in which the end of a process is known after its connections have broken."""


class LocalModel:
    """A model in a process of its own, for use as an async context manager. ``on_notice`` takes a message for the user.

    The address and the key stay the same when the process is started again.
    """

    def __init__(self, settings: LocalModelSettings, on_notice: Callable[[str], None]) -> None:
        self._settings = settings
        self._on_notice = on_notice
        self._process = LocalModelProcess(settings)
        self._starting = asyncio.Lock()
        self._has_restarted = False
        self._failure: LocalModelFailed | None = None
        self.target: Target

    async def __aenter__(self) -> Self:
        """Raises LocalModelFailed where the model cannot be loaded."""
        try:
            self.target = await self._process.start()
        except BaseException:
            await self._process.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._process.close()

    def transport(self, http: Transport) -> Transport:
        """Wrap the transport that sends the requests: it raises LocalModelRestarted for a request that the process took
        with it, and LocalModelFailed for all once it has died for the second time."""

        async def send(job: Job, target: Target, on_event: RequestListener) -> Reply:
            self._raise_failure()
            process = self._process
            try:
                return await http(job, target, on_event)
            except TransportError:
                if not await process.has_ended(within_s=NOTICED_WITHIN_S):
                    raise
            await self._restart(process)
            raise LocalModelRestarted("the process of the local model died, and was started again")

        return send

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise LocalModelFailed(str(self._failure))

    async def _restart(self, ended: LocalModelProcess) -> None:
        """Replace the process that has ended. Raises LocalModelFailed."""
        async with self._starting:
            if self._failure is None and self._process is ended:
                how = ended.describe_end()
                await ended.close()
                if self._has_restarted:
                    self._failure = LocalModelFailed(f"the process of the local model died twice ({how})")
                else:
                    self._has_restarted = True
                    self._on_notice(f"the process of the local model died ({how}); it is started once more")
                    await self._start_again()
            self._raise_failure()

    async def _start_again(self) -> None:
        process = LocalModelProcess(self._settings)
        try:
            await process.start(port=urlsplit(self.target.base_url).port or 0)
        except LocalModelFailed as error:
            self._failure = LocalModelFailed(
                f"the process of the local model died, and cannot be started again: {error}"
            )
            await process.close()
        except BaseException:
            await process.close()
            raise
        else:
            self._process = process
