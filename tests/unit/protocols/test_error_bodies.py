"""Error bodies of every shape give a message, codes and the names of fields; no body raises."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import StatusError
from processor.protocols import error_from_response
from processor.protocols.error_body import parse_error_body
from processor.protocols.error_mapping import error_from_event
from processor.protocols.inband_errors import error_in_line, error_in_value

EXTRA_FORBIDDEN = {
    "type": "extra_forbidden",
    "loc": ["body", "stream_options", "include_usage"],
    "msg": "Extra inputs are not permitted",
}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "OpenAI", "type": "x", "param": None, "code": None}}, "OpenAI"),
        ({"error": "Ollama"}, "Ollama"),
        ({"code": "Some resource", "error": "xAI's words"}, "xAI's words"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Anthropic"}}, "Anthropic"),
        (
            {"object": "error", "message": {"detail": [EXTRA_FORBIDDEN]}, "type": "invalid_request_error"},
            "body.stream_options.include_usage: Extra inputs are not permitted",
        ),
        ({"object": "error", "message": "vLLM", "code": 400}, "vLLM"),
        ([{"error": {"code": 400, "message": "Gemini", "status": "INVALID_ARGUMENT"}}], "Gemini"),
        ({"detail": "FastAPI"}, "FastAPI"),
        ({"detail": [{"loc": ["body", 0, "n"], "msg": "bad"}, {"msg": "worse"}]}, "body.0.n: bad; worse"),
        ({"detail": {"error": "nested", "status": 1}}, "nested"),
        ({"detail": {"message": {"msg": "deeper"}}}, "deeper"),
        ({"base_resp": {"status_code": 1008, "status_msg": "MiniMax"}}, "MiniMax"),
        ({"id": "x", "choices": None, "base_resp": {"status_code": 1008, "status_msg": "MiniMax"}}, "MiniMax"),
        ({"code": 30001, "message": "flat", "data": None}, "flat"),
        ({"error_code": 17, "error_msg": "Baidu"}, "Baidu"),
        ({"errors": [{"message": "first"}, {"message": "second"}]}, "first"),
        ({"errors": ["first", "second"]}, "first; second"),
        ({"errors": {"message": "one"}}, "one"),
        ({"success": False, "errors": [{"code": 10000, "message": "Cloudflare"}], "messages": []}, "Cloudflare"),
        ({"statusCode": 400, "message": ["n is odd", "n is big"], "error": "Bad"}, "n is odd; n is big"),
        ({"title": "RFC 9457", "type": "about:blank", "status": 400}, "RFC 9457"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": "max_tokens is too large"}}},
         "Provider returned error: max_tokens is too large"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": '{"error": {"message": "inner"}}'}}},
         "Provider returned error: inner"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": {"detail": "inner"}}}},
         "Provider returned error: inner"),
        ({"error": {"message": "same words", "metadata": {"raw": "same words"}}}, "same words"),
        ({"error": {"message": '{"error": {"message": "wrapped", "code": 400}}'}}, "wrapped"),
        ({"error": {"message": "{not json}"}}, "{not json}"),
        ({"error": {"error": {"error": {"message": "thrice"}}}}, "thrice"),
        ({"error": [{"message": "in a list"}]}, "in a list"),
        ({"message": None, "error": None, "msg": "last resort"}, "last resort"),
        ("just a string", "just a string"),
        (["a", "b"], "a; b"),
        ({}, ""),
        ([], ""),
        (None, ""),
        (True, ""),
        ({"error": {"message": 7}}, ""),
        ({"error": True}, ""),
        ({"error": {"message": {"a": {"b": "no known name"}}}}, ""),
    ],
)  # fmt: skip
def test_message_is_found_in_every_shape(body: Any, message: str) -> None:
    assert parse_error_body(orjson.dumps(body)).message == message


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"error": {"message": "no", "param": "stream"}}, {"stream"}),
        ({"message": {"detail": [EXTRA_FORBIDDEN]}}, {"body", "stream_options", "include_usage"}),
        ({"detail": [EXTRA_FORBIDDEN]}, {"body", "stream_options", "include_usage"}),
        ({"error": {"message": "Unsupported parameter: 'max_tokens'. Use `max_completion_tokens`"}},
         {"max_tokens", "max_completion_tokens"}),
        ({"error": {"message": "no", "param": ["x"]}, "detail": [{"loc": [1, None]}]}, set()),
    ],
)  # fmt: skip
def test_fields_that_the_error_names_are_found(body: Any, names: set[str]) -> None:
    assert parse_error_body(orjson.dumps(body)).fields == names


@pytest.mark.parametrize("depth", [60, 200, 400, 900, 5000, 60_000])
@pytest.mark.parametrize("piece", [b'{"error":', b'{"detail":', b'{"message":', b"[", b'[{"errors":'])
def test_body_nested_deeply_gives_a_short_error(piece: bytes, depth: int) -> None:
    closing = {b"{": b"}", b"[": b"]"}
    end = b"".join(closing[bytes([char])] for char in reversed(piece) if bytes([char]) in closing)
    data = piece * depth + b'"x"' + end * depth
    error = error_from_response(400, {}, data)
    assert len(str(error)) <= 600
    assert error.body is None or orjson.dumps(error.body)


FIELDS = """error errors message detail details code type status param metadata raw headers loc msg base_resp title
    status_code status_msg retryDelay retry_after retry_after_ms violations quotaId innererror error_code error_msg
    seconds X-RateLimit-Reset request_id choices x_groq object"""
WORDS = ["stream", "max_tokens", "insufficient_quota", "429", "500", "12s", "1e309", "2026-12-01", "per day"]
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS.split()), inner, max_size=4),
    max_leaves=12,
)


def to_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@given(st.integers(300, 599), ODD, st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text(), max_size=2))
def test_any_json_is_a_status_error_with_a_short_message(status: int, body: Any, headers: dict[str, str]) -> None:
    error = error_from_response(status, headers, to_json(body), now_wall=1.8e9)
    assert isinstance(error, StatusError)
    assert 0 < len(str(error)) <= 600
    assert str(error).isprintable()
    assert error.retry_after_s is None or 0 <= error.retry_after_s <= 366 * 86400


@given(st.dictionaries(st.sampled_from(["error", "code", "base_resp", "errors", "detail", "message", "x_groq"]), ODD))
def test_any_event_is_judged_without_an_exception(event: dict[str, Any]) -> None:
    for error in (error_in_value(event), error_in_line(to_json(event)), error_from_event(event)):
        assert error is None or 0 < len(str(error)) <= 600


def test_web_page_shows_its_title() -> None:
    page = b"<!DOCTYPE html><html><head><title>Sign in \xc2\xb7 Proxy</title></head><body>x</body></html>"
    assert parse_error_body(page).message == "Sign in \N{MIDDLE DOT} Proxy"
