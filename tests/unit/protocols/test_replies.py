"""Assembled and unstreamed replies: their text, their finish reasons and their usage."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from processor.core.errors import ProtocolError, ServerError, Throttled
from processor.core.models import Usage
from processor.protocols import protocol_for
from tests.support.protocol_jobs import CHAT, COMPLETIONS

BOTH = pytest.mark.parametrize("path", [CHAT, COMPLETIONS])


@BOTH
def test_an_unstreamed_reply_is_its_own_body(path: str) -> None:
    body = {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
    assert protocol_for(path).parse_json(orjson.dumps(body)) == body


@BOTH
@pytest.mark.parametrize(
    "data", [b"", b"hi", b"[]", b"{}", b'{"choices": []}', b'{"choices": {}}', b'{"choices": [1]}', b'{"error": null}']
)
def test_an_unstreamed_reply_without_choices_is_a_protocol_error(path: str, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol_for(path).parse_json(data)


def test_an_error_body_with_a_good_status_is_raised_as_the_error_that_it_names() -> None:
    with pytest.raises(ServerError):
        protocol_for(CHAT).parse_json(b'{"error": {"message": "boom"}}')
    with pytest.raises(Throttled):
        protocol_for(CHAT).parse_json(b'{"error": {"message": "slow", "code": 429}}')


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        (COMPLETIONS, {"choices": [{"text": "Hi."}]}, "Hi."),
        (COMPLETIONS, {"choices": [{"text": None}]}, ""),
        (CHAT, {"choices": [{"text": "Hi."}]}, "Hi."),
        (CHAT, {"choices": [{"message": {"content": "Hi."}}, {"message": {"content": "Ho."}}]}, "Hi."),
        (CHAT, {"choices": [{"message": {"content": None, "refusal": "No."}}]}, "No."),
        (
            CHAT,
            {"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]}}]},
            'f({"a": 1})',
        ),
        (CHAT, {"choices": [{"message": {"content": [{"type": "thinking"}, {"type": "text", "text": "Hi."}]}}]}, "Hi."),
        (CHAT, {"choices": [{"message": {"content": ""}}]}, ""),
        (CHAT, {"choices": []}, ""),
        (CHAT, {"data": []}, ""),
    ],
)
def test_the_text_of_a_reply_is_that_of_its_first_choice(path: str, body: dict[str, Any], text: str) -> None:
    assert protocol_for(path).text(body) == text


@BOTH
@pytest.mark.parametrize(
    ("body", "reasons", "is_cut_short"),
    [
        (
            {"choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}, {"finish_reason": None}]},
            ["stop", "length"],
            True,
        ),
        ({"choices": [{"finish_reason": "stop"}, {"finish_reason": "stop"}]}, ["stop"], False),
        ({"choices": [{"finish_reason": ["stop"]}]}, [], False),
        ({"choices": ["not an object"]}, [], False),
        ({"data": []}, [], False),
    ],
)
def test_each_finish_reason_of_a_reply_is_named_once_and_length_means_cut_short(
    path: str, body: dict[str, Any], reasons: list[str], is_cut_short: bool
) -> None:
    assert protocol_for(path).finish_reasons(body) == reasons
    assert protocol_for(path).is_cut_short(body, {}) is is_cut_short


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, Usage(prompt_tokens=3, completion_tokens=2)),
        ({"input_tokens": 3, "output_tokens": 2}, Usage(prompt_tokens=3, completion_tokens=2)),
        ({"prompt_tokens": 3, "total_tokens": 3}, Usage(prompt_tokens=3, completion_tokens=0)),
        ({"prompt_tokens": "3"}, None),
        ({"prompt_tokens": -1, "completion_tokens": 2}, None),
        (None, None),
    ],
)
def test_reported_usage_is_read_under_either_pair_of_names(usage: Any, expected: Usage | None) -> None:
    assert protocol_for(CHAT).reported_usage({"usage": usage}) == expected
