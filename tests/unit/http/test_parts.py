"""The parts of the transport that need no server: addresses, proxies, waiting, intakes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import (
    ConfigError,
    ProtocolError,
    ReplyTooLarge,
    StatusError,
    StreamStalled,
    Timeout,
    TransportError,
)
from processor.core.models import Target, Timeouts
from processor.http.body import OutgoingBody
from processor.http.connection_state import Route
from processor.http.proxies import proxy_for
from processor.http.response_body import BULK_BYTES, MAX_ERROR_BYTES, ErrorParser, JsonParser, SseParser, page_error
from processor.http.reuse import KeepAliveBreaker
from processor.http.timeouts import Deadlines
from processor.http.urls import request_url
from processor.protocols import Accumulator, protocol_for
from processor.simulator.virtual_clock import run
from tests.support.protocol_jobs import CHAT, accumulator_for


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://api.openai.com/v1", CHAT, "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/", CHAT, "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com", CHAT, "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/", CHAT, "https://api.openai.com/v1/chat/completions"),
        ("https://host/api/v1", CHAT, "https://host/api/v1/chat/completions"),
        ("https://host/openai/v1//", CHAT, "https://host/openai/v1/chat/completions"),
        ("https://host/v1beta/openai", CHAT, "https://host/v1beta/openai/chat/completions"),
        ("http://127.0.0.1:8080/v1", "/v1/completions", "http://127.0.0.1:8080/v1/completions"),
        ("http://[::1]:8080", "v1/completions", "http://[::1]:8080/v1/completions"),
        ("https://host/v1", "/chat/completions", "https://host/v1/chat/completions"),
        ("https://host/v1/chat/completions", CHAT, "https://host/v1/chat/completions"),
        ("https://host/v1?a=1&b=", CHAT, "https://host/v1/chat/completions?a=1&b="),
    ],
)
def test_the_address_is_the_obvious_one(base: str, path: str, url: str) -> None:
    assert request_url(Target(base_url=base), path) == url


def test_azure_deployments_have_their_version_in_the_query() -> None:
    base = "https://name.openai.azure.com/openai/deployments/gpt-4o"
    target = Target(base_url=base, query=(("api-version", "2024-10-21"), ("x", "a b&c")))
    assert request_url(target, CHAT) == f"{base}/chat/completions?api-version=2024-10-21&x=a+b%26c"


# ---------------------------------------------------------------- proxies


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://host/v1", {}, None),
        ("https://host/v1", {"https_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://host/v1", {"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ("https://host/v1", {"http_proxy": "http://proxy:3128"}, None),
        ("https://host/v1", {"all_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://host/v1", {"https_proxy": "http://proxy:3128", "no_proxy": "host"}, None),
        ("https://a.host:8443/v1", {"https_proxy": "http://proxy:3128", "no_proxy": ".host"}, None),
        ("https://host:8443/v1", {"https_proxy": "http://proxy:3128", "no_proxy": "host:8443"}, None),
        ("http://127.0.0.1:80/v1", {"http_proxy": "http://proxy:3128"}, None),
        ("http://[::1]/v1", {"http_proxy": "http://proxy:3128"}, None),
        ("http://localhost/v1", {"http_proxy": "http://proxy:3128"}, None),
    ],
)
def test_the_environment_names_the_proxy(
    url: str, environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


def test_a_proxy_of_another_kind_is_a_matter_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://user:pass@proxy:1080")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ConfigError) as raised:
        proxy_for("https://host/v1")
    assert "socks5" in str(raised.value)
    assert "pass" not in str(raised.value)
    Route(Target(base_url="https://host/v1"), CHAT, trust_env=False)


def test_only_openai_itself_is_asked_to_leave_out_the_padding() -> None:
    def disables_obfuscation(base_url: str) -> bool:
        return Route(Target(base_url=base_url), CHAT, trust_env=False).request_options["m"].disable_obfuscation

    assert disables_obfuscation("https://api.openai.com/v1")
    assert not disables_obfuscation("https://api.openai.com.example/v1")


def test_the_user_agent_is_our_own_with_its_version_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise PackageNotFoundError

    def agent() -> str:
        return Route(Target(base_url="https://host/v1"), CHAT, trust_env=False).headers["User-Agent"]

    monkeypatch.setattr("processor.http.connection_state.version", lambda _: "1.2.3")
    assert agent() == "processor/1.2.3"
    monkeypatch.setattr("processor.http.connection_state.version", missing)
    assert agent() == "processor"


# ---------------------------------------------------------------- connections


def test_after_a_loss_the_next_requests_get_connections_of_their_own() -> None:
    reuse = KeepAliveBreaker()
    assert reuse.allowed()
    for span in (16, 32, 64, 128):
        reuse.lost()
        reuse.lost()  # at the same time
        assert [reuse.allowed() for _ in range(span + 1)] == [False] * span + [True]


def test_a_server_that_keeps_its_connections_is_trusted_again() -> None:
    reuse = KeepAliveBreaker()
    for _ in range(3):
        reuse.lost()
        while not reuse.allowed():
            pass
    for _ in range(50):
        reuse.served()
    reuse.lost()
    assert [reuse.allowed() for _ in range(17)] == [False] * 16 + [True]


# ---------------------------------------------------------------- waiting

TIMEOUTS = Timeouts(first_byte_timeout_s=600, stall_timeout_s=120, request_timeout_s=3600)


async def waited(*heard_after_s: float, within: float | None = None) -> tuple[float, TransportError]:
    """How long a request is waited for when bytes come after these pauses, and then no more; and why it ended."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    over = asyncio.Event()
    patience = Deadlines(TIMEOUTS, loop, over.set)

    async def hear() -> None:
        for pause_s in heard_after_s:
            await asyncio.sleep(pause_s)
            patience.on_bytes()
        if within is not None:
            patience.cap(within)

    patience.start(began)
    hearing = asyncio.create_task(hear())
    await over.wait()
    hearing.cancel()
    assert patience.expired
    return loop.time() - began, patience.error()


