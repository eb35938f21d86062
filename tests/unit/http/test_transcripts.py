"""Replies of many kinds of servers, however their bytes are cut: what is whole is read, what is not is an error."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.reply_reading import STREAM_HEADERS, ReplyReader
from tests.support.transcripts import TRANSCRIPTS, Transcript

JSON_HEADERS = {"content-type": "application/json", "content-encoding": "gzip"}


@pytest.mark.parametrize("size", [None, 1, 10])
def test_replies_are_read_whole_or_are_errors(size: int | None) -> None:
    for name, transcript in TRANSCRIPTS.items():
        with named(name):
            check(transcript, ReplyReader(request=transcript.request), transcript.body, size)


@pytest.mark.parametrize("headers", [STREAM_HEADERS, JSON_HEADERS], ids=["stream", "json"])
def test_compressed_replies_are_read_in_the_same_way(headers: dict[str, str]) -> None:
    for name, transcript in TRANSCRIPTS.items():
        with named(name):
            check(transcript, ReplyReader(headers, transcript.request), gzip.compress(transcript.body, 1), 50)


@contextmanager
def named(transcript: str) -> Iterator[None]:
    """Adds the name of the transcript to an error: one test reads all of them."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the transcript {transcript!r}")
        raise


def check(transcript: Transcript, reader: ReplyReader, body: bytes, size: int | None) -> None:
    if transcript.error is not None:
        with pytest.raises(transcript.error):
            reader.read(body, size)
        return
    reply = reader.read(body, size)
    assert reply is not None
    choice = reply["choices"][0]
    functions = [call["function"] for call in choice["message"].get("tool_calls") or ()]
    assert choice["message"].get("content") == transcript.text
    assert choice["finish_reason"] == transcript.reason
    assert tuple((function["name"], function.get("arguments", "")) for function in functions) == transcript.calls
    assert reader.altered == transcript.altered
