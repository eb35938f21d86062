"""Counts that cannot be exact say why: hidden reasoning, echoed prompts, audio, tools; and what a server reports."""

from __future__ import annotations

import base64
import json
from struct import pack
from typing import Any

import orjson
import pytest

from processor.core.models import Usage
from processor.protocols import protocol_for
from processor.tokens.encodings import base_model_name
from processor.tokens.rules import ModelCounter, TokenCount
from tests.support.protocol_jobs import CHAT, COMPLETIONS, accumulator_for, job_for

PIXEL = (
    "data:image/png;base64,"
    + base64.b64encode(b"\x89PNG\r\n\x1a\n" + pack(">I4sII", 13, b"IHDR", 512, 512) + bytes(5)).decode()
)


def counter(model: str = "gpt-4o") -> ModelCounter:
    """One token per character."""
    return ModelCounter(count_text=len, base_model=base_model_name(model), is_loaded=True, is_known=True)


def prompt_of(*parts: Any, model: str = "gpt-4o", **fields: Any) -> TokenCount:
    """The count of the parts alone."""
    body = {"messages": [{"role": "user", "content": list(parts)}], **fields}
    count = protocol_for(CHAT).count_prompt(body, counter(model))
    return TokenCount(count.tokens - 3 - 4 - 3, count.estimate_reasons)


def reply_count(reply: dict[str, Any], path: str = CHAT, model: str = "gpt-4o", **request: Any) -> TokenCount:
    return protocol_for(path).count_reply(reply, request, counter(model))


def chat_reply(usage: Any = None, **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": "42"} | message}], "usage": usage}


def details(reasoning_tokens: Any, name: str = "completion_tokens_details") -> dict[str, Any]:
    return {"prompt_tokens": 9, "completion_tokens": 513, name: {"reasoning_tokens": reasoning_tokens}}


# ---------------------------------------------------------------- reasoning


@pytest.mark.parametrize(
    ("model", "reply", "request_fields", "is_hidden"),
    [
        ("o3-mini", chat_reply(), {}, True),
        ("o1-2024-12-17", chat_reply(), {}, True),
        ("openai/o4-mini", chat_reply(), {}, True),
        ("gpt-5-mini", chat_reply(), {"reasoning_effort": "high"}, True),
        ("gpt-5.1", chat_reply(), {"reasoning_effort": "none"}, False),
        ("gpt-5.1", chat_reply(), {"reasoning": {"effort": "none"}}, False),
        ("gpt-5-chat-latest", chat_reply(), {}, False),
        ("google/gemini-2.5-pro", chat_reply(), {}, True),
        ("grok-4", chat_reply(), {}, True),
        ("gpt-4o", chat_reply(), {}, False),
        ("deepseek-reasoner", chat_reply(reasoning_content="think"), {}, False),
        ("qwen3", chat_reply(content=[{"type": "thinking", "thinking": "hm"}]), {}, False),
        # What the server reports decides.
        ("o3-mini", chat_reply(details(512)), {}, True),
        ("o3-mini", chat_reply(details(0)), {}, False),
        ("o3-mini", chat_reply(details(None)), {}, True),
        ("o3-mini", chat_reply(details("512")), {}, True),
        ("some-model", chat_reply(details(512)), {}, True),
        ("some-model", chat_reply(details(512, "output_tokens_details")), {}, True),
        ("some-model", chat_reply({"reasoning_tokens": 7}), {}, True),
        ("some-model", chat_reply(details(0)), {}, False),
        ("some-model", chat_reply("usage"), {}, False),
        # Thoughts that were sent are counted; of these models only a summary is sent.
        ("deepseek-reasoner", chat_reply(details(512), reasoning_content="think"), {}, False),
        ("openai/o3", chat_reply(details(512), reasoning="a summary"), {}, True),
    ],
)
def test_hidden_reasoning_makes_the_count_an_estimate(
    model: str, reply: dict[str, Any], request_fields: dict[str, Any], is_hidden: bool
) -> None:
    count = reply_count(reply, model=model, **request_fields)
    assert ("reasoning" in count.estimate_reasons) is is_hidden


@pytest.mark.parametrize("choices", [None, "x", [], [None], [{"message": None}], [{"message": {"content": 5}}]])
def test_reasoning_is_decided_for_any_reply(choices: Any) -> None:
    assert reply_count({"choices": choices}, model="o3").estimate_reasons[-1] == "reasoning"


# ---------------------------------------------------------------- echo, best_of, prediction


def completion(*texts: str, **first: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "text": text} | first for index, text in enumerate(texts)]}