@pytest.mark.parametrize(
    ("heard_after_s", "within", "ends_s", "why", "said"),
    [
        ((), None, 600, Timeout, "no first byte within 600 s"),
        ((10,), None, 130, StreamStalled, "silence for 120 s in the middle of the reply"),
        ((130,), None, 250, StreamStalled, "silence for 120 s"),
        ((599,), None, 719, StreamStalled, "silence for 120 s"),
        ((1, 119, 119), None, 359, StreamStalled, "silence for 120 s"),
        ((100,) * 40, None, 3600, Timeout, "no whole reply within 3600 s"),
        ((5,), 10, 15, Timeout, "no whole reply"),
        ((), 1e9, 600, Timeout, "no first byte"),
    ],
)
def test_a_request_is_waited_for_until_it_is_silent_for_too_long(
    heard_after_s: tuple[float, ...], within: float | None, ends_s: float, why: type, said: str
) -> None:
    took_s, error = run(waited(*heard_after_s, within=within))
    assert took_s == pytest.approx(ends_s, abs=0.01)
    assert type(error) is why
    assert str(error).startswith(said)


def test_however_many_bytes_come_there_is_one_timer() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        timers = 0
        call_at = loop.call_at

        def counting(*args: Any, **options: Any) -> asyncio.TimerHandle:
            nonlocal timers
            timers += 1
            return call_at(*args, **options)

        patience = Deadlines(TIMEOUTS, loop, lambda: None)
        loop.call_at = counting  # type: ignore[method-assign, assignment]
        patience.start(loop.time())
        for _ in range(10_000):
            patience.on_bytes()
        loop.call_at = call_at  # type: ignore[method-assign]
        patience.stop()
        return timers

    assert run(main()) == 1


# ---------------------------------------------------------------- intakes


def stream_intake(content_type: str = "text/event-stream", max_bytes: int = 1000) -> SseParser:
    fold = accumulator_for(CHAT, {})
    return SseParser(fold, lambda _: None, end_marker=b"[DONE]", max_bytes=max_bytes, content_type=content_type)


