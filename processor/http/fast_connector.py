"""Sessions and connectors whose connections are those of ``fast_connection``, or aiohttp's own.

What depends on private parts of aiohttp stands in these two files; ``self_check`` compares the two kinds.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from aiohttp import ClientRequest, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey

from processor.http.fast_connection import HEADER_LIMITS, Connection, FailureListener
from processor.http.idle_connections import IdleConnections


def create_session(
    *,
    ssl_context: ssl.SSLContext | bool,
    connect_timeout_s: float,
    force_close: bool,
    fast: bool = True,
    on_failure: FailureListener | None = None,
) -> ClientSession:
    """A session for any number of connections. ``force_close``: each one is closed after its reply. ``fast``: of the
    classes below, not of aiohttp's own. ``ssl_context`` True: the system's certificates."""
    connector = partial(FastConnector, on_failure=on_failure) if fast else TCPConnector
    return ClientSession(
        # The rate limiter bounds the number of connections.
        connector=connector(limit=0, limit_per_host=0, ssl=ssl_context, force_close=force_close),
        # All other timeouts are those of ``Deadlines``.
        timeout=ClientTimeout(total=None, connect=connect_timeout_s),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,  # see ``content_coding``
        **HEADER_LIMITS,
    )


def is_fast(session: ClientSession) -> bool:
    """Whether the connections of the session are ``Connection``."""
    return isinstance(session.connector, FastConnector)


class FastConnector(TCPConnector):
    """Makes each connection a ``Connection``. ``on_failure`` is called with an error in a callback of a connection that
    no request observes."""

    def __init__(self, *, on_failure: FailureListener | None = None, **options: Any) -> None:
        super().__init__(**options)
        made: Any = Connection
        self._factory = partial(made, self._loop, on_failure)
        self._idle: dict[ConnectionKey, IdleConnections] = {}

    def idle_connections(self, request: ClientRequest) -> IdleConnections | None:
        """Those that can be used for this request; None where none is used twice. Only its user puts any there."""
        if self.force_close:
            return None
        return self._idle.setdefault(request.connection_key, IdleConnections(self._loop))

    def close(self, **options: Any) -> Coroutine[Any, Any, None]:
        closed = super().close(**options)
        for idle in self._idle.values():
            idle.close()
        return closed


def use_transports(session: ClientSession, open_transport: Callable[[ResponseHandler], asyncio.Transport]) -> None:
    """Let the connections of this session use these transports, without a network. For the self-check."""
    connector = session.connector
    assert connector is not None

    async def create_connection(*_: object) -> ResponseHandler:
        protocol = connector._factory()
        protocol.connection_made(open_transport(protocol))
        return protocol

    connector._create_connection = create_connection  # type: ignore[method-assign, assignment]
