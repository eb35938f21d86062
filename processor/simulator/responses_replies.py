"""Renders completions as the Responses API sends them: as a body, and as the events of a stream. Pure.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from processor.core.models import JSON
from processor.simulator.completion import Completion, CompletionChoice

Event = tuple[bool, JSON]
"""Whether it brings a token, and its data."""


def responses_body(completion: Completion) -> JSON:
    (choice,) = completion.choices
    is_cut = choice.finish_reason == "length"
    usage = completion.usage
    return {
        **_head(completion),
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": _output(completion.top["id"], choice),
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": len(choice.reasoning)},
            "total_tokens": usage["total_tokens"],
        },
    }


def responses_events(completion: Completion, quirks: Collection[str]) -> Iterator[Event]:
    for number, (is_token, event) in enumerate(_events(completion, quirks)):
        yield is_token, {**event, "sequence_number": number}


def _events(completion: Completion, quirks: Collection[str]) -> Iterator[Event]:
    (choice,) = completion.choices
    begun = {**_head(completion), "status": "in_progress", "output": [], "usage": None}
    yield False, {"type": "response.created", "response": begun}
    yield False, {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(_output(completion.top["id"], choice)):
        place = {"item_id": item["id"], "output_index": index}
        empty: JSON = {name: [] for name in ("content", "summary") if name in item}
        opening = {**item, "status": "in_progress", **empty}
        yield False, {"type": "response.output_item.added", "output_index": index, "item": opening}
        yield from _item_events(item, place, choice)
        yield False, {"type": "response.output_item.done", "output_index": index, "item": item}
    body = responses_body(completion)
    if "no_usage" in quirks:
        body["usage"] = None
    yield False, {"type": f"response.{body['status']}", "response": body}


def _item_events(item: JSON, place: JSON, choice: CompletionChoice) -> Iterator[Event]:
    if item["type"] == "function_call":
        call = next(call for call in choice.calls if call.id == item["call_id"])
        for text in call.arguments:
            yield True, {"type": "response.function_call_arguments.delta", **place, "delta": text}
        done = {"type": "response.function_call_arguments.done", **place, "arguments": item["arguments"]}
        yield False, done
    elif item["type"] == "reasoning":
        for text in choice.reasoning:
            yield True, {"type": "response.reasoning_summary_text.delta", **place, "summary_index": 0, "delta": text}
    else:
        kind = "refusal" if choice.refusal else "output_text"
        part = {**place, "content_index": 0}
        yield False, {"type": "response.content_part.added", **part, "part": _part(kind, "")}
        for text in choice.refusal or choice.content:
            yield True, {"type": f"response.{kind}.delta", **part, "delta": text}
        yield False, {"type": "response.content_part.done", **part, "part": item["content"][0]}


def _head(completion: Completion) -> JSON:
    top = completion.top
    head = {"id": f"resp_{top['id'][-24:]}", "object": "response", "created_at": top["created"], "model": top["model"]}
    return {**head, "error": None, "incomplete_details": None, "parallel_tool_calls": True, "tool_choice": "auto"} | {
        "tools": [],
        "metadata": {},
    }


def _output(reply_id: str, choice: CompletionChoice) -> list[JSON]:
    suffix = reply_id[-24:]
    items: list[JSON] = []
    if choice.reasoning:
        summary = [{"type": "summary_text", "text": "".join(choice.reasoning)}]
        items.append({"id": f"rs_{suffix}", "type": "reasoning", "summary": summary})
    for number, call in enumerate(choice.calls):
        called = {"call_id": call.id, "name": call.name, "arguments": "".join(call.arguments)}
        items.append({"id": f"fc_{number}{suffix}", "type": "function_call", "status": "completed", **called})
    if not choice.calls:
        kind = "refusal" if choice.refusal else "output_text"
        content = [_part(kind, "".join(choice.refusal or choice.content))]
        status = "incomplete" if choice.finish_reason == "length" else "completed"
        items.append(
            {"id": f"msg_{suffix}", "type": "message", "status": status, "role": "assistant", "content": content}
        )
    return items


def _part(kind: str, text: str) -> dict[str, Any]:
    if kind == "refusal":
        return {"type": kind, "refusal": text}
    return {"type": kind, "text": text, "annotations": []}
