"""The shortcut for chunks that differ only in their text gives what parsing each of them gives."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processor.core.errors import ProtocolError
from processor.protocols.chunk_fast_path import ChunkTemplate
from processor.protocols.delta_merge import TextChunks
from tests.support.protocol_jobs import accumulator_for

HEAD = b'{"id":"a","choices":[{"index":0,"delta":{"content":'
TAIL = b'},"finish_reason":null}],"usage":null}'


def learned(payload: bytes, where: str = "content") -> tuple[ChunkTemplate, TextChunks]:
    shortcut, pieces = ChunkTemplate(), TextChunks()
    chunk = orjson.loads(payload)
    choice = chunk["choices"][0]
    holder = choice.get("delta", choice)
    shortcut.learn(payload, chunk, holder, {where: pieces})
    return shortcut, pieces


def test_chunks_like_the_last_one_are_taken_until_another_comes() -> None:
    shortcut, pieces = learned(HEAD + b'"x"' + TAIL)
    like = [HEAD + text + TAIL for text in (b'" a"', b'"\\n\\u00e9"', '"ü"'.encode(), b'""')]
    assert shortcut.match_run([*like, b"[DONE]", *like], 0) == 4
    assert "".join(pieces) == " a\néü"
    assert shortcut.match_run([*like, b"[DONE]", *like], 5) == 9


@pytest.mark.parametrize("others", [0, 1, 3, 4, 9])
def test_many_chunks_are_taken_whatever_comes_behind_them(others: int) -> None:
    shortcut, pieces = learned(HEAD + b'"x"' + TAIL)
    assert shortcut.match_run([HEAD + b'"a"' + TAIL] * 20 + [b'{"other":1}'] * others, 0) == 20
    assert "".join(pieces) == "a" * 20


@pytest.mark.parametrize(
    "text",
    [b'"a', b'a"', b'"a","b"', b'"a\\"', b"null", b"1", b"", b'"a","role":"x"', b'"\xff"', b'"a\nb"', b'"\\ud83d"'],
)
def test_what_is_not_one_string_is_left_to_the_parser(text: bytes) -> None:
    shortcut, pieces = learned(HEAD + b'"x"' + TAIL)
    assert shortcut.match_run([HEAD + text + TAIL], 0) == 0
    assert pieces == []


def test_a_chunk_too_short_for_both_ends_is_left_to_the_parser() -> None:
    payload = b'{"choices":[{"delta":{"content": "x" }}]}'
    shortcut, pieces = learned(payload)
    assert shortcut.match_run([payload, payload.replace(b' "x" ', b" ")], 0) == 1
    assert pieces == ["x"]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"choices":[{"delta":{"content":"a","content":"a"}}]}',  # the last one stands, the first is found
        b'{"choices":[{"delta":{"content":"\\u0061"}}]}',  # escaped
        b'{"choices":[{"delta":{"content":"\\u002c","role":"b"}}]}',  # its quoted comma stands between other strings
        b'{"x":{"content":"a"},"choices":[{"delta":{"content":"a"}}]}',  # another of that name
        b'{"x":{"content":"a"},"choices":[{"delta":{"c\\u006fntent":"a"}}]}',  # and this one's name is escaped
        b'{"choices":[{"delta":{"content":"a","refusal":"b"}}]}',
        b'{"choices":[{"delta":{"content":"a","tool_calls":[1]}}]}',
        b'{"choices":[{"delta":{"role":"assistant","content":""}}]}',
        b'{"choices":[{"delta":{"function_call":{"arguments":"a"}}}]}',
    ],
)
def test_no_template_is_made_where_the_place_of_the_text_is_not_plain(payload: bytes) -> None:
    shortcut, _ = learned(payload)
    assert shortcut.match_run([payload], 0) == 0


def test_templates_that_fit_nothing_are_given_up() -> None:
    shortcut = ChunkTemplate()
    for _ in range(4):
        assert not shortcut.is_disabled
        chunk: Any = {"choices": [{"delta": {"content": "a"}}]}
        shortcut.learn(orjson.dumps(chunk), chunk, chunk["choices"][0]["delta"], {"content": TextChunks()})
    assert shortcut.is_disabled


MIDDLES = st.lists(
    st.text(max_size=4).map(orjson.dumps)
    | st.sampled_from([b'"', b'""', b"\\", b'"a"', b'"a","content":"b"', b'"a"},"finish_reason":"stop","x":{"y":"z"'])
    | st.binary(max_size=4),
    max_size=8,
)
ENDS = st.sampled_from(
    [
        (HEAD, TAIL),
        (b'{"choices":[{"index":0,"delta":{"role":"assistant","content": ', b' },"logprobs":null}],"usage":{"a":1}}'),
        (b'{"choices":[{"index":0,"delta":{"content":null,"refusal":', b'}}],"obfuscation":"xyz"}'),
        (b'{"choices":[{"index":0,"delta":{"content":"","reasoning":', b',"n":1}}],"list":[1,2]}'),
        (b'{"choices":[{"index":0,"ids":[1],"delta":{"content":', b"}}]}"),
        (b'{"choices":[{"index":0,"logprobs":{"content":[1]},"delta":{"content":', b"}}]}"),
        (b'{"choices":[{"index":0,"delta":{"content":', b',"x":"y"}}]}'),
        (b'{"choices":[{"delta":{"content":"a"}},{"index":0,"delta":{"content":', b"}}]}"),
    ]
)


def outcome(payloads: list[bytes], *, whole: bool) -> Any:
    """The body, or the kind of error. Other chunks between them keep every template from being used."""
    fold = accumulator_for("/v1/chat/completions", {})
    try:
        for payload in payloads:
            fold.feed([payload] if whole else [payload, b'{"choices":[]}'])
        fold.feed([b"[DONE]"])
        return fold.result()
    except ProtocolError as error:
        return str(error)


@given(ENDS, MIDDLES)
@example((HEAD, TAIL), [b'"a"', b'"b', b'c"'])
@settings(max_examples=300)
def test_a_stream_is_the_same_with_and_without_templates(ends: tuple[bytes, bytes], middles: list[bytes]) -> None:
    head, tail = ends
    payloads = [head + b'"x"' + tail, *(head + middle + tail for middle in middles)]
    assert outcome(payloads, whole=True) == outcome(payloads, whole=False)
