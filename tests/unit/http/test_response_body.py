"""The parsers of a response's body."""

from __future__ import annotations

import gzip
from collections.abc import Iterable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import ProtocolError, ReplyTooLarge, StatusError
from processor.core.models import JSON
from processor.http import event_stream
from processor.http.event_stream import FLUSH_BYTES, SseParser
from processor.http.response_body import (
    MAX_ERROR_BYTES,
    BodyForm,
    ErrorParser,
    JsonParser,
    ResponseParser,
    SniffingParser,
    html_instead_of_reply_error,
)
from processor.protocols import protocol_for
from tests.support.protocol_jobs import CHAT, accumulator_for
from tests.support.reply_reading import ReplyReader

DONE = b"[DONE]"


def sse_parser(content_type: str = "text/event-stream", max_bytes: int = 1000) -> SseParser:
    accumulator = accumulator_for(CHAT, {})
    return SseParser(accumulator, end_marker=DONE, max_bytes=max_bytes, content_type=content_type)


def test_size_limit_counts_every_byte() -> None:
    stream = sse_parser(max_bytes=20)
    stream.feed(b": alive\n\n")
    stream.feed(b": alive\n\n")
    with pytest.raises(ReplyTooLarge, match="larger than"):
        stream.feed(b": alive\n\n")
    json = JsonParser(protocol_for(CHAT).parse_json, max_bytes=5)
    with pytest.raises(ReplyTooLarge):
        json.feed(b"123456")


def test_error_for_a_body_without_events_shows_its_beginning() -> None:
    parser = sse_parser("text/plain")
    parser.feed(b"Internal error\n")
    parser.feed(b"more\n")
    parser.close()
    with pytest.raises(ProtocolError, match="not an event stream but text/plain: Internal error"):
        parser.result()


def text_event(text: str, **fields: object) -> bytes:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, **fields}]}
    return b"data: %b\n\n" % orjson.dumps(chunk)


STREAM = b"".join(
    [*(text_event(f"word {n} ") for n in range(400)), text_event("", finish_reason="stop"), b"data: [DONE]\n\n"]
)


def parsed(data: bytes, sizes: Iterable[int], *, live: bool = False) -> tuple[SseParser, int]:
    """Feed pieces of these sizes, and the rest in one piece. Also returns how many times events were read."""
    steps = 0
    accumulator = accumulator_for(CHAT, {})
    parser = SseParser(accumulator, end_marker=DONE, max_bytes=1 << 20, content_type="text/event-stream", live=live)
    for size in sizes:
        if data and not parser.is_done:
            steps += parser.feed(data[:size])
            data = data[size:]
            work_off(parser)
    if data and not parser.is_done:
        steps += parser.feed(data)
        work_off(parser)
    return parser, steps


def work_off(parser: SseParser) -> None:
    """Parses what a busy machine had no time for in one step."""
    while parser.has_backlog:
        parser.work_off()


@given(st.lists(st.integers(1, 3000), max_size=200))
def test_stream_is_parsed_alike_and_its_end_seen_at_once_however_it_is_cut(sizes: list[int]) -> None:
    parser, _ = parsed(STREAM, sizes)
    assert parser.is_done
    assert parser.result()["choices"][0]["message"]["content"] == "".join(f"word {n} " for n in range(400))


@pytest.mark.parametrize("last_bytes", range(1, 60))
def test_end_marker_is_seen_when_it_is_cut_in_two(last_bytes: int) -> None:
    first_bytes = len(STREAM) - 2000
    assert parsed(STREAM, [first_bytes, 2000 - last_bytes])[0].is_done


def test_stream_is_parsed_in_large_pieces_after_its_first_token() -> None:
    sizes = [STREAM.index(b"\n\n") + 2] * 400
    _, steps = parsed(STREAM, sizes)
    assert steps <= 2 + len(STREAM) // FLUSH_BYTES
    _, steps = parsed(STREAM, sizes, live=True)
    assert steps >= 300


def test_buffered_bytes_count_when_the_response_breaks_off() -> None:
    events = text_event("Hello, and welcome to the library. ") + text_event("Good evening.", finish_reason="stop")
    parser, _ = parsed(events, [events.index(b"\n\n") + 2])
    assert parser.is_complete
    with pytest.raises(StatusError, match="overloaded"):
        error = b'data: {"error": {"message": "the model is overloaded, as it seems", "code": 503}}\n\n'
        assert parsed(text_event("Hello, ") + error, [len(text_event("Hello, "))])[0].is_complete


