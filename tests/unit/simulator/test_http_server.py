"""The HTTP server, read with raw sockets where faults are tested, and with aiohttp elsewhere."""

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
from processor.simulator import http_server
from processor.simulator.faults import QUIRKS, Faults
from processor.simulator.http_server import SimulatorServer, serve
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import Outage, SimulatorSettings
from tests.support.protocol_jobs import CHAT, accumulator_for

FAST: dict[str, Any] = {"first_token_s": 0.0, "speed_tps": 2000.0, "write_batch_s": 0.01, "reply_tokens": (20, 60)}


def body(text: str = "Hello", **more: Any) -> JSON:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "stream": True, **more}


def run_with_server(
    settings: SimulatorSettings, use: Callable[[SimulatorServer], Awaitable[None]]
) -> SimulatedProvider:
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
    """Returns all bytes of the response, and whether the connection was reset."""
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
def test_client_assembles_the_expected_body_with_every_quirk(quirk: str) -> None:
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

    provider = run_with_server(settings, use)
    assert set(provider.billing.completed_by_identity.values()) == {1}


def test_non_streamed_request_gets_one_json_body() -> None:
    async def use(server: SimulatorServer) -> None:
        request = body(stream=False)
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{server.base_url}/chat/completions", json=request) as response:
                assert await response.json() == server.provider.expected_body(CHAT, request)
            async with session.get(f"{server.base_url}/models") as response:
                assert (await response.json())["object"] == "list"

    run_with_server(SimulatorSettings(**FAST), use)


def test_prompt_of_3_mb_is_accepted() -> None:
    async def use(server: SimulatorServer) -> None:
        read, _ = await raw(server, body("x" * 3_000_000, stream=False))
        assert b'"prompt_tokens":750000' in read

    run_with_server(SimulatorSettings(**FAST), use)


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
def test_fault_is_visible_in_the_bytes_on_the_wire(fault: str, reset: bool, status: bytes) -> None:
    async def use(server: SimulatorServer) -> None:
        read, was_reset = await raw(server, body())
        assert was_reset == reset
        assert read.startswith(status)
        # For HTTP a cut stream ends like a complete one, with the empty last chunk.
        assert (read.endswith(b"0\r\n\r\n") or b"Content-Length" in read) == (not reset)
        assert (b'"finish_reason":"' in read) == (fault == "malformed_chunk")

    provider = run_with_server(SimulatorSettings(faults=Faults({fault: 1.0}), track_identities=True, **FAST), use)
    assert provider.billing.completed == 0


def test_stalled_stream_stays_open_until_the_client_disconnects() -> None:
    async def use(server: SimulatorServer) -> None:
        before = len(asyncio.all_tasks())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await raw(server, body())
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == before

    run_with_server(SimulatorSettings(faults=Faults({"stall_mid": 1.0}), **FAST), use)


def test_closing_the_server_cuts_streams() -> None:
    async def use(server: SimulatorServer) -> None:
        reading = asyncio.create_task(raw(server, body()))
        await asyncio.sleep(0.1)
        await server.close()
        read, _ = await reading
        assert b"[DONE]" not in read

    run_with_server(SimulatorSettings(first_token_s=0.0, speed_tps=20.0), use)


def test_client_disconnect_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def use(server: SimulatorServer) -> None:
        async with aiohttp.ClientSession() as session:
            for _ in range(5):
                response = await session.post(f"{server.base_url}/chat/completions", json=body())
                response.close()
        await asyncio.sleep(0.1)

    provider = run_with_server(SimulatorSettings(first_token_s=0.0, speed_tps=1000.0), use)
    assert provider.billing.completed == 0
    assert caplog.records == []


def test_response_starts_with_the_first_token_and_streams_at_the_set_speed() -> None:
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

    run_with_server(SimulatorSettings(rpm=10, first_token_s=0.2, first_token_jitter=0.0, speed_tps=100.0), use)


def test_clock_starts_with_the_server_and_outage_resets_connections() -> None:
    async def use(server: SimulatorServer) -> None:
        assert (await raw(server, body()))[1]
        await asyncio.sleep(0.2)
        assert not (await raw(server, body()))[1]

    run_with_server(SimulatorSettings(outages=(Outage(from_s=0.0, to_s=0.2, kind="refuse"),), **FAST), use)


def test_instant_reply_is_one_write() -> None:
    async def use(server: SimulatorServer) -> None:
        read, _ = await raw(server, body())
        assert read.count(b"\r\n\r\n") == 2  # Headers, and the last chunk: one chunk holds the whole stream.

    run_with_server(SimulatorSettings(first_token_s=0.0, speed_tps=inf), use)


def test_server_refuses_other_hosts_than_loopback() -> None:
    with pytest.raises(ValueError, match="loopback addresses only"):
        asyncio.run(serve(SimulatedProvider(), host="0.0.0.0"))


def test_taken_port_raises_os_error() -> None:
    async def use(server: SimulatorServer) -> None:
        with pytest.raises(OSError, match="address already in use"):
            await serve(SimulatedProvider(), port=int(server.base_url.split(":")[2].split("/")[0]))

    run_with_server(SimulatorSettings(), use)


def test_server_listens_on_ipv6_loopback() -> None:
    async def main() -> None:
        server = await serve(SimulatedProvider(SimulatorSettings(**FAST)), host="::1")
        assert server.base_url.startswith("http://[::1]:")
        async with aiohttp.ClientSession() as session, session.get(f"{server.base_url}/models") as response:
            assert response.status == 200
        await server.close()

    asyncio.run(main())


@pytest.mark.parametrize("bound", ["MAX_BODY_BYTES", "MAX_HELD_BYTES"])
def test_body_above_the_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(http_server, bound, 2000)

    async def use(server: SimulatorServer) -> None:
        async with aiohttp.ClientSession() as session:
            for size, status in ((1000, 200), (5000, 413), (1000, 200)):
                answer = await session.post(f"{server.base_url}/chat/completions", json=body("x" * size))
                assert answer.status == status
                answer.close()

    run_with_server(SimulatorSettings(**FAST), use)
