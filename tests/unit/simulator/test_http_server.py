"""The HTTP face, read by a raw client: sockets for what goes wrong, aiohttp for what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import aiohttp
import orjson
import pytest

from processor.core.models import JSON
from processor.protocols import SseDecoder
from processor.simulator.faults import QUIRKS, Faults
from processor.simulator.http_server import SimulatorServer, serve
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import Outage, SimulatorSettings
from tests.support.protocol_jobs import CHAT, accumulator_for

FAST: dict[str, Any] = {"first_token_s": 0.0, "speed_tps": 2000.0, "write_batch_s": 0.01, "reply_tokens": (20, 60)}


def body(text: str = "Hello", **more: Any) -> JSON:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "stream": True, **more}


def served(settings: SimulatorSettings, use: Callable[[SimulatorServer], Awaitable[None]]) -> SimulatedProvider:
    provider = SimulatedProvider(settings)

    async def main() -> None:
        server = await serve(provider)
        try:
            async with asyncio.timeout(10):
                await use(server)
        finally:
            await server.close()

    asyncio.run(main())
    return provider


async def raw(server: SimulatorServer, request: JSON) -> tuple[bytes, bool]:
    """All bytes of the response, and whether the connection was reset."""
    port = int(server.base_url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = orjson.dumps(request)
    writer.write(b"POST %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" % CHAT.encode())
    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(sent), sent))
    read = b""
    try:
        while data := await reader.read(65536):
            read += data
    except ConnectionResetError:
        return read, True
    finally:
        writer.close()
    return read, False


@pytest.mark.parametrize("quirk", ["", *QUIRKS])
def test_a_client_reads_what_was_said_whatever_the_manner(quirk: str) -> None:
    settings = SimulatorSettings(faults=Faults({quirk: 1.0} if quirk else {}), track_identities=True, **FAST)

    async def use(server: SimulatorServer) -> None:
        async with aiohttp.ClientSession() as session:
            for number in range(3):
                request = body(str(number), n=2, stream_options={"include_usage": True})
                decoder, accumulator = SseDecoder(), accumulator_for(CHAT, request)
                async with session.post(f"{server.base_url}/chat/completions", json=request) as response:
                    assert response.content_type == "text/event-stream"
                    async for read in response.content.iter_any():
                        accumulator.feed(decoder.feed(read))
                expected = server.provider.expected_body(CHAT, request)
                assembled = accumulator.result()
                if quirk == "no_usage":
                    assembled["usage"] = expected["usage"]
                assert assembled == expected

    provider = served(settings, use)
    assert set(provider.billing.completed_by_identity.values()) == {1}


def test_a_request_that_is_not_streamed_gets_one_body() -> None:
    async def use(server: SimulatorServer) -> None:
        request = body(stream=False)
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{server.base_url}/chat/completions", json=request) as response:
                assert await response.json() == server.provider.expected_body(CHAT, request)
            async with session.get(f"{server.base_url}/models") as response:
                assert (await response.json())["object"] == "list"

    served(SimulatorSettings(**FAST), use)


def test_a_large_prompt_is_read() -> None:
    async def use(server: SimulatorServer) -> None:
        read, _ = await raw(server, body("x" * 3_000_000, stream=False))
        assert b'"prompt_tokens":750000' in read

    served(SimulatorSettings(**FAST), use)


@pytest.mark.parametrize(
    ("fault", "reset", "status"),
    [
        ("reset_before", True, b""),
        ("reset_mid", True, b"HTTP/1.1 200 OK"),
        ("cut", False, b"HTTP/1.1 200 OK"),
        ("in_band_error", False, b"HTTP/1.1 200 OK"),
        ("malformed_chunk", False, b"HTTP/1.1 200 OK"),
        ("burst_429", False, b"HTTP/1.1 429 Too Many Requests"),
        ("error_500", False, b"HTTP/1.1 50"),
    ],
)
def test_a_fault_shows_on_the_wire(fault: str, reset: bool, status: bytes) -> None:
    async def use(server: SimulatorServer) -> None:
        read, was_reset = await raw(server, body())
        assert was_reset == reset
        assert read.startswith(status)
        # A cut stream ends as a whole one does, for HTTP: with the last chunk, of no bytes.
        assert (read.endswith(b"0\r\n\r\n") or b"Content-Length" in read) == (not reset)
        assert (b'"finish_reason":"' in read) == (fault == "malformed_chunk")

    provider = served(SimulatorSettings(faults=Faults({fault: 1.0}), track_identities=True, **FAST), use)
    assert provider.billing.completed == 0


def test_a_stalled_stream_stays_open_and_silent_until_the_client_goes() -> None:
    async def use(server: SimulatorServer) -> None:
        before = len(asyncio.all_tasks())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await raw(server, body())
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == before

    served(SimulatorSettings(faults=Faults({"stall_mid": 1.0}), **FAST), use)


def test_closing_cuts_what_is_still_streaming() -> None:
    async def use(server: SimulatorServer) -> None:
        reading = asyncio.create_task(raw(server, body()))
        await asyncio.sleep(0.1)
        await server.close()
        read, _ = await reading
        assert b"[DONE]" not in read

    served(SimulatorSettings(first_token_s=0.0, speed_tps=20.0), use)


def test_a_client_that_goes_away_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def use(server: SimulatorServer) -> None:
        async with aiohttp.ClientSession() as session:
            for _ in range(5):
                response = await session.post(f"{server.base_url}/chat/completions", json=body())
                response.close()
        await asyncio.sleep(0.1)

    provider = served(SimulatorSettings(first_token_s=0.0, speed_tps=1000.0), use)
    assert provider.billing.completed == 0
    assert caplog.records == []


def test_the_response_starts_with_the_first_token_and_streams_in_time() -> None:
    async def use(server: SimulatorServer) -> None:
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession() as session:
            sent_at = loop.time()
            async with session.post(f"{server.base_url}/chat/completions", json=body(max_tokens=21)) as response:
                started_at = loop.time()
                assert response.headers["x-ratelimit-remaining-requests"] == "9"
                await response.read()
            assert 0.2 <= started_at - sent_at < 0.35
            assert 0.2 <= loop.time() - started_at < 0.35

    served(SimulatorSettings(rpm=10, first_token_s=0.2, first_token_jitter=0.0, speed_tps=100.0), use)


def test_the_clock_starts_with_the_server_and_an_outage_resets_connections() -> None:
    async def use(server: SimulatorServer) -> None:
        assert (await raw(server, body()))[1]
        await asyncio.sleep(0.2)
        assert not (await raw(server, body()))[1]

    served(SimulatorSettings(outages=(Outage(from_s=0.0, to_s=0.2, kind="refuse"),), **FAST), use)


def test_an_instant_reply_is_written_at_once() -> None:
    async def use(server: SimulatorServer) -> None:
        read, _ = await raw(server, body())
        assert read.count(b"\r\n\r\n") == 2  # Headers, and the last chunk: one chunk holds the whole stream.

    served(SimulatorSettings(first_token_s=0.0, speed_tps=inf), use)


def test_the_server_listens_on_loopback_only() -> None:
    with pytest.raises(ValueError, match="loopback addresses only"):
        asyncio.run(serve(SimulatedProvider(), host="0.0.0.0"))


def test_a_taken_port_is_an_error() -> None:
    async def use(server: SimulatorServer) -> None:
        with pytest.raises(OSError, match="address already in use"):
            await serve(SimulatedProvider(), port=int(server.base_url.split(":")[2].split("/")[0]))

    served(SimulatorSettings(), use)


def test_ipv6_loopback_is_served_too() -> None:
    async def main() -> None:
        server = await serve(SimulatedProvider(SimulatorSettings(**FAST)), host="::1")
        assert server.base_url.startswith("http://[::1]:")
        async with aiohttp.ClientSession() as session, session.get(f"{server.base_url}/models") as response:
            assert response.status == 200
        await server.close()

    asyncio.run(main())
