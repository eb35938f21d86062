"""Bounds on what a reply may hold: memory, depth, choices and tool calls; and work that is linear in its bytes."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import orjson
import pytest

from processor.core.errors import ProtocolError, ReplyTooLarge
from processor.protocols import json_size, protocol_for, tool_calls
from processor.protocols.json_size import FREE_BYTES, MAX_RATIO, Structure
from tests.benchmarks.reply_shapes import read
from tests.support.protocol_jobs import CHAT, accumulator_for
from tests.support.reply_shapes import SHAPES

DENSE = {
    "lists": b"[],",
    "objects": b"{},",
    "objects with a key": b'{"a":1},',
    "short strings": b'"ab",',
    "numbers": b"1.5,",
    "integers": b"999,",
}


def whole_with(extra: bytes) -> bytes:
    return b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],"x":[%b0]}' % extra


@pytest.fixture
def little_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound holds for small replies, so that tests need no large ones."""
    monkeypatch.setattr(json_size, "FREE_BYTES", 1 << 20)


@pytest.mark.usefixtures("little_is_free")
@pytest.mark.parametrize("name", DENSE)
def test_dense_reply_is_refused_before_it_is_decoded(name: str) -> None:
    data = whole_with(DENSE[name] * (400_000 // len(DENSE[name])))
    tracemalloc.start()
    with pytest.raises(ReplyTooLarge, match="more than 8 times its size"):
        protocol_for(CHAT).parse_json(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(data) + 2**20


def test_dense_reply_is_refused_at_its_usual_size() -> None:
    with pytest.raises(ReplyTooLarge):
        protocol_for(CHAT).parse_json(whole_with(b"[]," * 1_500_000))
    assert protocol_for(CHAT).parse_json(whole_with(b"[]," * 100_000)), "too little to matter"


@pytest.mark.usefixtures("little_is_free")
def test_dense_stream_is_refused_however_it_is_divided() -> None:
    for count in (50, 5000):
        event = b'{"choices":[{"delta":{"x":[%b0]}}]}' % (b"{}," * count)
        accumulator = accumulator_for(CHAT, {})
        with pytest.raises(ReplyTooLarge):
            accumulator.feed([event] * (200_000 // count))


@pytest.mark.usefixtures("little_is_free")
@pytest.mark.parametrize("extra", [b'"[[[{{{,,,",', b'"\\"[[{[[{[[{[[{",', b"0.123456789,", b"1,"])
def test_what_only_looks_dense_is_read(extra: bytes) -> None:
    assert protocol_for(CHAT).parse_json(whole_with(extra * (400_000 // len(extra))))


@pytest.mark.parametrize("name", DENSE)
def test_estimate_is_about_the_memory_that_the_values_take(name: str) -> None:
    data = b"[%b0]" % (DENSE[name] * 5000)
    tracemalloc.start()
    value = orjson.loads(data)
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(value) == 5001
    assert 0.8 * memory < Structure(data, with_numbers=True).values_size() < 1.35 * memory


def test_usual_replies_are_far_below_the_bound() -> None:
    assert (MAX_RATIO, FREE_BYTES) == (8, 64 * 2**20)
    for name in ("whole: log probabilities", "whole: text"):
        data = SHAPES[name](100_000)
        assert Structure(data, with_numbers=True).values_size() + len(data) < MAX_RATIO * len(data), name


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 101 + b"]" * 101,
        b'{"a":' * 150 + b"1" + b"}" * 150,
        b"[" * 5000 + b"]" * 5000,
        b'[{"a":' * 60 + b"1" + b"}]" * 60,
    ],
)
def test_deep_reply_is_refused(value: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol_for(CHAT).parse_json(whole_with(value + b","))
    with pytest.raises(ProtocolError):
        accumulator_for(CHAT, {}).feed([b'{"choices":[{"delta":{"x":%b}}]}' % value])


def test_tool_calls_and_choices_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = accumulator_for(CHAT, {})
    monkeypatch.setattr(tool_calls, "MAX_CALLS", 500)
    calls = b",".join(b'{"id":"%d","function":{}}' % number for number in range(501))
    with pytest.raises(ProtocolError, match="more than 500 tool calls"):
        accumulator.feed([b'{"choices":[{"delta":{"tool_calls":[%b]}}]}' % calls])
    with pytest.raises(ProtocolError, match="index"):
        accumulator_for(CHAT, {}).feed([b'{"choices":[{"index":65536,"delta":{"content":"x"}}]}'])


def tool_name_in_pieces(count: int) -> list[bytes]:
    piece = b'{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"a"}}]}}]}'
    return [piece] * count


def empty_arguments(count: int) -> list[bytes]:
    piece = b'{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"a","arguments":""}}]}}]}'
    return [piece] * count


def calls_of_one_id(count: int) -> list[bytes]:
    piece = b'{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]}}]}'
    return [piece] * count


@pytest.mark.parametrize("events", [tool_name_in_pieces, empty_arguments, calls_of_one_id])
def test_work_is_linear_in_the_pieces(events: Callable[[int], list[bytes]]) -> None:
    def took_s(count: int) -> float:
        accumulator = accumulator_for(CHAT, {})
        began = time.process_time()
        accumulator.feed(events(count))
        return time.process_time() - began

    took_s(1000)
    assert took_s(16_000) < 60 * max(took_s(1000), 0.002), "quadratic work would take 256 times as long"


@pytest.mark.parametrize("name", ["whole: log probabilities", "many tool calls in one chunk", "log probabilities"])
def test_dense_reply_takes_at_most_eight_times_its_memory(name: str) -> None:
    data = SHAPES[name](700_000)
    tracemalloc.start()
    read(data, {"content-type": "text/event-stream"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MAX_RATIO * len(data)
