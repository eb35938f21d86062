"""Embeddings: one vector for each input, as the server sends it."""

from __future__ import annotations

import base64
import struct
from typing import Any

import orjson
import pytest

from processor.core.errors import BadRequest, InvalidJob, ProtocolError
from processor.core.models import Usage
from processor.protocols import RequestOptions, protocol_for
from processor.protocols.request_limits import RequestLimits
from processor.tokens.rules import ModelCounter
from tests.support.protocol_jobs import job_for

EMBEDDINGS = "/v1/embeddings"
PROTOCOL = protocol_for(EMBEDDINGS)
WORDS = ModelCounter(count_text=lambda text: len(text.split()), base_model="m", is_loaded=True, is_known=True)


def entry(index: int, embedding: Any = (0.5, -0.25)) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": embedding}


def reply(*entries: Any, **more: Any) -> bytes:
    return orjson.dumps({"object": "list", "data": entries, "model": "m", **more})


def parsed(data: bytes, inputs: Any) -> dict[str, Any]:
    return PROTOCOL.parse_reply(data, job_for(EMBEDDINGS, input=inputs))


@pytest.mark.parametrize("inputs", ["hi", ["hi"], ["a", ""], [1, 2], [[1, 2], [3]], [{"image": "x"}]])
def test_texts_token_ids_and_parts_are_valid_inputs(inputs: Any) -> None:
    PROTOCOL.validate({"input": inputs})


@pytest.mark.parametrize("inputs", ["", None, 7, {}, [], [None], [1.5], [True], ["a", 1], [[1], "a"], [[]], [["a"]]])
def test_other_inputs_are_refused_before_they_are_sent(inputs: Any) -> None:
    with pytest.raises(InvalidJob):
        PROTOCOL.validate({"input": inputs})


def test_limits_of_a_provider_are_checked_where_they_are_known() -> None:
    limits = RequestLimits(max_inputs=2, accepts_empty_text=False)
    for inputs in (["a", "b"], [1, 2, 3], "abc"):
        PROTOCOL.check_limits({"input": inputs}, limits)
    with pytest.raises(InvalidJob, match="3 inputs, more than the 2"):
        PROTOCOL.check_limits({"input": ["a", "b", "c"]}, limits)
    with pytest.raises(InvalidJob, match="empty text"):
        PROTOCOL.check_limits({"input": ["a", ""]}, limits)
    PROTOCOL.check_limits({"input": ["", "b", "c"]}, RequestLimits())


def test_request_is_sent_as_it_is_and_never_asks_for_a_stream() -> None:
    body = {"model": "m", "input": ["a"], "encoding_format": "base64", "dimensions": 3}
    job = job_for(EMBEDDINGS, **body, stream=True, stream_options={"include_usage": True})
    assert orjson.loads(PROTOCOL.encode(job, RequestOptions())) == body
    assert not PROTOCOL.is_streamed(job, RequestOptions())
    assert PROTOCOL.adapt(BadRequest("stream is not supported", status=400), job, RequestOptions()) is None


def test_short_job_becomes_the_input() -> None:
    assert PROTOCOL.from_short({"model": "m", "prompt": ["a", "b"]}) == {"input": ["a", "b"], "model": "m"}
    with pytest.raises(InvalidJob, match="system"):
        PROTOCOL.from_short({"prompt": "a", "system": "b"})


def test_reply_is_sorted_by_index_and_kept_as_it_came() -> None:
    body = parsed(reply(entry(1, [1.0]), entry(0, [2.0]), extra=1), ["a", "b"])
    assert [one["index"] for one in body["data"]] == [0, 1]
    assert body["extra"] == 1
    packed = base64.b64encode(struct.pack("<2f", 0.1, 0.2)).decode()
    assert parsed(reply(entry(0, packed)), "a")["data"][0]["embedding"] == packed
    assert [e["embedding"] for e in parsed(reply({"embedding": [1]}, {"embedding": [2]}), ["a", "b"])["data"]] == [
        [1],
        [2],
    ]


def test_token_ids_are_one_input_and_lists_of_them_several() -> None:
    assert parsed(reply(entry(0)), [1, 2, 3])
    assert parsed(reply(entry(0), entry(1)), [[1, 2], [3]])


@pytest.mark.parametrize(
    "data",
    [
        reply(entry(0)),
        reply(entry(0), entry(1), entry(2)),
        reply(entry(0), entry(2)),
        reply(entry(0), entry(1), entry(1)),
        reply(entry(0), entry(1, [])),
        reply(entry(0), entry(1, None)),
        reply(entry(0), "x"),
        b'{"object": "list"}',
        b"[]",
        b"",
    ],
)
def test_reply_without_one_vector_for_each_input_is_not_kept(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parsed(data, ["a", "b"])


def test_error_with_a_good_status_is_raised() -> None:
    with pytest.raises(BadRequest):
        parsed(b'{"error": {"message": "no", "type": "invalid_request_error"}}', "a")


def test_stream_in_place_of_a_reply_is_not_understood() -> None:
    with pytest.raises(ProtocolError, match="event stream"):
        PROTOCOL.accumulator(job_for(EMBEDDINGS))


def test_tokens_are_those_of_the_inputs_and_none_are_generated() -> None:
    size = PROTOCOL.request_size(job_for(EMBEDDINGS, input=["one two", "three"]), WORDS)
    assert (size.prompt_tokens, size.max_tokens, size.choices) == (3, 0, 1)
    assert PROTOCOL.count_prompt({"input": [[1, 2], [3]]}, WORDS).tokens == 3
    assert PROTOCOL.count_reply({"data": []}, {}, WORDS).tokens == 0


def test_usage_is_reported_and_computed_in_the_words_of_the_api() -> None:
    usage = Usage(prompt_tokens=5, completion_tokens=0)
    body = {"usage": {"prompt_tokens": 5, "total_tokens": 5}}
    assert PROTOCOL.reported_usage(body) == usage
    assert PROTOCOL.usage_json(usage) == body["usage"]
