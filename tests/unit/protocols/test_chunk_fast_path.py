"""The fast path for chunks that differ only in their text gives the same as parsing each of them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processor.core.errors import ProtocolError
from processor.protocols.chunk_fast_path import ChunkTemplate
from processor.protocols.delta_merge import TextChunks
from tests.support.protocol_jobs import accumulator_for

HEAD = b'{"id":"a","choices":[{"index":0,"delta":{"content":'
TAIL = b'},"finish_reason":null}],"usage":null}'


def learned(payload: bytes, where: str = "content") -> tuple[ChunkTemplate, TextChunks]:
    template, chunks = ChunkTemplate(), TextChunks()
    chunk = orjson.loads(payload)
    choice = chunk["choices"][0]
    holder = choice.get("delta", choice)
    template.offer(payload, holder, {where: chunks})
    return template, chunks


def test_a_run_of_matching_chunks_ends_at_the_first_that_differs() -> None:
    template, chunks = learned(HEAD + b'"x"' + TAIL)
    like = [HEAD + text + TAIL for text in (b'" a"', b'"\\n\\u00e9"', '"ü"'.encode(), b'""')]
    assert template.match_run([*like, b"[DONE]", *like], 0) == 4
    assert "".join(chunks) == " a\néü"
    assert template.match_run([*like, b"[DONE]", *like], 5) == 9


@pytest.mark.parametrize("others", [0, 1, 3, 4, 9])
def test_a_batch_of_matching_chunks_is_matched_with_any_number_of_others_behind_it(others: int) -> None:
    template, chunks = learned(HEAD + b'"x"' + TAIL)
    assert template.match_run([HEAD + b'"a"' + TAIL] * 20 + [b'{"other":1}'] * others, 0) == 20
    assert "".join(chunks) == "a" * 20


@pytest.mark.parametrize(
    "text",
    [b'"a', b'a"', b'"a","b"', b'"a\\"', b"null", b"1", b"", b'"a","role":"x"', b'"\xff"', b'"a\nb"', b'"\\ud83d"'],
)
def test_a_chunk_with_anything_but_one_string_as_its_text_does_not_match(text: bytes) -> None:
    template, chunks = learned(HEAD + b'"x"' + TAIL)
    assert template.match_run([HEAD + text + TAIL], 0) == 0
    assert chunks == []


def test_a_chunk_shorter_than_both_ends_of_the_template_does_not_match() -> None:
    payload = b'{"choices":[{"delta":{"content": "x" }}]}'
    template, chunks = learned(payload)
    assert template.match_run([payload, payload.replace(b' "x" ', b" ")], 0) == 1
    assert chunks == ["x"]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"choices":[{"delta":{"content":"a","content":"a"}}]}',  # the last value counts, the first is found
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
def test_no_template_is_made_where_the_place_of_the_text_is_ambiguous(payload: bytes) -> None:
    template, _ = learned(payload)
    assert template.match_run([payload], 0) == 0


def test_the_fast_path_is_disabled_after_four_templates_without_a_match() -> None:
    template = ChunkTemplate()
    for _ in range(4):
        assert not template.is_disabled
        chunk: Any = {"choices": [{"delta": {"content": "a"}}]}
        template.offer(orjson.dumps(chunk), chunk["choices"][0]["delta"], {"content": TextChunks()})
        assert template.match_run([b"{}"], 0) == 0
    assert template.is_disabled


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


def outcome(payloads: list[bytes], *, uses_template: bool) -> Any:
    """Return the body, or the error message. Without ``uses_template``, other chunks in between reset the template."""
    accumulator = accumulator_for("/v1/chat/completions", {})
    try:
        for payload in payloads:
            accumulator.feed([payload] if uses_template else [payload, b'{"choices":[]}'])
        accumulator.feed([b"[DONE]"])
        return accumulator.result()
    except ProtocolError as error:
        return str(error)


@given(ENDS, MIDDLES)
@example((HEAD, TAIL), [b'"a"', b'"b', b'c"'])
def test_a_stream_gives_the_same_body_with_and_without_the_fast_path(
    ends: tuple[bytes, bytes], middles: list[bytes]
) -> None:
    head, tail = ends
    payloads = [head + b'"x"' + tail, *(head + middle + tail for middle in middles)]
    assert outcome(payloads, uses_template=True) == outcome(payloads, uses_template=False)
