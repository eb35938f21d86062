"""What jobs reserve of a token limit that were read long before they are sent: as much as is known when they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil
from typing import TypeVar

import pytest

from processor.core.events import AttemptStarted
from processor.core.models import JSON
from processor.core.text import CHARS_PER_TOKEN
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.simulator.settings import SimulatorSettings
from tests.support.scheduler_world import World, short_job

T = TypeVar("T")
LOADED_AFTER_S = 1.5
MAX_TOKENS = 10
SERVER = SimulatorSettings(first_token_s=0.5, first_token_jitter=0.0, reply_tokens=(20, 24))
"""It announces no limit."""


async def slowly(work: Callable[[], T]) -> T:
    await asyncio.sleep(LOADED_AFTER_S)
    return work()


def more_tokens_than_characters_show(count: int) -> list[JSON]:
    """Jobs whose prompts have nearly a token for each character, at four of which the estimate takes one."""
    return [short_job(at, prompt="7%" * (20 + at % 7), max_tokens=MAX_TOKENS) for at in range(count)]


def test_jobs_that_wait_are_counted_once_the_encoding_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.scheduler_world.inline", slowly)
    world, jobs = World(SERVER), more_tokens_than_characters_show(60)
    limits = LimitSettings(default=RateLimits(tpm=1500))
    run = world.run(jobs, limits=limits, concurrency=50)
    assert run.exit_code == 0
    exact = {row["custom_id"]: row["usage"]["prompt_tokens"] + MAX_TOKENS for row in world.rows()}
    started: list[AttemptStarted] = run.events_of(AttemptStarted)
    assert started[0].tokens < exact[started[0].custom_id], "estimated"
    later = [event for event in started if event.at > LOADED_AFTER_S + 0.1]
    assert len(later) > 50
    assert [event.tokens for event in later] == [exact[event.custom_id] for event in later]
    for event in later:
        in_window = [one for one in later if event.at <= one.at < event.at + 60]
        assert sum(exact[one.custom_id] for one in in_window) <= 1500


def test_jobs_that_wait_reserve_for_replies_as_long_as_those_known_by_then() -> None:
    world = World(SERVER)
    limits = LimitSettings(default=RateLimits(tpm=3000))
    run = world.run([short_job(at) for at in range(60)], limits=limits, concurrency=50)
    assert run.exit_code == 0
    assert run.took_s < 60, "60 replies of 256 tokens, as is assumed before one is known, would take five minutes"


def test_a_limit_that_counts_characters_reserves_the_larger_of_prompt_and_reply() -> None:
    world = World(SERVER)
    limits = LimitSettings(default=RateLimits(tpm=6000), charging="larger")
    jobs = [short_job(at, prompt="7%" * (4 + 20 * at), max_tokens=MAX_TOKENS) for at in range(5)]
    run = world.run(jobs, limits=limits, concurrency=50)
    assert run.exit_code == 0
    by_characters = [ceil((len("user") + 2 * (4 + 20 * at)) / CHARS_PER_TOKEN) for at in range(5)]
    started: list[AttemptStarted] = run.events_of(AttemptStarted)
    reserved = {event.custom_id: event.tokens for event in started}
    assert sorted(reserved.values()) == [max(MAX_TOKENS, tokens) for tokens in by_characters]
