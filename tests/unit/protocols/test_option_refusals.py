"""A refusal of an option is recognized in every shape, and the request is then sent without it or in another way."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from processor.core.errors import StatusError
from processor.core.models import JSON, Job
from processor.protocols import RequestOptions, error_from_response, protocol_for

DEFAULTS = RequestOptions()
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def job(path: str = CHAT, **body: Any) -> Job:
    return Job(line=1, custom_id="a", fingerprint="0" * 32, path=path, model="m", body={"model": "m", **body})


def error(message: str, **fields: Any) -> JSON:
    return {"error": {"message": message, **fields}}


def refusal(body: Any, status: int) -> StatusError:
    return error_from_response(status, {}, body if isinstance(body, bytes) else orjson.dumps(body))


def adapted(
    body: Any, *, status: int = 400, options: RequestOptions = DEFAULTS, path: str = CHAT, **fields: Any
) -> RequestOptions | None:
    return protocol_for(path).adapt(refusal(body, status), job(path, **fields), options)


def extra_forbidden(*location: str) -> JSON:
    return {"type": "extra_forbidden", "loc": list(location), "msg": "Extra inputs are not permitted", "input": True}


STREAM_OPTIONS_REFUSED: list[tuple[int, Any]] = [
    (400, {"error": "unknown field: stream_options"}),
    (400, error("Unrecognized request argument supplied: stream_options", type="invalid_request_error")),
    (400, error("Unknown parameter: 'stream_options'.", param="stream_options", code="unknown_parameter")),
    (400, error("Unknown parameter", param="stream_options")),
    (422, {"object": "error", "message": {"detail": [extra_forbidden("body", "stream_options", "include_usage")]}}),
    (422, {"object": "error", "message": "body.stream_options: Extra inputs are not permitted"}),
    (422, {"detail": [extra_forbidden("body", "stream_options")]}),
    (422, [{"error": {"code": 422, "message": "Unknown name \"stream_options\": Cannot find field."}}]),
    (400, [{"error": {"code": 400, "message": "Invalid JSON payload. Unknown name \"stream_options\": no field."}}]),
    (400, error("Provider returned error", metadata={"raw": '{"detail": "stream_options is not supported"}'})),
    (400, error('{"message": "stream_options: extra fields not permitted"}')),
    (500, error("TypeError: create() got an unexpected keyword argument 'stream_options'")),
    (500, b"Traceback: unexpected keyword argument 'stream_options'"),
    (501, {"message": "stream_options not implemented"}),
    (400, b"json: unknown field \"stream_options\""),
    (403, {"errors": [{"message": "stream_options is not enabled"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), STREAM_OPTIONS_REFUSED)
def test_refused_stream_options_are_left_out(status: int, body: Any) -> None:
    options = adapted(body, status=status)
    assert options == RequestOptions(include_usage=False)
    assert b"stream_options" not in protocol_for(CHAT).encode(job(), options)
    assert adapted(body, status=status, options=options) is None
    assert adapted(body, status=status, stream_options={"include_usage": True}) is None
    assert adapted(body, status=status, stream=False) is None


STREAM_REFUSED: list[tuple[int, Any]] = [
    (400, error("Your organization must be verified to stream this model.", param="stream", code="unsupported_value")),
    (400, error("'audio.format' does not support 'wav' when stream=true.", param="audio.format")),
    (400, error("You requested that the server stream results, but best_of > n is not supported when streaming.")),
    (400, error("Streaming is not supported for this model.")),
    (400, {"detail": "stream must be false"}),
    (422, {"detail": [extra_forbidden("body", "stream")]}),
    (422, {"object": "error", "message": {"detail": [extra_forbidden("body", "stream")]}}),
    (400, [{"error": {"code": 400, "message": "This model does not support streaming", "status": "X"}}]),
    (501, b"streaming not supported"),
    (500, error("stream is not enabled on this deployment")),
    (400, error("The model cannot be streamed")),
    (404, error("This endpoint doesn't support streams", code="x")),
]


@pytest.mark.parametrize(("status", "body"), STREAM_REFUSED)
def test_refused_stream_is_asked_for_unstreamed_unless_the_job_asks_for_a_stream(status: int, body: Any) -> None:
    options = adapted(body, status=status)
    assert options == RequestOptions(stream_refused=True)
    assert orjson.loads(protocol_for(CHAT).encode(job(), options))["stream"] is False
    assert orjson.loads(protocol_for(CHAT).encode(job(stream=True), options))["stream"] is True
    assert adapted(body, status=status, options=options) is None
    assert adapted(body, status=status, stream=True) is None
    assert adapted(body, status=status, stream=False) is None


LIMIT_REFUSED: list[tuple[str, int, Any]] = [
    ("max_tokens", 400, error(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        param="max_tokens", code="unsupported_parameter")),
    ("max_completion_tokens", 422, {"detail": [extra_forbidden("body", "max_completion_tokens")]}),
    ("max_completion_tokens", 422, {"message": {"detail": [extra_forbidden("body", "max_completion_tokens")]}}),
    ("max_completion_tokens", 400, error("Unrecognized request argument supplied: max_completion_tokens")),
    ("max_completion_tokens", 400, b"json: unknown field \"max_completion_tokens\""),
    ("max_completion_tokens", 500, error("got an unexpected keyword argument 'max_completion_tokens'")),
    ("max_completion_tokens", 400, error("max_tokens: Field required")),
    ("max_tokens", 400, [{"error": {"code": 400, "message": "max_tokens is deprecated for this model"}}]),
    ("max_tokens", 400, error("Provider returned error", metadata={"raw": "max_tokens is not supported"})),
]  # fmt: skip


@pytest.mark.parametrize(("field", "status", "body"), LIMIT_REFUSED)
def test_refused_name_of_the_output_limit_is_replaced_by_the_other(field: str, status: int, body: Any) -> None:
    other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}[field]
    limit: JSON = {field: 9}
    options = adapted(body, status=status, **limit)
    assert options == RequestOptions(output_limit_field=other)
    sent = orjson.loads(protocol_for(CHAT).encode(job(**limit), options))
    assert sent[other] == 9
    assert field not in sent
    assert adapted(body, status=status, options=options, **limit) is None
    assert adapted(body, status=status) is None
    assert adapted(body, status=status, max_tokens=9, max_completion_tokens=9) is None


@pytest.mark.parametrize(
    ("status", "body", "fields"),
    [
        (400, error("max_tokens is too large: 50000. This model supports at most 4096 completion tokens."), {}),
        (400, error("Invalid value: max_tokens must be at least 1", param="max_tokens"), {"max_tokens": 0}),
        (400, error("max_tokens: 9999 > 8192, which is the maximum"), {"max_tokens": 9999}),
        (400, error("This model only supports stream mode, please enable the stream parameter"), {}),
        (400, error("stream must be true"), {}),
        (400, error("parameter.enable_thinking must be set to false for non-streaming calls"), {}),
        (429, error("stream_options rate limit"), {}),
        (401, error("stream_options: unauthorized"), {}),
        (402, error("Insufficient credits to stream, not supported"), {}),
        (503, error("stream_options upstream unavailable"), {}),
        (502, b"bad gateway: stream not available", {}),
        (500, error("the stream was interrupted"), {}),
        (500, error("error in 'stream' handler"), {}),
        (400, error("content flagged; a stream of consciousness"), {}),
        (400, b"", {}),
    ],
)  # fmt: skip
def test_other_errors_change_nothing(status: int, body: Any, fields: JSON) -> None:
    assert adapted(body, status=status, **fields) is None


@pytest.mark.parametrize(
    ("path", "fields", "is_streamed"),
    [
        (COMPLETIONS, {"best_of": 3}, False),
        (COMPLETIONS, {"best_of": 3, "n": 3}, True),
        (COMPLETIONS, {"best_of": 3, "stream": True}, True),
        (COMPLETIONS, {"best_of": "3"}, True),
        (COMPLETIONS, {}, True),
        (CHAT, {"audio": {"format": "wav"}}, False),
        (CHAT, {"audio": {"format": "pcm16"}}, True),
        (CHAT, {"audio": {}}, True),
        (CHAT, {"audio": ["wav"]}, True),
        (CHAT, {"audio": {"format": ["odd"]}}, False),
        (CHAT, {"stream": False}, False),
        (CHAT, {"stream": None}, True),
    ],
)
def test_requests_that_no_server_streams_are_asked_for_unstreamed(path: str, fields: JSON, is_streamed: bool) -> None:
    protocol = protocol_for(path)
    assert protocol.is_streamed(job(path, **fields), DEFAULTS) is is_streamed
    assert protocol.is_streamed(job(path, **fields), RequestOptions(streamed=False)) is False
