"""Serves the simulated provider over HTTP on a loopback port."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from ipaddress import ip_address
from socket import SO_LINGER, SOL_SOCKET

from aiohttp import web

from processor.simulator.provider import SimulatedProvider
from processor.simulator.response_script import ScriptedResponse

MAX_BODY_BYTES = 256 * 2**20
"""Of one request. Together with the bounds on choices and prompts it bounds what one client makes the server hold."""
MAX_HELD_BYTES = 512 * 2**20
"""Of all bodies that have not come completely."""

_BACKLOG = 4096
_SHUTDOWN_S = 0.1
_LINGER_ZERO = struct.pack("ii", 1, 0)


class SimulatorServer:
    """A running server. `base_url` ends in `/v1`."""

    def __init__(self, provider: SimulatedProvider, runner: web.ServerRunner, base_url: str) -> None:
        self.provider = provider
        self.base_url = base_url
        self._runner = runner

    async def close(self) -> None:
        """Stop listening, and close the connections of replies that are still streaming."""
        await self._runner.cleanup()


async def serve(provider: SimulatedProvider, host: str = "127.0.0.1", port: int = 0) -> SimulatorServer:
    """Start a server. The provider's clock starts at 0 now; `port` 0 picks a free port.

    Raises OSError if the port is taken, and ValueError for a host that is not a loopback address: this server does not
    authenticate its clients.
    """
    if not ip_address(host).is_loopback:
        raise ValueError(f"the simulator listens on loopback addresses only, not on {host}")
    # The handler of a client that has disconnected is cancelled.
    server = web.Server(_Handler(provider), handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
    except OSError:
        await runner.cleanup()
        raise
    bound = runner.addresses[0][1]
    return SimulatorServer(provider, runner, f"http://{f'[{host}]' if ':' in host else host}:{bound}/v1")


class _Handler:
    def __init__(self, provider: SimulatedProvider) -> None:
        self._provider = provider
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._held_bytes = 0
        """Of bodies that have not come completely."""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._read_body(request)
        at = self._loop.time() - self._started_at
        headers = {name.lower(): value for name, value in request.headers.items()}
        script = self._provider.handle(request.method, request.path, headers, body, at, query=request.query_string)
        if script.start_delay_s:
            await asyncio.sleep(script.start_delay_s)
        if script.status is None:
            _reset(request)
            return web.StreamResponse()
        if len(script.steps) == 1 and script.ending == "clean" and _is_whole(script.headers["content-type"]):
            self._provider.record_delivered(script)
            return web.Response(status=script.status, headers=script.headers, body=script.steps[0].data)
        response = web.StreamResponse(status=script.status, headers=script.headers)
        # The client may disconnect at any time.
        with suppress(ConnectionError):
            await self._stream(request, response, script)
        return response

    async def _read_body(self, request: web.BaseRequest) -> bytes:
        """Raises HTTPRequestEntityTooLarge above the bounds. aiohttp's own ``read`` refuses bodies above 1 MiB."""
        body = bytearray()
        try:
            async for chunk in request.content.iter_any():
                body += chunk
                self._held_bytes += len(chunk)
                if len(body) > MAX_BODY_BYTES or self._held_bytes > MAX_HELD_BYTES:
                    raise web.HTTPRequestEntityTooLarge(max_size=MAX_BODY_BYTES, actual_size=len(body))
            return bytes(body)
        finally:
            self._held_bytes -= len(body)

    async def _stream(self, request: web.BaseRequest, response: web.StreamResponse, script: ScriptedResponse) -> None:
        await response.prepare(request)
        due = self._loop.time()
        for step in script.steps:
            # Times count from the start, not from the last write, so that a late write delays no further ones.
            due += step.delay_s
            wait_s = due - self._loop.time()
            if step.delay_s and wait_s > 0:
                await asyncio.sleep(wait_s)
            if step.data:
                await response.write(step.data)
        if script.ending == "reset":
            _reset(request)
        elif script.ending == "stall":
            await self._loop.create_future()
        else:
            await response.write_eof()
            self._provider.record_delivered(script)


def _is_whole(content_type: str) -> bool:
    return "json" in content_type or "octet-stream" in content_type


def _reset(request: web.BaseRequest) -> None:
    """Close the connection with a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_ZERO)
    transport.abort()
