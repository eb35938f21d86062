from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from processor.core.errors import ConfigError
from processor.tokens import encoding_files
from processor.tokens.counter import TokenCounter
from processor.tokens.rules import TokenCount

CHAT = "/v1/chat/completions"


def body(model: Any = "gpt-4") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "name": "Ada", "content": "hello world"}]}


def loaded(*models: str, fallback: str | None = None) -> TokenCounter:
    counter = TokenCounter(fallback, asyncio.to_thread)

    async def load() -> None:
        for model in models:
            await counter.load(model)

    asyncio.run(load())
    return counter


def test_a_loaded_model_is_counted_exactly() -> None:
    counter = loaded("gpt-4")
    assert counter.ready("gpt-4")
    assert counter.prompt(CHAT, body()) == TokenCount(3 + 1 + 2 + 1 + 1 + 3)
    assert counter.reply(CHAT, "gpt-4", {"choices": [{"message": {"content": "hello world"}}]}) == TokenCount(2)


def test_the_0301_model_has_its_own_rule_however_it_is_spelt() -> None:
    counter = loaded("gpt-3.5-turbo")
    for model in ("gpt-3.5-turbo-0301", "openai/gpt-3.5-turbo-0301"):
        assert counter.prompt(CHAT, body(model)) == TokenCount(4 + 1 + 2 + 1 - 1 + 3)


def test_before_loading_it_goes_by_the_characters_and_says_so() -> None:
    counter = TokenCounter(None, asyncio.to_thread)
    assert not counter.ready("gpt-4")
    assert counter.prompt(CHAT, body()) == TokenCount(counter.guess(body()), ("not_loaded",))
    assert counter.characters(body()) == len("user" + "Ada" + "hello world")
    reply = {"choices": [{"message": {"content": "123456789"}}]}
    assert counter.reply(CHAT, "gpt-4", reply) == TokenCount(3, ("not_loaded",))


def test_an_unknown_model_falls_back_and_says_so() -> None:
    counter = loaded("some-llama")
    assert counter.ready("another-llama")
    assert not counter.ready("gpt-4")
    assert counter.prompt(CHAT, body("some-llama")).estimated == ("unknown_model",)
    assert counter.reply(CHAT, "some-llama", {"choices": []}) == TokenCount(0, ("unknown_model",))


def test_the_fallback_can_be_configured() -> None:
    counter = loaded("some-llama", fallback="cl100k_base")
    assert counter.ready("gpt-4")


def test_a_fallback_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="unknown encoding"):
        TokenCounter("gpt-4o", asyncio.to_thread)


@pytest.mark.parametrize("model", [None, 4, ["gpt-4"], {}])
def test_a_model_that_is_no_name_is_unknown(model: Any) -> None:
    assert loaded("gpt-4o").prompt(CHAT, body(model)).estimated == ("unknown_model",)


def test_callers_at_the_same_time_share_one_load() -> None:
    hops: list[Callable[[], Any]] = []

    async def offload(work: Callable[[], Any]) -> Any:
        hops.append(work)
        await asyncio.sleep(0)
        return work()

    async def main() -> None:
        counter = TokenCounter(None, offload)
        await asyncio.gather(*(counter.load("gpt-4") for _ in range(5)))
        await counter.load("gpt-4-0613")

    asyncio.run(main())
    assert len(hops) == 1


def test_a_load_given_up_does_not_stand_in_the_way_of_the_next() -> None:
    async def offload(work: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return work()

    async def main() -> bool:
        counter = TokenCounter(None, offload)
        first = asyncio.ensure_future(counter.load("gpt-4"))
        second = asyncio.ensure_future(counter.load("gpt-4"))
        await asyncio.sleep(0)
        first.cancel()
        await second
        return counter.ready("gpt-4")

    assert asyncio.run(main())


def test_only_encodings_that_are_met_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    load = encoding_files.load

    def noted(encoding: str) -> Any:
        asked.append(encoding)
        return load(encoding)

    monkeypatch.setattr(encoding_files, "load", noted)
    loaded("gpt-4", "gpt-3.5-turbo", "openai/gpt-4-turbo")
    assert asked == ["cl100k_base"]
