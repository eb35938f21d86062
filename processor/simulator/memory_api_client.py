"""Calls the simulated provider's batch API in memory, with latency but without sockets, on the loop's clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from urllib.parse import urlencode

import orjson

from processor.core.api_calls import ApiCall, answer_in
from processor.core.errors import ConnectError, ConnectionLost
from processor.core.models import JSON
from processor.protocols import error_from_response
from processor.simulator.provider import SimulatedProvider

LATENCY_S = 0.05


class MemoryApiClient:
    """An ``ApiClient``. ``clock_offset_s``: the provider's time when the loop's time is 0."""

    def __init__(
        self,
        provider: SimulatedProvider,
        *,
        clock_offset_s: float = 0.0,
        root: str = "",
        clock_difference_s: float | None = 0.0,
    ) -> None:
        """``root``: stands before the API paths, as in a base URL. ``clock_difference_s``: see ``ApiClient``."""
        self.clock_difference_s = clock_difference_s
        self._provider = provider
        self._root = root
        self._clock_offset_s = clock_offset_s

    async def call(self, call: ApiCall) -> JSON:
        """See ``ApiClient``."""
        return answer_in(await self._body(call), call.path)

    async def download(self, path: str, headers: tuple[tuple[str, str], ...] = ()) -> AsyncGenerator[bytes, None]:
        """See ``ApiClient``."""
        body = await self._body(ApiCall(method="GET", path=path))
        half = len(body) // 2
        yield body[:half]
        yield body[half:]

    async def _body(self, call: ApiCall) -> bytes:
        headers, body = _encoded(call)
        if not self._provider.is_reachable(self._now()):
            await asyncio.sleep(LATENCY_S)
            raise ConnectError("the connection was refused")
        await asyncio.sleep(LATENCY_S)
        script = self._provider.handle(
            call.method, self._root + call.path, headers, body, self._now(), query=urlencode(call.query)
        )
        await asyncio.sleep(LATENCY_S)
        if script.status is None:
            raise ConnectionLost("the connection was reset before a response")
        answer = b"".join(step.data for step in script.steps)
        if script.status != 200:
            raise error_from_response(script.status, script.headers, answer)
        return answer

    def _now(self) -> float:
        return asyncio.get_running_loop().time() + self._clock_offset_s


def _encoded(call: ApiCall) -> tuple[dict[str, str], bytes]:
    """The headers and the body that HTTP would send."""
    if call.form is not None:
        content = call.form.file.read(0, call.form.file.size)
        return {"content-type": call.form.content_type}, call.form.head + content + call.form.tail
    if call.file is not None:
        return {"content-type": "application/json"}, call.file.read(0, call.file.size)
    return {"content-type": "application/json"}, b"" if call.json is None else orjson.dumps(call.json)