@pytest.mark.parametrize(
    ("reply", "request_fields", "expected"),
    [
        (completion("Hello world"), {"prompt": "Hello", "echo": True}, TokenCount(6)),
        (completion("Hello world"), {"prompt": "Hello", "echo": False}, TokenCount(11)),
        (completion("Hello world"), {"prompt": "Hello"}, TokenCount(11)),
        (completion("Hello"), {"prompt": "Hello", "echo": True, "max_tokens": 0}, TokenCount(0)),
        (completion("Hi", "Hi!"), {"prompt": "Hi", "echo": True, "n": 2}, TokenCount(1)),
        (completion("a1", "bb22"), {"prompt": ["a", "bb"], "echo": True}, TokenCount(3)),
        (completion("a", "a1", "b", "b1"), {"prompt": ["a", "b"], "echo": True, "n": 2}, TokenCount(2)),
        (completion("Hello world"), {"prompt": [1, 2, 3], "echo": True}, TokenCount(8, ("echo",))),
        (completion("ab1", "c22"), {"prompt": [[1, 2], [3]], "echo": True}, TokenCount(3, ("echo",))),
        (completion("Hello"), {"prompt": "Other", "echo": True}, TokenCount(0, ("echo",))),
        (completion("a", index=None), {"prompt": ["a"], "echo": True}, TokenCount(0)),
        (completion("a", index=7), {"prompt": ["a"], "echo": True}, TokenCount(1, ("echo",))),
        (completion("new"), {"echo": True}, TokenCount(3, ("echo",))),
        (completion("one"), {"prompt": "x", "best_of": 3}, TokenCount(3, ("best_of",))),
        (completion("one", "two"), {"prompt": "x", "n": 2, "best_of": 2}, TokenCount(6)),
        (completion("xa"), {"prompt": "x", "best_of": 2, "echo": True}, TokenCount(1, ("best_of",))),
        (completion("one"), {"prompt": "x", "best_of": None}, TokenCount(3)),
    ],
)
def test_completion_is_counted_without_the_echoed_prompt(
    reply: dict[str, Any], request_fields: dict[str, Any], expected: TokenCount
) -> None:
    assert reply_count(reply, COMPLETIONS, **request_fields) == expected


def test_predicted_output_makes_the_count_an_estimate() -> None:
    assert reply_count(chat_reply(), prediction={"type": "content", "content": "41"}) == TokenCount(2, ("prediction",))


@pytest.mark.parametrize(
    ("path", "body", "replies", "generated"),
    [
        (CHAT, {"n": 3}, 3, 3),
        (COMPLETIONS, {"prompt": "x"}, 1, 1),
        (COMPLETIONS, {"prompt": "x", "best_of": 3}, 1, 3),
        (COMPLETIONS, {"prompt": "x", "n": 2, "best_of": 3}, 2, 3),
        (COMPLETIONS, {"prompt": "x", "n": 2, "best_of": 1}, 2, 2),
        (COMPLETIONS, {"prompt": ["x", "y"], "n": 2}, 2, 4),
        (COMPLETIONS, {"prompt": [[1, 2], [3]], "best_of": 5}, 1, 10),
        (COMPLETIONS, {"prompt": [1, 2]}, 1, 1),
        (COMPLETIONS, {"prompt": []}, 1, 1),
        (COMPLETIONS, {"prompt": "x", "best_of": "3"}, 1, 1),
    ],
)
def test_limits_reserve_all_replies_that_are_generated(
    path: str, body: dict[str, Any], replies: int, generated: int
) -> None:
    protocol = protocol_for(path)
    assert protocol.choices(body) == replies
    assert protocol.request_size(job_for(path, **body), counter()).choices == generated


