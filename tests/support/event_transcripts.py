"""Streams of the Responses and Messages APIs, written after their references, and the bodies they stand for."""

from __future__ import annotations

from typing import Any

import orjson

JSON = dict[str, Any]


def as_stream(events: list[JSON], *, named: bool = True) -> bytes:
    """Server-sent events; ``named``: each with an `event:` line."""
    lines = (b"event: %b\n" % event["type"].encode() if named else b"" for event in events)
    return b"".join(b"%bdata: %b\n\n" % (line, orjson.dumps(event)) for line, event in zip(lines, events, strict=True))


# ---------------------------------------------------------------- Responses

_MESSAGE_TEXT = "Größe: 寿司 🙂"

_REASONING_ITEM: JSON = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Think first."}],
}
_CALL_ITEM: JSON = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Oslo"}',
}
_MESSAGE_ITEM: JSON = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [
        {
            "type": "output_text",
            "text": _MESSAGE_TEXT,
            "annotations": [
                {"type": "url_citation", "start_index": 0, "end_index": 5, "url": "https://example.com", "title": "E"}
            ],
        }
    ],
}


def response(status: str, output: list[JSON], **more: Any) -> JSON:
    body: JSON = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1750000000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": "gpt-5",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
    }
    return body | more


_USAGE: JSON = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 21,
}

RESPONSE_BODY = response("completed", [_REASONING_ITEM, _CALL_ITEM, _MESSAGE_ITEM], usage=_USAGE)


def _item(index: int, item: JSON, *events: JSON) -> list[JSON]:
    place = {"item_id": item["id"], "output_index": index}
    return [
        {"type": "response.output_item.added", "output_index": index, "item": item | {"status": "in_progress"}},
        *({**event, **place} for event in events),
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _text_delta(text: str) -> JSON:
    return {"type": "response.output_text.delta", "content_index": 0, "delta": text, "logprobs": []}


RESPONSE_EVENTS: list[JSON] = [
    {"type": "response.created", "response": response("in_progress", [], usage=None)},
    {"type": "response.in_progress", "response": response("in_progress", [], usage=None)},
    *_item(
        0,
        _REASONING_ITEM,
        {
            "type": "response.reasoning_summary_part.added",
            "summary_index": 0,
            "part": {"type": "summary_text", "text": ""},
        },
        {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "Think "},
        {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "first."},
        {"type": "response.reasoning_summary_text.done", "summary_index": 0, "text": "Think first."},
    ),
    *_item(
        1,
        _CALL_ITEM,
        {"type": "response.function_call_arguments.delta", "delta": '{"city":'},
        {"type": "response.function_call_arguments.delta", "delta": '"Oslo"}'},
        {"type": "response.function_call_arguments.done", "arguments": '{"city":"Oslo"}'},
    ),
    {"type": "response.something_new.happened", "error_count": 0, "message": "an event that nobody knows"},
    *_item(
        2,
        _MESSAGE_ITEM,
        {"type": "response.content_part.added", "content_index": 0, "part": {"type": "output_text", "text": ""}},
        _text_delta("Größe: "),
        _text_delta("寿司 "),
        {"type": "response.output_text.annotation.added", "content_index": 0, "annotation_index": 0, "annotation": {}},
        _text_delta("🙂"),
        {"type": "response.output_text.done", "content_index": 0, "text": _MESSAGE_TEXT, "logprobs": []},
        {"type": "response.content_part.done", "content_index": 0, "part": _MESSAGE_ITEM["content"][0]},
    ),
    {"type": "response.completed", "response": RESPONSE_BODY},
]
RESPONSE_EVENTS = [event | {"sequence_number": number} for number, event in enumerate(RESPONSE_EVENTS)]

# ---------------------------------------------------------------- Messages

_SEARCH_RESULT: JSON = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [
        {
            "type": "web_search_result",
            "title": "E",
            "url": "https://example.com",
            "encrypted_content": "abc",
            "page_age": None,
        }
    ],
}
_CITATION: JSON = {
    "type": "web_search_result_location",
    "cited_text": "Sushi.",
    "url": "https://example.com",
    "title": "E",
    "encrypted_index": "x",
}

MESSAGE_BODY: JSON = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"},
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "sushi"}},
        _SEARCH_RESULT,
        {"type": "text", "text": "Größe: 寿司 🙂", "citations": [_CITATION]},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo", "days": [1, 2]}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 20,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 7,
        "output_tokens": 42,
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        "service_tier": "standard",
    },
}


def _block(index: int, start: JSON, *deltas: JSON) -> list[JSON]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _json_delta(text: str) -> JSON:
    return {"type": "input_json_delta", "partial_json": text}


MESSAGE_EVENTS: list[JSON] = [
    {
        "type": "message_start",
        "message": {
            **MESSAGE_BODY,
            "content": [],
            "stop_reason": None,
            "usage": {
                "input_tokens": 15,
                "cache_creation_input_tokens": 3,
                "cache_read_input_tokens": 7,
                "output_tokens": 1,
                "service_tier": "standard",
            },
        },
    },
    {"type": "ping"},
    *_block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Let me "},
        {"type": "thinking_delta", "thinking": "see."},
        {"type": "signature_delta", "signature": "c2lnbmVk"},
    ),
    *_block(1, {"type": "redacted_thinking", "data": "b3BhcXVl"}),
    *_block(
        2,
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        _json_delta('{"query": "su'),
        _json_delta('shi"}'),
    ),
    *_block(3, _SEARCH_RESULT),
    *_block(
        4,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Größe: "},
        {"type": "text_delta", "text": "寿司 "},
        {"type": "citations_delta", "citation": _CITATION},
        {"type": "a_delta_that_nobody_knows", "value": 1},
        {"type": "text_delta", "text": "🙂"},
    ),
    {"type": "an_event_that_nobody_knows", "message": "hello"},
    *_block(
        5,
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        _json_delta(""),
        _json_delta('{"city": "Oslo", "da'),
        _json_delta('ys": [1, 2]}'),
    ),
    *_block(6, {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}, _json_delta("")),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None, "container": None},
        "usage": {
            "input_tokens": 20,
            "cache_read_input_tokens": None,
            "output_tokens": 42,
            "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        },
    },
    {"type": "message_stop"},
]
