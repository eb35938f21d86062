"""Requests whose head is made once are the requests that aiohttp sends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from aiohttp import StreamReader
from multidict import CIMultiDict
from yarl import URL

from processor.http.fast_connection import Connection
from processor.http.fast_connector import create_session
from processor.http.prepared_post import MAX_JOINED_BYTES, PreparedPost, can_be_prepared
from processor.http.request_payload import RequestPayload

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HEADERS = CIMultiDict({"Accept": "application/json", "User-Agent": "test", "X-Own": "a b"})


class HeadObserver:
    """Waits for the head of a response, and ignores the rest."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def observe(self, connection: Connection) -> None:
        connection.observer = self

    def on_headers(self, status: int, headers: Mapping[str, str], content: StreamReader) -> None:
        self.status.set_result(status)

    def on_no_response(self, error: Exception) -> None:
        self.status.set_exception(error)

    def on_data(self) -> None:
        """Ignored."""

    def on_failure(self, error: Exception) -> None:
        self.status.set_exception(error)


async def received(body: bytes, *, prepared: bool, force_close: bool) -> tuple[bytes, list[bytes], bytes]:
    """Send a request to a server on loopback. Return its request line, its header lines and its body."""
    requests: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        requests.put_nowait((head, await reader.readexactly(len(body))))
        writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat?a=%20b")
    async with (
        asyncio.timeout(10),
        server,
        create_session(ssl_context=True, connect_timeout_s=5, force_close=force_close, fast=prepared) as session,
    ):
        if prepared:
            head_observer = HeadObserver()
            await PreparedPost(session, url, HEADERS).send(body, head_observer.observe, lambda _: None)
            assert await head_observer.status == 200
        else:
            response = await session.post(url, data=RequestPayload(body, lambda _: None), headers=HEADERS)
            assert response.status == 200
            response.close()
        head, sent = await requests.get()
    first, *lines = head.replace(str(url.port).encode(), b"PORT").split(b"\r\n")
    return first, lines, sent


@pytest.mark.parametrize("force_close", [False, True])
@pytest.mark.parametrize("body", [b"{}", b"x" * (MAX_JOINED_BYTES + 1)], ids=["small", "large"])
def test_request_is_the_one_that_aiohttp_sends(body: bytes, force_close: bool) -> None:
    async def both() -> None:
        ours = await received(body, prepared=True, force_close=force_close)
        theirs = await received(body, prepared=False, force_close=force_close)
        assert ours[0] == theirs[0]
        assert sorted(ours[1]) == sorted(theirs[1])
        assert ours[2] == theirs[2] == body

    asyncio.run(both())


def test_failure_before_the_first_byte_is_reported_and_nothing_is_sent() -> None:
    async def run() -> None:
        connected = asyncio.Event()
        received: list[bytes] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.append(await reader.read())
            writer.close()
            connected.set()

        def fail(_: object) -> None:
            raise LookupError("of the listener")

        failures: list[Exception] = []
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        async with server, create_session(ssl_context=True, connect_timeout_s=5, force_close=False) as session:
            with pytest.raises(LookupError):
                await PreparedPost(session, url, HEADERS).send(b"{}", fail, failures.append)
            await connected.wait()
        assert [str(error) for error in failures] == ["of the listener"]
        assert received == [b""]

    asyncio.run(run())


def test_header_with_a_line_end_is_refused() -> None:
    async def run() -> None:
        async with create_session(ssl_context=True, connect_timeout_s=5, force_close=False) as session:
            with pytest.raises(ValueError, match="control character"):
                PreparedPost(session, URL("http://127.0.0.1/"), CIMultiDict({"X-Own": "a\r\nHost: b"}))

    asyncio.run(run())


def test_headers_that_describe_the_body_are_left_to_aiohttp() -> None:
    assert can_be_prepared(HEADERS)
    assert not can_be_prepared(CIMultiDict({"content-length": "3"}))