# ---------------------------------------------------------------- images, audio, files, tools


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "image_url", "image_url": {"url": PIXEL, "detail": "high"}}, TokenCount(255)),
        ({"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}, TokenCount(85)),
        ({"type": "image_url", "image_url": {"url": PIXEL}}, TokenCount(255, ("images",))),
        ({"type": "image_url", "image_url": PIXEL}, TokenCount(255, ("images",))),
        ({"type": "input_image", "image_url": PIXEL, "detail": "high"}, TokenCount(255)),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a"}}, TokenCount(765, ("images",))),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL.split(",")[1]}},
            TokenCount(255, ("images",)),
        ),
        ({"type": "image", "source": {"type": "url", "url": "https://example.com/a"}}, TokenCount(765, ("images",))),
        ({"type": "document", "source": {"type": "base64", "data": "A" * 9999}}, TokenCount(1500, ("files",))),
        ({"type": "file", "file": {"file_data": "A" * 9999}}, TokenCount(1500, ("files",))),
        ({"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}, TokenCount(2580, ("video",))),
        ({"type": "audio_url", "audio_url": {"url": "https://example.com/a"}}, TokenCount(300, ("audio",))),
        ({"type": "input_audio", "input_audio": {}}, TokenCount(300, ("audio",))),
        ({"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "mp3"}}, TokenCount(30, ("audio",))),
        ({"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": 5}}, TokenCount(30, ("audio",))),
        ({"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "wav"}}, TokenCount(10, ("audio",))),
    ],
)
def test_part_is_counted_by_its_content_or_says_that_it_is_estimated(part: Any, expected: TokenCount) -> None:
    assert prompt_of(part) == expected


def test_length_of_wav_audio_follows_from_its_head() -> None:
    head = b"RIFF\0\0\0\0WAVEfmt " + pack("<IHHIIHH", 16, 1, 1, 8000, 16_000, 2, 16) + b"data"
    data = base64.b64encode(head + bytes(31_998 - len(head))).decode()
    audio = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    assert prompt_of(audio) == TokenCount(20, ("audio",))


def test_spoken_reply_counts_its_transcript_and_its_length() -> None:
    audio = {"id": "a", "data": "A" * 64_000, "transcript": "Hello"}
    reply = chat_reply(content=None, audio=audio)
    assert reply_count(reply, audio={"format": "pcm16"}) == TokenCount(5 + 20, ("audio",))
    assert reply_count(reply, audio={"format": "mp3"}) == TokenCount(5 + 60, ("audio",))
    assert reply_count(chat_reply(content=None, audio={"id": "a"})) == TokenCount(300, ("audio",))


def test_earlier_spoken_reply_in_a_conversation_is_an_estimate() -> None:
    body = {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}
    assert protocol_for(CHAT).count_prompt(body, counter()) == TokenCount(3 + 3 + 9 + 300, ("audio",))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "tools"),
        ({"web_search_options": {"search_context_size": "low"}}, "tools"),
        ({"documents": [{"text": "x"}]}, "files"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "schema"),
    ],
)
def test_fields_that_become_part_of_the_prompt_make_it_an_estimate(fields: dict[str, Any], reason: str) -> None:
    assert prompt_of({"type": "text", "text": "x"}, **fields).estimate_reasons == (reason,)


@pytest.mark.parametrize(
    "fields",
    [{"response_format": {"type": "json_object"}}, {"tools": []}, {"reasoning_effort": "low"}, {"seed": 2**70}],
)
def test_other_fields_leave_the_prompt_exact(fields: dict[str, Any]) -> None:
    assert prompt_of({"type": "text", "text": "x"}, **fields) == TokenCount(1)


# ---------------------------------------------------------------- reported usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 3}, Usage(prompt_tokens=9, completion_tokens=3)),
        ({"prompt_tokens": 9, "total_tokens": 9}, Usage(prompt_tokens=9, completion_tokens=0)),
        ({"input_tokens": 9, "output_tokens": 3}, Usage(prompt_tokens=9, completion_tokens=3)),
        ({"prompt_tokens": 9, "completion_tokens": 0}, Usage(prompt_tokens=9, completion_tokens=0)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None),
        ({"prompt_tokens": 9, "completion_tokens": None}, None),
        ({"prompt_tokens": None, "completion_tokens": 3}, None),
        ({"prompt_tokens": 9.0, "completion_tokens": 3.0}, None),
        ({"prompt_tokens": "9", "completion_tokens": "3"}, None),
        ({"prompt_tokens": True, "completion_tokens": 3}, None),
        ({"prompt_tokens": -1, "completion_tokens": 3}, None),
        ({"prompt_tokens": 2**70, "completion_tokens": 3}, None),
        ({"prompt_tokens": [9], "completion_tokens": {}}, None),
        ({"total_tokens": 12}, None),
        ({}, None),
        ([], None),
        (None, None),
        ("12", None),
        (12, None),
    ],
)
def test_reported_usage_of_an_odd_shape_is_not_believed(usage: Any, expected: Usage | None) -> None:
    assert protocol_for(CHAT).reported_usage({"usage": usage}) == expected


