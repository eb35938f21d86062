"""Replies of many kinds of servers, however their bytes are cut: what is whole is read, what is not is an error."""

from __future__ import annotations

import gzip

import pytest

from tests.support.reply_reading import STREAM_HEADERS, ReplyReader
from tests.support.transcripts import TRANSCRIPTS, Transcript


@pytest.mark.parametrize("size", [None, 1, 10])
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_reply_is_read_whole_or_is_an_error(name: str, size: int | None) -> None:
    check(TRANSCRIPTS[name], ReplyReader(request=TRANSCRIPTS[name].request), TRANSCRIPTS[name].body, size)


@pytest.mark.parametrize("headers", [STREAM_HEADERS, {"content-type": "application/json", "content-encoding": "gzip"}])
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_compressed_reply_is_read_in_the_same_way(name: str, headers: dict[str, str]) -> None:
    transcript = TRANSCRIPTS[name]
    check(transcript, ReplyReader(headers, transcript.request), gzip.compress(transcript.body, 1), 50)


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
