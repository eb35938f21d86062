"""The client of batch APIs over HTTP: what it makes of answers, and where the key goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from time import time

import pytest
from aiohttp import web

from processor.core.api_calls import ApiCall
from processor.core.errors import ProtocolError, RequestError
from processor.core.models import Target
from processor.core.secrets import Secret
from processor.http.api_client import HttpApiClient
from processor.http.settings import TransportSettings

LIST = ApiCall(method="GET", path="/v1/batches")
KEY = "a-key-of-these-tests"


@dataclass
class Answering:
    """A server on a loopback port that answers each request alike."""

    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    keys: list[str | None] = field(default_factory=list)
    """That came with the requests."""
    base_url: str = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.keys.append(request.headers.get("Authorization"))
        return web.Response(body=self.body.encode(), headers=self.headers, status=self.status)


def run(server: Answering, use: Callable[[HttpApiClient], Awaitable[None]], *others: Answering) -> None:
    async def main() -> None:
        runners = []
        for one in (*others, server):
            runner = web.ServerRunner(web.Server(one.answer))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            one.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            runners.append(runner)
        target = Target(base_url=server.base_url, key=Secret(KEY))
        async with HttpApiClient(TransportSettings(), target) as client:
            await use(client)
        for runner in runners:
            await runner.cleanup()

    asyncio.run(main())


@pytest.mark.parametrize(("body", "answer"), [('{"a": 1}', {"a": 1}), ('[{"id": "b"}]', {"data": [{"id": "b"}]})])
def test_object_and_list_are_answers(body: str, answer: object) -> None:
    async def use(client: HttpApiClient) -> None:
        assert await client.call(LIST) == answer

    run(Answering(body), use)


@pytest.mark.parametrize("body", ["", "1", "no json", "null"])
def test_anything_else_is_none(body: str) -> None:
    async def use(client: HttpApiClient) -> None:
        with pytest.raises(ProtocolError, match="/v1/batches answered with no JSON object"):
            await client.call(LIST)

    run(Answering(body), use)


@pytest.mark.parametrize("difference_s", [-86_400.0, 0.0, 5000.0])
def test_provider_s_clock_is_learned(difference_s: float) -> None:
    async def use(client: HttpApiClient) -> None:
        assert client.clock_difference_s is None
        await client.call(LIST)
        assert client.clock_difference_s == pytest.approx(difference_s, abs=10)

    run(Answering(headers={"Date": formatdate(time() + difference_s, usegmt=True)}), use)


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 25:61:61 GMT"])
def test_date_that_is_none_tells_no_time(date: str) -> None:
    async def use(client: HttpApiClient) -> None:
        await client.call(LIST)
        assert client.clock_difference_s is None

    run(Answering(headers={"Date": date}), use)


def test_key_does_not_follow_a_redirect() -> None:
    other = Answering()
    server = Answering(status=302)

    async def use(client: HttpApiClient) -> None:
        server.headers["Location"] = f"{other.base_url}/files"
        with suppress(RequestError):
            await client.call(LIST)
        with suppress(RequestError):
            async for _ in client.download("/v1/files/f/content"):
                pass

    run(server, use, other)
    assert (len(server.keys), other.keys) == (2, [])