def test_error_parser_keeps_only_the_beginning() -> None:
    parser = ErrorParser(html_instead_of_reply_error("text/html"))
    while not parser.is_done:
        parser.feed(b"<p>" * 10_000_000)
    parser.close()
    assert parser.is_complete
    with pytest.raises(ProtocolError, match=r"a web page answered .*is --base-url right\?") as raised:
        parser.result()
    assert len(str(raised.value)) < 200
    assert MAX_ERROR_BYTES == 65_536


# ---------------------------------------------------------------- the form of a body


WHOLE = orjson.dumps({"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]})
EVENTS = text_event("Hi", finish_reason="stop") + b"data: [DONE]\n\n"


def sniffed(data: bytes, size: int) -> JSON:
    """The body of a response that is fed ``size`` bytes at a time."""
    chosen: list[ResponseParser] = []

    def choose(form: BodyForm) -> ResponseParser:
        if form == "page":
            return ErrorParser(html_instead_of_reply_error("text/html"))
        if form == "json":
            return JsonParser(protocol_for(CHAT).parse_json, max_bytes=1 << 20)
        return sse_parser("text/plain", max_bytes=1 << 20)

    parser: ResponseParser = SniffingParser(choose, chosen.append)
    for start in range(0, len(data), size):
        (chosen[-1] if chosen else parser).feed(data[start : start + size])
    (chosen[-1] if chosen else parser).close()
    return chosen[-1].result()


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    "data",
    [
        WHOLE,
        b" \n" + WHOLE,
        b"\xef\xbb\xbf" + WHOLE,
        WHOLE + b"\n\ndata: [DONE]\n\n",
        WHOLE.replace(b"}]", b', "logprobs": NaN}]'),
        EVENTS,
        b"\xef\xbb\xbf" + EVENTS,
        b"\n\n: alive\n\n" + EVENTS,
        b"event: message\n" + EVENTS,
    ],
)
def test_first_bytes_decide_between_events_and_json(data: bytes, size: int) -> None:
    assert sniffed(data, size)["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html><title>Log in</title></html>", "Log in"),
        (b"Internal error", "Internal error"),
        (b"", "empty"),
        (b" \n", "text/plain"),
    ],
)
def test_body_that_is_neither_events_nor_json_is_a_protocol_error(data: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        sniffed(data, 1 << 20)


def test_json_parser_names_what_it_changed() -> None:
    parser = JsonParser(protocol_for(CHAT).parse_json, max_bytes=1 << 20)
    parser.feed(WHOLE.replace(b"Hi", b"Hi \xff"))
    assert parser.result()["choices"][0]["message"]["content"] == "Hi \N{REPLACEMENT CHARACTER}"
    assert parser.altered == {"utf8"}


# ---------------------------------------------------------------- work that is left for a thread


def test_large_event_is_left_for_a_thread() -> None:
    parser = sse_parser(max_bytes=1 << 24)
    event = text_event("x" * 300_000, finish_reason="stop")
    assert not any(parser.feed(event[start : start + 1000]) and parser.has_backlog for start in range(0, 299_000, 1000))
    parser.feed(event[299_000:])
    assert parser.has_backlog
    assert not parser.accumulator.has_content
    parser.work_off()
    assert not parser.has_backlog
    assert len(parser.result()["choices"][0]["message"]["content"]) == 300_000


def test_events_that_take_long_are_left_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MAX_HOLD_S", 0.0)
    parser = sse_parser(max_bytes=1 << 24)
    parser.feed(STREAM)
    assert parser.has_backlog
    assert not parser.is_done
    while parser.has_backlog:
        parser.work_off()
    assert parser.is_done
    assert parser.result()["choices"][0]["message"]["content"].endswith("word 399 ")


def test_backlog_counts_when_the_response_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MAX_HOLD_S", 0.0)
    parser = sse_parser(max_bytes=1 << 24)
    parser.feed(STREAM)
    assert parser.is_complete


def test_compressed_body_is_decoded_in_steps() -> None:
    body = text_event("word ") * 20_000 + text_event("", finish_reason="stop")
    reader = ReplyReader({"content-encoding": "gzip"})
    reader.parser.feed(gzip.compress(body))
    steps = 0
    while reader.parser.has_backlog:
        reader.parser.work_off()
        steps += 1
    assert steps >= len(body) // (256 * 1024)
    reader.parser.close()
    assert reader.parser.result()["choices"][0]["message"]["content"] == "word " * 20_000
