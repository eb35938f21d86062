"""Redirects are followed to another path on the same server, and the key goes to no other server."""

from __future__ import annotations

import pytest

from processor.core.errors import Redirected
from tests.support.http_exchange import HELLO_WORLD, KEY, ServerConnection, ServerScript, exchange, response


def path_of(server: ServerConnection) -> str:
    return server.head.split(b" ")[1].decode()


def redirect_to(location: str, status: int = 307) -> bytes:
    return response(b"<html>moved</html>", f"{status} Moved", "text/html", f"Location: {location}")


def answer_at(path: str, answer: bytes) -> ServerScript:
    """Answers requests to ``path`` with a reply, and all others with ``answer``."""

    async def script(server: ServerConnection) -> None:
        await server.send(response(HELLO_WORLD) if path_of(server) == path else answer)

    return script


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    "location", ["/v1/chat/completions/", "completions/", "http://127.0.0.1:{port}/v1/chat/completions/"]
)
def test_redirect_to_another_path_is_followed_with_method_body_and_key(status: int, location: str) -> None:
    async def script(server: ServerConnection) -> None:
        if path_of(server) == "/v1/chat/completions/":
            await server.send(response(HELLO_WORLD))
        else:
            port = server.writer.get_extra_info("sockname")[1]
            await server.send(redirect_to(location.replace("{port}", str(port)), status))

    record = exchange(script, times=3)
    assert record.texts == ["Hello world"] * 3
    assert len(record.request_heads) == 4, "the new address is remembered"
    assert record.event_names().count("Sent") == 3
    assert len(set(record.request_bodies)) == 1
    assert all(head.startswith(b"POST ") and KEY.encode() in head for head in record.request_heads)


def test_temporary_redirect_with_another_query_is_not_remembered() -> None:
    record = exchange(answer_at("/v1/chat/completions?node=2", redirect_to("?node=2")), times=2)
    assert record.texts == ["Hello world"] * 2
    assert len(record.request_heads) == 4


@pytest.mark.parametrize(
    ("status", "location"),
    [
        *((status, "/v1/elsewhere") for status in (300, 301, 302, 303, 304)),
        (307, "https://127.0.0.1/v1/chat/completions"),
        (308, "http://elsewhere.example/v1"),
        (307, "//elsewhere.example/v1"),
        (307, "http://user:word@127.0.0.1:{port}/v1"),
        (307, "http://127.0.0.1:1/v1"),
        (307, "http://[broken/v1"),
        (307, "ftp:x"),
        (307, ""),
        (302, "https://login.example/?next=1"),
    ],
)
def test_any_other_redirect_is_an_error_that_names_its_location(status: int, location: str) -> None:
    async def script(server: ServerConnection) -> None:
        port = server.writer.get_extra_info("sockname")[1]
        await server.send(redirect_to(location.replace("{port}", str(port)), status))

    record = exchange(script)
    assert isinstance(record.error, Redirected)
    assert record.error.status == status
    assert len(record.request_heads) == 1
    assert f"HTTP {status}: redirected to" in str(record.error)


def test_redirects_without_an_end_are_bounded() -> None:
    record = exchange(answer_at("/never", redirect_to("/v1/again?and=again")))
    assert isinstance(record.error, Redirected)
    assert len(record.request_heads) == 6
