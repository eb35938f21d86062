"""Renews the key of one target: when it is old, and once for all requests when the server refuses it.

request ─► 401 ─┬─ the key has been renewed since it was sent ─► KeyRenewed: sent again with the new key
                ├─ the key is itself the renewal of a refused one ─► AccessDenied
                └─ else run the command, once ─┬─ another key ─► KeyRenewed
                                               └─ the same key ─► AccessDenied
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from processor.core.errors import AccessDenied, KeyCommandFailed, KeyRenewed
from processor.core.events import RequestListener, Transport
from processor.core.models import Job, Reply, Target
from processor.core.secrets import Secret
from processor.protocols import is_key_refusal


class KeyRenewal:
    """A ``Transport`` around another one, for use as an async context manager.

    ``target`` has the first key. ``fetch`` returns the key at present, or raises KeyCommandFailed: from then on every
    request fails with that. ``on_renewed`` is told the target before and after a new key.
    """

    def __init__(
        self,
        transport: Transport,
        target: Target,
        fetch: Callable[[], Awaitable[Secret]],
        *,
        ttl_s: float,
        on_renewed: Callable[[Target, Target], None] = lambda before, after: None,
    ) -> None:
        self._transport = transport
        self._first = target
        self._target = target
        self._fetch = fetch
        self._ttl_s = ttl_s
        self._on_renewed = on_renewed
        self._failure: KeyCommandFailed | None = None
        self._unproven: Target | None = None
        """The target with the key that replaced a refused one, until a request with it has succeeded."""
        self._renewal: asyncio.Task[None] | None = None
        """All that wait for a new key wait for the same run of the command."""
        self._timer: asyncio.Task[None] | None = None
        self._renewed_for: set[int] = set()
        """The positions of jobs whose last attempt ended in KeyRenewed."""

    async def __aenter__(self) -> Self:
        self._timer = asyncio.create_task(self._renew_when_old())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in (self._timer, self._renewal):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        """Raises RequestError."""
        if target is not self._first:
            return await self._transport(job, target, on_event)
        self._raise_failure()
        sent = self._target
        was_renewed_for = job.position in self._renewed_for
        self._renewed_for.discard(job.position)
        try:
            reply = await self._transport(job, sent, on_event)
        except AccessDenied as error:
            if was_renewed_for or not is_key_refusal(error) or not await self._is_replaced(sent):
                raise
            refusal = error
        else:
            if self._unproven is sent:
                self._unproven = None
            return reply
        self._renewed_for.add(job.position)
        raise KeyRenewed(
            f"{refusal}; the key command has printed another key",
            status=refusal.status,
            body=refusal.body,
            error_code=refusal.error_code,
            request_id=refusal.request_id,
        )

    async def _is_replaced(self, refused: Target) -> bool:
        """Whether there is another key than the one that the server has refused. Raises KeyCommandFailed."""
        if self._target is refused:
            if self._unproven is refused:
                return False
            await self._renew()
            if self._target is not refused:
                self._unproven = self._target
        return self._target is not refused

    async def _renew(self) -> None:
        self._raise_failure()
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._fetch_key())
        await asyncio.shield(self._renewal)
        self._raise_failure()

    async def _fetch_key(self) -> None:
        try:
            key = await self._fetch()
        except KeyCommandFailed as error:
            self._failure = error
            return
        finally:
            self._renewal = None
        if key != self._target.key:
            before, self._target = self._target, replace(self._target, key=key)
            self._on_renewed(before, self._target)

    async def _renew_when_old(self) -> None:
        with suppress(KeyCommandFailed):  # the next request fails with it
            while True:
                await asyncio.sleep(self._ttl_s)
                await self._renew()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise KeyCommandFailed(str(self._failure))
