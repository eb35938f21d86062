"""Calls a provider's API over HTTP, beside the requests of jobs. See ``core.api_calls``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
)
from yarl import URL

from processor.core.api_calls import READ_BYTES, ApiCall, FileBody, answer_in
from processor.core.errors import ReplyTooLarge, RequestError, Timeout
from processor.core.json_bytes import dumps
from processor.core.models import JSON, Target
from processor.http.client import ssl_context
from processor.http.connection_state import request_headers, request_url
from processor.http.error_mapping import error_before_response, error_in_response
from processor.http.proxies import proxy_for
from processor.http.settings import TransportSettings
from processor.protocols import error_from_response

MAX_ANSWER_BYTES = 64 * 2**20
"""Of a response that is no download."""
_ERROR_BYTES = 1 << 20


class HttpApiClient:
    """An ``ApiClient``, for use as an async context manager. Redirects are not followed."""

    def __init__(self, settings: TransportSettings, target: Target) -> None:
        self._settings = settings
        self._target = target
        self._exit_stack = AsyncExitStack()
        self._session: ClientSession
        self._clock_difference_s: float | None = None

    @property
    def clock_difference_s(self) -> float | None:
        """See ``ApiClient``."""
        return self._clock_difference_s

    async def __aenter__(self) -> Self:
        """Raises ConfigError where the CA file cannot be used."""
        timeouts = self._settings.timeouts
        session = ClientSession(
            connector=TCPConnector(ssl=ssl_context(self._settings.ca_file)),
            timeout=ClientTimeout(
                total=timeouts.request_timeout_s,
                connect=timeouts.connect_timeout_s,
                sock_read=timeouts.first_byte_timeout_s,
            ),
            cookie_jar=DummyCookieJar(),
        )
        self._session = await self._exit_stack.enter_async_context(session)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._exit_stack.aclose()

    async def call(self, call: ApiCall) -> JSON:
        """See ``ApiClient``."""
        async with self._sent(call) as response:
            body = await _read(response, MAX_ANSWER_BYTES)
        return answer_in(body, call.path)

    async def download(self, path: str, headers: tuple[tuple[str, str], ...] = ()) -> AsyncGenerator[bytes, None]:
        """See ``ApiClient``."""
        async with self._sent(ApiCall(method="GET", path=path, headers=headers)) as response:
            async for piece in response.content.iter_chunked(READ_BYTES):
                yield piece

    @asynccontextmanager
    async def _sent(self, call: ApiCall) -> AsyncIterator[ClientResponse]:
        """Yield the response to a call. Raises the error that a response without success stands for."""
        url = URL(_url(self._target, call), encoded=True)
        host_port = f"{url.host}:{url.port}"
        response: ClientResponse | None = None
        failure: RequestError
        try:
            response = await self._send(call, url)
            self._compare_clocks(response.headers.get("Date"))
            if not 200 <= response.status < 300:
                names = {name.lower(): value for name, value in response.headers.items()}
                raise error_from_response(response.status, names, await _read(response, _ERROR_BYTES, cut=True))
            yield response
            return
        except (ClientError, OSError) as error:
            failure = self._failure(error, call, response, host_port)
        finally:
            if response is not None:
                response.close()
        raise failure  # outside of the block: its context would be aiohttp's error, which holds the key

    def _compare_clocks(self, date: str | None) -> None:
        """Take in the time at which the provider has responded."""
        with suppress(ValueError, TypeError):  # what it raises for other types and texts
            self._clock_difference_s = parsedate_to_datetime(date or "").timestamp() - time.time()

    def _failure(
        self, error: Exception, call: ApiCall, response: ClientResponse | None, host_port: str
    ) -> RequestError:
        connect_timeout_s = self._settings.timeouts.connect_timeout_s
        if response is not None:
            return error_in_response(error, host_port)
        if isinstance(error, TimeoutError) and not isinstance(error, ConnectionTimeoutError):
            return Timeout(f"no response to {call.method} {call.path} in time")
        return error_before_response(error, host_port, reused=False, connect_timeout_s=connect_timeout_s)

    async def _send(self, call: ApiCall, url: URL) -> ClientResponse:
        headers = request_headers(self._target, call.path)
        headers["Accept"] = "*/*"
        for name, value in call.headers:
            headers.setdefault(name, value)
        headers.pop("Accept-Encoding", None)  # aiohttp names the codings that it decodes
        data: bytes | AsyncGenerator[bytes, None] | None = None
        if call.form is not None:
            form = call.form
            headers["Content-Type"] = form.content_type
            headers["Content-Length"] = str(len(form.head) + form.file.size + len(form.tail))
            data = _pieces(form.file, form.head, form.tail)
        elif call.file is not None:
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(call.file.size)
            data = _pieces(call.file)
        elif call.json is not None:
            headers["Content-Type"] = "application/json"
            data = dumps(call.json)
        proxy = proxy_for(str(url)) if self._settings.trust_env else None
        return await self._session.request(
            call.method, url, data=data, headers=headers, proxy=proxy, allow_redirects=False
        )


def _url(target: Target, call: ApiCall) -> str:
    url = request_url(target, call.path)
    if not call.query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(call.query)}"


async def _pieces(file: FileBody, head: bytes = b"", tail: bytes = b"") -> AsyncGenerator[bytes, None]:
    if head:
        yield head
    at = 0
    while at < file.size and (piece := await asyncio.to_thread(file.read, at, READ_BYTES)):
        at += len(piece)
        yield piece
    if tail:
        yield tail


async def _read(response: ClientResponse, max_bytes: int, *, cut: bool = False) -> bytes:
    """Read a body. Raises ReplyTooLarge above the bound, unless the rest is to be cut off."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > max_bytes:
            if cut:
                break
            raise ReplyTooLarge(f"a response has more than {max_bytes} bytes")
    return bytes(body)
