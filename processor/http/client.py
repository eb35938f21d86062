"""The real thing behind the seam: requests over HTTP."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar

from processor.core.errors import ConfigError, ConnectionLost, RequestError
from processor.core.events import RequestListener
from processor.core.models import Job, Reply, Target
from processor.http.connection_state import Route
from processor.http.error_mapping import without_key
from processor.http.fast_connector import Connector
from processor.http.read_batching import ReadBatching
from processor.http.request import HttpRequest
from processor.http.response_body import bulk_bytes
from processor.http.settings import TransportSettings


class HttpTransport:
    """A Stream (see `processor.core.events`), for use as an async context manager.

    ``wall``: Unix seconds, for a `Retry-After` date from a server that does not tell its own time.
    """

    def __init__(self, settings: TransportSettings | None = None, *, wall: Callable[[], float] = time.time) -> None:
        self._settings = settings or TransportSettings()
        self._wall = wall
        self._routes: dict[tuple[Target, str], Route] = {}
        self._under_way = 0
        self._sessions = AsyncExitStack()
        self._pauses: ReadBatching
        self._pooled: ClientSession
        self._fresh: ClientSession
        """Closes each connection behind its reply."""

    async def __aenter__(self) -> Self:
        """Raises ConfigError where the CA file is of no use."""
        trust = _trust(self._settings.ca_file)
        self._pauses = ReadBatching()
        self._sessions.callback(self._pauses.close)
        self._pooled = await self._sessions.enter_async_context(self._open_session(trust, force_close=False))
        self._fresh = await self._sessions.enter_async_context(self._open_session(trust, force_close=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._sessions.aclose()

    async def __call__(self, job: Job, target: Target, tell: RequestListener) -> Reply:
        """Raises RequestError; ConfigError where nothing can ever be sent to this target."""
        route = self._route(target, job.path)
        exchange = HttpRequest(
            job,
            route,
            tell,
            self._settings,
            pauses=self._pauses,
            bulk_bytes=bulk_bytes(self._under_way),
            wall=self._wall,
        )
        self._under_way += 1
        try:
            reply = await exchange.reply(self._pooled if route.reuse.allowed() else self._fresh)
        except RequestError as error:
            error.request_id = error.request_id or exchange.request_id
            if isinstance(error, ConnectionLost) and error.reused:
                route.reuse.lost()
            if route.key:
                without_key(error, route.key)
            raise
        finally:
            self._under_way -= 1
        if exchange.reused:
            route.reuse.served()
        return reply

    def _open_session(self, trust: ssl.SSLContext | bool, *, force_close: bool) -> ClientSession:
        return ClientSession(
            # How many connections there may be is the gate's business.
            connector=Connector(limit=0, limit_per_host=0, ssl=trust, force_close=force_close),
            # All other timeouts are in `patience`.
            timeout=ClientTimeout(total=None, connect=self._settings.timeouts.connect_timeout_s),
            cookie_jar=DummyCookieJar(),
        )

    def _route(self, target: Target, path: str) -> Route:
        route = self._routes.get((target, path))
        if route is None:
            route = self._routes[target, path] = Route(target, path, trust_env=self._settings.trust_env)
        return route


def _trust(ca_file: str | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(f"the CA file {ca_file} cannot be used: {error.strerror or error}") from None