def test_the_cap_counts_every_byte() -> None:
    intake = stream_intake(max_bytes=20)
    intake.take(b": alive\n\n")
    intake.take(b": alive\n\n")
    with pytest.raises(ReplyTooLarge, match="larger than"):
        intake.take(b": alive\n\n")
    whole = JsonParser(protocol_for(CHAT).parse_json, max_bytes=5)
    with pytest.raises(ReplyTooLarge):
        whole.take(b"123456")


def test_what_is_no_stream_of_events_is_shown() -> None:
    intake = stream_intake("text/plain")
    intake.take(b"Internal error\n")
    intake.take(b"more\n")
    intake.finish()
    with pytest.raises(ProtocolError, match="no event stream but text/plain: Internal error"):
        intake.body()


def said(text: str, **beside: object) -> bytes:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, **beside}]}
    return b"data: %b\n\n" % orjson.dumps(chunk)


STREAM = b"".join([*(said(f"word {n} ") for n in range(400)), said("", finish_reason="stop"), b"data: [DONE]\n\n"])


class Grown:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self, fold: Accumulator) -> None:
        self.times += 1


def taken(data: bytes, sizes: Iterable[int], *, live: bool = False) -> tuple[SseParser, Grown]:
    """Read in pieces of these sizes, and what is left of it in one."""
    grown = Grown()
    fold = accumulator_for(CHAT, {})
    intake = SseParser(
        fold, grown, end_marker=b"[DONE]", max_bytes=1 << 20, content_type="text/event-stream", live=live
    )
    for size in sizes:
        if data and not intake.enough:
            intake.take(data[:size])
            data = data[size:]
    if data and not intake.enough:
        intake.take(data)
    return intake, grown


@given(st.lists(st.integers(1, 3000), max_size=200))
def test_however_a_stream_is_cut_the_reply_is_the_same_and_its_end_is_seen_at_once(sizes: list[int]) -> None:
    intake, _ = taken(STREAM, sizes)
    assert intake.enough
    assert intake.body()["choices"][0]["message"]["content"] == "".join(f"word {n} " for n in range(400))


@pytest.mark.parametrize("rest", range(1, 60))
def test_an_end_that_is_cut_in_two_is_an_end(rest: int) -> None:
    begun = len(STREAM) - 2000
    assert taken(STREAM, [begun, 2000 - rest])[0].enough


def test_once_a_reply_has_begun_much_of_it_is_looked_into_at_a_time() -> None:
    sizes = [STREAM.index(b"\n\n") + 2] * 400
    _, grown = taken(STREAM, sizes)
    assert grown.times <= 2 + len(STREAM) // BULK_BYTES
    _, grown = taken(STREAM, sizes, live=True)
    assert grown.times >= 300


def test_what_was_not_looked_into_counts_where_a_response_breaks_off() -> None:
    whole = said("Hello, and welcome to the library. ") + said("Good evening.", finish_reason="stop")
    intake, _ = taken(whole, [whole.index(b"\n\n") + 2])
    assert intake.complete
    with pytest.raises(StatusError, match="overloaded"):
        error = b'data: {"error": {"message": "the model is overloaded, as it seems", "code": 503}}\n\n'
        assert taken(said("Hello, ") + error, [len(said("Hello, "))])[0].complete


def test_of_an_answer_that_is_no_reply_only_the_beginning_is_kept() -> None:
    intake = ErrorParser(page_error("text/html"))
    while not intake.enough:
        intake.take(b"<p>" * 10_000_000)
    intake.finish()
    assert intake.complete
    with pytest.raises(ProtocolError, match=r"<p><p>") as raised:
        intake.body()
    assert len(str(raised.value)) < 200
    assert MAX_ERROR_BYTES == 65_536


def test_a_body_can_be_read_as_text() -> None:
    assert OutgoingBody(b'{"a": 1}', lambda _: None).decode() == '{"a": 1}'
