"""The provider's HTTP face: plays its answers on a loopback port."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from ipaddress import ip_address
from socket import SO_LINGER, SOL_SOCKET

from aiohttp import web

from processor.simulator.provider import SimulatedProvider
from processor.simulator.response_script import ScriptedResponse

_BACKLOG = 4096
_SHUTDOWN_S = 0.1
_LINGER_NOT = struct.pack("ii", 1, 0)


class SimulatorServer:
    """A running server. `base_url` ends in `/v1`."""

    def __init__(self, provider: SimulatedProvider, runner: web.ServerRunner, base_url: str) -> None:
        self.provider = provider
        self.base_url = base_url
        self._runner = runner

    async def close(self) -> None:
        """Stop listening, and cut what is still streaming."""
        await self._runner.cleanup()


async def serve(provider: SimulatedProvider, host: str = "127.0.0.1", port: int = 0) -> SimulatorServer:
    """`port` 0: any free one. The provider's clock is 0 now. Raises OSError where the port is taken, ValueError
    for a host that is no loopback address: this server asks nobody for a key."""
    if not ip_address(host).is_loopback:
        raise ValueError(f"the simulator listens on loopback addresses only, not on {host}")
    # A handler whose client has gone is cancelled: nobody is there to stream to.
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

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        # Not request.read(): it refuses bodies above 1 MiB.
        body = await request.content.read()
        at = self._loop.time() - self._started_at
        headers = {name.lower(): value for name, value in request.headers.items()}
        answer = self._provider.answer(request.method, request.path, headers, body, at)
        if answer.start_s:
            await asyncio.sleep(answer.start_s)
        if answer.status is None:
            _reset(request)
            return web.StreamResponse()
        if len(answer.steps) == 1 and answer.ending == "clean" and "json" in answer.headers["content-type"]:
            self._provider.delivered(answer)
            return web.Response(status=answer.status, headers=answer.headers, body=answer.steps[0].data)
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        # The client may go at any time; there is nothing to do about it.
        with suppress(ConnectionError):
            await self._stream(request, response, answer)
        return response

    async def _stream(self, request: web.BaseRequest, response: web.StreamResponse, answer: ScriptedResponse) -> None:
        await response.prepare(request)
        due = self._loop.time()
        for step in answer.steps:
            # By the schedule, not by the last write: what is late is caught up.
            due += step.delay_s
            wait_s = due - self._loop.time()
            if step.delay_s and wait_s > 0:
                await asyncio.sleep(wait_s)
            if step.data:
                await response.write(step.data)
        if answer.ending == "reset":
            _reset(request)
        elif answer.ending == "stall":
            await self._loop.create_future()
        else:
            await response.write_eof()
            self._provider.delivered(answer)


def _reset(request: web.BaseRequest) -> None:
    """End the connection with a TCP reset rather than an orderly close."""
    transport = request.transport
    if transport is None:
        return
    transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_NOT)
    transport.abort()
