"""The most tokens that a request can be billed for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from processor.core.models import JSON, Job, Usage
from processor.core.token_bounds import TokenBounds
from processor.protocols import protocol_for
from processor.protocols.token_bounds import HIDDEN_TOKENS, HIDDEN_TOOL_TOKENS, MIN_REPLIES, TokenRatios, token_bounds
from processor.tokens.counter import TokenCounter

CHAT = "/v1/chat/completions"
KNOWN, UNKNOWN = "gpt-4o-mini", "my-model"
COUNTER = TokenCounter(None, asyncio.to_thread)
COUNTER.load_now(KNOWN)
TEXT = "Tōkyō ist groß, 東京は大きい. " * 20


def bounds(body: JSON, path: str = CHAT, model: str = UNKNOWN, ratios: TokenRatios | None = None) -> TokenBounds:
    job = Job(line=1, custom_id="a", fingerprint="0" * 32, path=path, model=model, body={"model": model, **body})
    protocol, counter = protocol_for(path), COUNTER.for_model(model)
    return token_bounds(protocol.request_size(job, counter), job, protocol, counter, ratios or TokenRatios())


def chat(text: str = TEXT, **more: Any) -> JSON:
    return {"messages": [{"role": "user", "content": text}], **more}


def test_prompt_that_is_counted_exactly_is_its_own_bound() -> None:
    counted = COUNTER.for_model(KNOWN).count_text(TEXT)
    assert counted < bounds(chat(), model=KNOWN).prompt_tokens < counted + 20


def test_prompt_that_is_not_has_a_token_for_each_byte() -> None:
    found = bounds(chat()).prompt_tokens
    assert len(TEXT.encode()) + HIDDEN_TOKENS <= found <= len(TEXT.encode()) + HIDDEN_TOKENS + 20


def test_tools_leave_room_for_what_the_server_adds() -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    added = bounds(chat(tools=tools)).prompt_tokens - bounds(chat()).prompt_tokens
    assert added >= HIDDEN_TOOL_TOKENS + len('{"type":"function"}')


def test_ratio_of_enough_replies_bounds_a_prompt() -> None:
    ratios = TokenRatios()
    body = chat("word " * 1000)
    computed = protocol_for(CHAT).count_prompt(body, COUNTER.for_model(UNKNOWN)).tokens
    before = bounds(body).prompt_tokens
    for number in range(MIN_REPLIES):
        assert bounds(body, ratios=ratios).prompt_tokens == before
        ratios.learn(UNKNOWN, Usage(prompt_tokens=150 if number == 7 else 100, completion_tokens=1), 100)
    assert bounds(body, ratios=ratios).prompt_tokens == pytest.approx(computed * 1.5 * 1.1, abs=1)
    assert bounds(body, model="another").prompt_tokens == before


def test_server_that_counts_more_than_tiktoken_corrects_the_exact_count() -> None:
    ratios = TokenRatios()
    exact = bounds(chat(), model=KNOWN).prompt_tokens
    ratios.learn(KNOWN, Usage(prompt_tokens=102, completion_tokens=1), 100)
    assert bounds(chat(), model=KNOWN, ratios=ratios).prompt_tokens >= exact * 1.02


def test_output_is_bounded_by_the_job_for_each_choice() -> None:
    found = bounds(chat(max_tokens=70, n=3))
    assert (found.output_tokens, found.choices) == (70, 3)
    assert bounds(chat()).output_tokens is None
    embedding = bounds({"input": "text"}, "/v1/embeddings")
    assert (embedding.output_tokens, embedding.unknown) == (0, None)
    best = bounds({"prompt": ["a", "b"], "max_tokens": 5, "best_of": 4}, "/v1/completions")
    assert (best.output_tokens, best.choices) == (5, 8)


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [{"role": "user", "content": [IMAGE]}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]}]}),
        (CHAT, chat(web_search_options={"search_context_size": "low"})),
        (CHAT, chat(prediction={"type": "content", "content": "x"})),
        (CHAT, chat(service_tier="priority")),
        (CHAT, chat(audio={"voice": "a", "format": "wav"})),
        ("/v1/responses", {"input": "x", "tools": [{"type": "web_search"}]}),
        ("/v1/responses", {"input": "x", "previous_response_id": "resp_1"}),
        ("/v1/responses", {"prompt": {"id": "pmpt_1"}}),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}),
        (
            "/v1/messages",
            {**chat("x"), "max_tokens": 5, "tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        ),
    ],
)
def test_what_the_server_adds_or_prices_apart_has_no_bound(path: str, body: JSON) -> None:
    assert bounds(body, path).unknown is not None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat(tools=[{"type": "function", "function": {"name": "f"}}], response_format={"type": "json_object"})),
        ("/v1/responses", {"input": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "name": "f"}]}),
        ("/v1/messages", {**chat("x"), "max_tokens": 5, "system": "y", "tools": [{"name": "f", "input_schema": {}}]}),
        ("/v1/moderations", {"input": ["a", "b"]}),
    ],
)
def test_usual_requests_have_a_bound(path: str, body: JSON) -> None:
    assert bounds(body, path).unknown is None
