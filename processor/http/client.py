"""The transport over HTTP."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import ClientSession

from processor.core.errors import ConfigError, ConnectError, ConnectionLost, RequestError, internal_error, reason
from processor.core.events import RequestListener
from processor.core.models import Job, Reply, Target
from processor.http import self_check
from processor.http.connection_state import Route, request_headers, target_for
from processor.http.error_mapping import tls_expected_error
from processor.http.event_stream import flush_threshold
from processor.http.fast_connector import create_session
from processor.http.request import HttpRequest
from processor.http.settings import TransportSettings
from processor.http.timeouts import MAX_LATENESS_S
from processor.http.tls_check import speaks_tls
from processor.http.transport_context import TransportContext


class HttpTransport:
    """A ``Transport`` (see `processor.core.events`), for use as an async context manager.

    ``wall_clock`` returns Unix seconds, for a `Retry-After` date from a server that sends no `Date`. ``on_notice``
    takes a message for the user.
    """

    def __init__(
        self,
        settings: TransportSettings | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
        on_notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._settings = settings or TransportSettings()
        self._wall_clock = wall_clock
        self._on_notice = on_notice
        self._failure: Exception | None = None
        """An error of this program in a callback of a connection that no request observed."""
        self._routes: dict[tuple[Target, str], Route] = {}
        self._last_route: tuple[Target, str, Route] | None = None
        self._in_flight = 0
        self._exit_stack = AsyncExitStack()
        self._context: TransportContext
        self._keepalive_session: ClientSession
        self._one_shot_session: ClientSession
        """Closes each connection after its reply."""

    async def __aenter__(self) -> Self:
        """Raises ConfigError where the CA file cannot be used."""
        context = ssl_context(self._settings.ca_file)
        if (difference := await self_check.difference()) is not None:
            self._on_notice(
                f"aiohttp {aiohttp.__version__} is not the version that the fast connections are made for "
                f"({difference}): its own are used, which cost more CPU time"
            )
        self._fast = difference is None
        self._context = TransportContext(self._settings, self._wall_clock)
        self._exit_stack.callback(self._context.close)
        self._keepalive_session = await self._open_session(context, force_close=False)
        self._one_shot_session = await self._open_session(context, force_close=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._exit_stack.aclose()

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        """Raises RequestError; ConfigError where nothing could ever be sent to this target; InternalError."""
        self._raise_failure()
        route = self._route(target_for(target, job.model), job.path)
        request = HttpRequest(job, route, on_event, self._context, flush_threshold=flush_threshold(self._in_flight))
        self._in_flight += 1
        began_at = self._context.loop.time()
        try:
            reply = await request.reply(
                self._keepalive_session if route.keep_alive.allows() else self._one_shot_session
            )
        except RequestError as error:
            self._raise_failure()
            if isinstance(error, ConnectError) and self._did_not_run(began_at):
                return await self(job, target, on_event)  # nothing was sent
            error.request_id = error.request_id or request.request_id
            if isinstance(error, ConnectionLost) and error.reused:
                route.keep_alive.failure()
            if isinstance(error, ConnectionLost) and await _expects_tls(route):
                raise tls_expected_error(route.host_port) from None
            raise
        finally:
            self._in_flight -= 1
        route.tls_unchecked = False
        if request.reused:
            route.keep_alive.success()
        return reply

    def _did_not_run(self, since: float) -> bool:
        """Whether the process was stopped while it made a connection: the timeout for that came too late."""
        connect_timeout_s = self._settings.timeouts.connect_timeout_s
        return self._context.loop.time() - since > connect_timeout_s + MAX_LATENESS_S

    def prepare(self, target: Target, path: str) -> None:
        """Raises ConfigError where nothing could ever be sent to this target: the run then ends before it begins."""
        self._route(target, path)

    def replace_key(self, before: Target, after: Target) -> None:
        """Later requests are sent with the key of ``after``. What is known of the server is kept."""
        for target, path in list(self._routes):
            if replace(target, base_url=before.base_url) == before:  # the model may stand in its address
                renewed = replace(target, key=after.key)
                route = self._routes[renewed, path] = self._routes.pop((target, path))
                route.headers = request_headers(renewed, path)
        self._last_route = None

    async def _open_session(self, ssl_context: ssl.SSLContext | bool, *, force_close: bool) -> ClientSession:
        session = create_session(
            ssl_context=ssl_context,
            connect_timeout_s=self._settings.timeouts.connect_timeout_s,
            force_close=force_close,
            fast=self._fast,
            on_failure=self._on_failure,
        )
        return await self._exit_stack.enter_async_context(session)

    def _on_failure(self, error: Exception) -> None:
        self._failure = self._failure or error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise internal_error(self._failure, "a callback of an idle connection")

    def _route(self, target: Target, path: str) -> Route:
        # Nearly all requests go where the last one went. To hash a target with all its fields takes much longer.
        if (last := self._last_route) is not None and last[0] is target and last[1] == path:
            return last[2]
        route = self._routes.get((target, path))
        if route is None:
            route = self._routes[target, path] = Route(
                target, path, trust_env=self._settings.trust_env, stream=self._settings.stream
            )
        self._last_route = target, path, route
        return route


async def _expects_tls(route: Route) -> bool:
    """Whether a server that has never answered closes plain connections because it expects TLS. Looked up once."""
    is_unchecked, route.tls_unchecked = route.tls_unchecked, False
    return is_unchecked and await speaks_tls(route.url.host or "", route.url.port or 80)


def ssl_context(ca_file: str | None) -> ssl.SSLContext | bool:
    """The certificates to trust; True: the system's. Raises ConfigError."""
    if ca_file is None:
        return True
    try:
        context = ssl.create_default_context()
        context.load_verify_locations(ca_file)
    except OSError as error:
        raise ConfigError(f"the CA file {ca_file} cannot be used: {reason(error)}") from None
    return context
