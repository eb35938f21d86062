"""The decoder returns the events that the specification defines, for any bytes, split into any reads."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.protocols.sse import SseDecoder


def decoded(*reads: bytes) -> list[bytes]:
    decoder = SseDecoder()
    return [payload for read in reads for payload in decoder.feed(read)]


def reference_decode(stream: bytes) -> list[bytes]:
    """The algorithm of the specification, line by line."""
    lines = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines[:-1]:
        if not line:
            if data:
                events.append(b"\n".join(data))
            data = []
        elif b":" not in line:
            data += [b""] if line == b"data" else []
        else:
            name, value = line.split(b":", 1)
            if name == b"data":
                data.append(value[1:] if value.startswith(b" ") else value)
    return events


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(bounds)]


LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from(
    [
        b"",
        b"",
        b"",
        b"data: a",
        b'data: {"x": 1}',
        b"data:b",
        b"data:  two",
        b"data",
        b"data:",
        b": alive",
        b"event: ping",
        b"id: 7",
        b"retry: 10",
        b"Data: no",
        b"data : no",
        "data: zwölf €".encode(),
        b"\xef\xbb\xbfdata: bom",
        b"data: \xff",
    ]
)
STREAMS = st.lists(st.tuples(LINES, LINE_ENDS).map(b"".join), max_size=30).map(b"".join)


@given(STREAMS | st.binary(max_size=200), st.lists(st.integers(0, 2000), max_size=40))
def test_any_split_of_the_bytes_gives_the_events_of_the_specification(stream: bytes, places: list[int]) -> None:
    assert decoded(*cut(stream, places)) == reference_decode(stream)


@given(STREAMS)
def test_one_byte_at_a_time_gives_the_same_events(stream: bytes) -> None:
    assert decoded(*(stream[i : i + 1] for i in range(len(stream)))) == reference_decode(stream)


@given(
    st.lists(
        st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20).map(str.encode),
        max_size=20,
    )
)
def test_events_of_one_data_line_are_decoded_unchanged(payloads: list[bytes]) -> None:
    assert decoded(b"".join(b"data: " + payload + b"\n\n" for payload in payloads)) == payloads


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"data: one\n\ndata: two\n\n", [b"one", b"two"]),
        (b"data: one\r\n\r\ndata: two\r\n\r\n", [b"one", b"two"]),
        (b"data: one\r\rdata: two\r\r", [b"one", b"two"]),
        (b"data: one\ndata: more\n\n", [b"one\nmore"]),
        (b"data:one\n\n", [b"one"]),
        (b"data:  one\n\n", [b" one"]),
        (b"\xef\xbb\xbfdata: one\n\n", [b"one"]),
        (b": OPENROUTER PROCESSING\n\ndata: one\n\n", [b"one"]),
        (b"event: message_start\ndata: one\n\n", [b"one"]),
        (b"\n\n\n\ndata: one\n\n", [b"one"]),
        (b"data: one\n\n\n\n\ndata: two\n\n", [b"one", b"two"]),
        (b"event: nothing\n\n", []),
        (b"data: one", []),
        (b"data: one\n", []),
    ],
)
def test_the_formats_of_known_servers_are_decoded(stream: bytes, payloads: list[bytes]) -> None:
    assert decoded(stream) == payloads


def test_the_blank_line_of_an_event_may_come_in_a_later_read() -> None:
    assert decoded(b"data: one\n", b"\n") == [b"one"]
    assert decoded(b"data: one\r\n", b"\r\n") == [b"one"]
    assert decoded(b"data: one\r", b"\n\r", b"\n") == [b"one"]


def test_an_event_that_ends_in_cr_is_returned_at_once() -> None:
    assert decoded(b"data: one\r\r") == [b"one"]


def test_a_byte_order_mark_is_ignored_only_at_the_start() -> None:
    assert decoded(b"data: one\n\n", b"\xef\xbb\xbfdata: two\n\n") == [b"one"]
    assert decoded(b"\xef", b"\xbb", b"\xbfdata: one\n\n") == [b"one"]


def test_at_the_end_of_a_stream_a_complete_line_is_an_event_and_a_cut_line_is_not() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: one\n\ndata: [DONE]\n") == [b"one"]
    assert decoder.finish() == [b"[DONE]"]
    assert decoder.finish() == []
    decoder = SseDecoder()
    assert decoder.feed(b"data: one\n\ndata: [DO") == [b"one"]
    assert decoder.finish() == []


def test_an_event_of_many_megabytes_in_small_reads_takes_linear_time() -> None:
    began = time.process_time()
    decoder = SseDecoder()
    for _ in range(100_000):
        assert decoder.feed(b"data: " if not _ else b"x" * 50) == []
    (payload,) = decoder.feed(b"\n\n")
    assert len(payload) == 50 * 99_999
    assert time.process_time() - began < 2


def test_an_event_of_very_many_lines_takes_linear_time() -> None:
    began = time.process_time()
    decoder = SseDecoder()
    for _ in range(50_000):
        assert decoder.feed(b"data: a line\n") == []
    (payload,) = decoder.feed(b"\n")
    assert payload.count(b"\n") == 49_999
    assert time.process_time() - began < 2
