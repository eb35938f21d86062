from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from processor.core.errors import ConfigError
from processor.protocols import protocol_for
from processor.tokens import encoding_files
from processor.tokens.counter import TokenCounter
from processor.tokens.rules import TokenCount
from tests.support.protocol_jobs import CHAT

BODY = {"messages": [{"role": "user", "name": "Ada", "content": "hello world"}]}


def loaded(*models: str, fallback: str | None = None) -> TokenCounter:
    counter = TokenCounter(fallback, asyncio.to_thread)

    async def load() -> None:
        for model in models:
            await counter.load(model)

    asyncio.run(load())
    return counter


def prompt(counter: TokenCounter, model: str) -> TokenCount:
    return protocol_for(CHAT).count_prompt(BODY, counter.for_model(model))


def reply(counter: TokenCounter, model: str, content: str) -> TokenCount:
    return protocol_for(CHAT).count_reply(
        {"choices": [{"message": {"content": content}}]}, {}, counter.for_model(model)
    )


def test_a_loaded_model_is_counted_exactly() -> None:
    counter = loaded("gpt-4")
    assert counter.is_loaded("gpt-4")
    assert prompt(counter, "gpt-4") == TokenCount(3 + 1 + 2 + 1 + 1 + 3)
    assert reply(counter, "gpt-4", "hello world") == TokenCount(2)


@pytest.mark.parametrize("model", ["gpt-3.5-turbo-0301", "openai/gpt-3.5-turbo-0301"])
def test_the_0301_model_has_its_own_rule_with_or_without_the_name_of_its_provider(model: str) -> None:
    assert prompt(loaded("gpt-3.5-turbo"), model) == TokenCount(4 + 1 + 2 + 1 - 1 + 3)


def test_before_its_encoding_is_loaded_a_model_is_estimated_by_characters_and_marked_so() -> None:
    counter = TokenCounter(None, asyncio.to_thread)
    assert not counter.is_loaded("gpt-4")
    characters = len("user" + "Ada" + "hello world")
    assert prompt(counter, "gpt-4") == TokenCount(-(-characters // 4) + 3 + 3, ("not_loaded",))
    assert reply(counter, "gpt-4", "123456789") == TokenCount(3, ("not_loaded",))


def test_an_unknown_model_is_counted_with_the_fallback_encoding_and_marked_so() -> None:
    counter = loaded("some-llama")
    assert counter.is_loaded("another-llama")
    assert not counter.is_loaded("gpt-4")
    assert prompt(counter, "some-llama").estimate_reasons == ("unknown_model",)
    assert reply(counter, "some-llama", "") == TokenCount(0, ("unknown_model",))


def test_a_counter_taken_before_the_load_stays_an_estimate_and_a_new_one_is_exact() -> None:
    counter = TokenCounter(None, asyncio.to_thread)
    before = counter.for_model("gpt-4")
    asyncio.run(counter.load("gpt-4"))
    assert not before.is_loaded
    assert counter.for_model("gpt-4").is_loaded


def test_the_fallback_encoding_can_be_configured() -> None:
    counter = loaded("some-llama", fallback="cl100k_base")
    assert counter.is_loaded("gpt-4")


def test_a_fallback_encoding_that_does_not_exist_raises_a_config_error() -> None:
    with pytest.raises(ConfigError, match="unknown encoding"):
        TokenCounter("gpt-4o", asyncio.to_thread)


@pytest.mark.parametrize("model", ["", "4", "['gpt-4']", "None"])
def test_a_string_that_names_no_model_is_an_unknown_model(model: str) -> None:
    assert prompt(loaded("gpt-4o"), model).estimate_reasons == ("unknown_model",)


def test_concurrent_callers_share_one_load() -> None:
    loads: list[Callable[[], Any]] = []

    async def run_in_thread(work: Callable[[], Any]) -> Any:
        loads.append(work)
        await asyncio.sleep(0)
        return work()

    async def main() -> None:
        counter = TokenCounter(None, run_in_thread)
        await asyncio.gather(*(counter.load("gpt-4") for _ in range(5)))
        await counter.load("gpt-4-0613")

    asyncio.run(main())
    assert len(loads) == 1


def test_a_cancelled_load_does_not_block_the_next_one() -> None:
    async def run_in_thread(work: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return work()

    async def main() -> bool:
        counter = TokenCounter(None, run_in_thread)
        first = asyncio.ensure_future(counter.load("gpt-4"))
        second = asyncio.ensure_future(counter.load("gpt-4"))
        await asyncio.sleep(0)
        first.cancel()
        await second
        return counter.is_loaded("gpt-4")

    assert asyncio.run(main())


def test_only_the_encodings_of_used_models_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[str] = []
    load = encoding_files.load

    def recording_load(encoding: str) -> Any:
        requested.append(encoding)
        return load(encoding)

    monkeypatch.setattr(encoding_files, "load", recording_load)
    loaded("gpt-4", "gpt-3.5-turbo", "openai/gpt-4-turbo")
    assert requested == ["cl100k_base"]