GROQ = {"queue_time": 0.1, "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def streamed(*chunks: dict[str, Any]) -> dict[str, Any]:
    accumulator = accumulator_for(CHAT, {})
    accumulator.feed([orjson.dumps(chunk) for chunk in chunks])
    return accumulator.result()


@pytest.mark.parametrize("usage", [{}, {"usage": None}])
def test_usage_within_the_last_chunk_of_groq_is_reported_usage(usage: dict[str, Any]) -> None:
    first = {"choices": [{"index": 0, "delta": {"content": "Hi"}}], "x_groq": {"id": "req_1"}}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "x_groq": {"id": "req_1", "usage": GROQ}}
    body = streamed(first, last | usage)
    assert body["usage"] == GROQ
    assert protocol_for(CHAT).reported_usage(body) == Usage(prompt_tokens=9, completion_tokens=3)


def test_usage_of_groq_in_a_whole_reply_is_reported_usage() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    data = orjson.dumps({"choices": [choice], "x_groq": {"usage": GROQ}})
    assert protocol_for(CHAT).parse_json(data)["usage"] == GROQ


@pytest.mark.parametrize("groq", [None, {}, {"usage": None}, {"usage": 5}, [], "x"])
def test_usage_at_its_own_place_is_kept(groq: Any) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}], "x_groq": groq}
    assert streamed(chunk | {"usage": usage})["usage"] == usage
    assert "usage" not in streamed(chunk)
    assert streamed(chunk | {"usage": usage, "x_groq": {"usage": GROQ}})["usage"] == usage


# ---------------------------------------------------------------- large integers in replies


@pytest.mark.parametrize(
    "number", [2**64, -(2**63) - 1, 12345678901234567890123, 2**64 - 1, 1.5, 0.00012345678901234567]
)
def test_integer_of_any_size_in_a_reply_is_kept(number: Any) -> None:
    choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop", "seed": number}
    accumulator = accumulator_for(CHAT, {})
    accumulator.feed([json.dumps({"choices": [choice], "top": [number]}).encode()])
    body = accumulator.result()
    assert (body["choices"][0]["seed"], body["top"]) == (number, [number])
    whole = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop", "seed": number}]}
    assert protocol_for(CHAT).parse_json(json.dumps(whole).encode()) == whole
