"""Published prices: the flat tariffs give the costs of the library that they are read from."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from processor.core.models import BilledUsage
from processor.cost.price_list import look_up_published
from processor.cost.published_prices import published_tariff
from processor.cost.tariff import tariff_from_json
from tests.support.packages import package

genai_prices: Any = package("genai_prices")

ADDRESSES = {
    "https://api.openai.com/v1": (
        "gpt-4o gpt-4o-mini gpt-4.1 gpt-4.1-mini gpt-4.1-nano gpt-5 gpt-5-mini o1 o3-mini o4-mini "
        "text-embedding-3-small text-embedding-3-large"
    ),
    "https://api.anthropic.com/v1": (
        "claude-sonnet-4-5 claude-opus-4-1 claude-haiku-4-5 claude-3-5-haiku-latest claude-3-haiku-20240307"
    ),
    "https://generativelanguage.googleapis.com/v1beta/openai": "gemini-2.5-pro gemini-2.5-flash gemini-2.0-flash",
    "https://api.deepseek.com": "deepseek-chat deepseek-reasoner",
    "https://api.mistral.ai/v1": "mistral-large-latest mistral-small-latest codestral-latest",
    "https://api.groq.com/openai/v1": "llama-3.1-8b-instant llama-3.3-70b-versatile",
    "https://api.x.ai/v1": "grok-3 grok-3-mini grok-4-0709",
}
MODELS = [(address, model) for address, models in ADDRESSES.items() for model in models.split()]
USAGES = 20


def test_thirty_models_are_compared() -> None:
    assert len(MODELS) == 30


@pytest.mark.parametrize(("address", "model"), MODELS)
def test_tariff_gives_the_cost_of_the_library(address: str, model: str) -> None:
    found = published_tariff(address, model)
    assert found is not None
    tariff = tariff_from_json(json.loads(json.dumps(found)))
    draw = random.Random(model)
    for _ in range(USAGES):
        prompt = draw.choice((draw.randrange(1, 5_000), draw.randrange(150_000, 300_000), 200_000, 200_001))
        cached = draw.choice((0, draw.randrange(prompt + 1)))
        written = draw.choice((0, draw.randrange(prompt - cached + 1)))
        completion = draw.randrange(10_000)
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=draw.randrange(300 * 86_400))
        usage = genai_prices.Usage(
            input_tokens=prompt,
            cache_read_tokens=cached,
            cache_write_tokens=written,
            output_tokens=completion,
        )
        expected = genai_prices.calc_price(
            usage, model, provider_api_url=address, genai_request_timestamp=moment
        ).total_price
        billed = BilledUsage(
            prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, cache_write_tokens=written
        )
        assert tariff.cost_usd(billed, moment.timestamp()) == expected


@pytest.mark.parametrize(
    ("address", "model"),
    [
        ("http://localhost:8000/v1", "gpt-4o-mini"),
        ("https://llm.example.org/v1", "gpt-4o-mini"),
        ("https://api.openai.com/v1", "no-such-model"),
    ],
)
def test_no_price_is_guessed_from_the_name_of_a_model(address: str, model: str) -> None:
    assert published_tariff(address, model) is None


@pytest.mark.process
def test_child_process_answers_for_each_address_and_model() -> None:
    asked = [("https://api.openai.com/v1", "gpt-4o-mini"), ("https://llm.example.org/v1", "gpt-4o-mini")]
    known, unknown = asyncio.run(look_up_published(asked))
    assert unknown is None
    assert known is not None
    assert known.cost_usd(BilledUsage(prompt_tokens=1_000_000, completion_tokens=0), 0.0) is not None
