"""``processor.ray.Ask``: what it adds to a batch. Here its limiter is in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

import processor
from processor.core.errors import ConfigError
from processor.core.models import Target
from processor.core.secrets import Secret
from processor.ray import Ask
from processor.ray.limiter_actor import limiter_name
from processor.simulator.settings import INSTANT
from tests.support.cli_world import Server
from tests.support.shared_limits_world import LimiterCluster


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(INSTANT)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.ray.ask._connect", lambda *args: LimiterCluster().connect(*args))
    monkeypatch.setattr("processor.ray.ask._program", lambda: "test")


async def ask(server: Server, *batches: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Pass batches to an actor of Ask."""
    asking = Ask(processor.Settings(base_url=server.base_url, model="m"), **more)
    try:
        return [answer for batch in batches async for answer in asking(batch)]
    finally:
        await asking._shared.close()
        asking._fd_limit.__exit__(None, None, None)


def test_batch_gets_a_reply_an_error_and_a_row_for_each_job(server: Server) -> None:
    batch = {"job": [{"id": "a", "prompt": "Hi"}, '{"id": "b", "prompt": "Ho"}', {"id": "c"}], "n": [1, 2, 3]}
    (answer,) = asyncio.run(ask(server, batch))
    assert answer["n"] == [1, 2, 3]
    assert [bool(reply) for reply in answer["reply"]] == [True, True, False]
    assert answer["error"] == [None, None, "invalid_job"]
    assert [json.loads(row)["custom_id"] for row in answer["row"]] == ["a", "b", "c"]


def test_job_is_made_of_the_columns(server: Server) -> None:
    batch = {"question": ["Why?"], "n": [7]}
    (answer,) = asyncio.run(ask(server, batch, job_of=lambda row: {"id": f"q{row['n']}", "prompt": row["question"]}))
    assert json.loads(answer["row"][0])["custom_id"] == "q7"


def test_dataset_without_jobs_is_a_mistake() -> None:
    async def main() -> None:
        asking = Ask(processor.Settings(base_url="http://127.0.0.1:9/v1"))
        with pytest.raises(ConfigError, match="the dataset has no column 'job': add it, or give job_of="):
            await anext(asking({"prompt": ["Hi"]}))
        asking._fd_limit.__exit__(None, None, None)

    asyncio.run(main())


def test_name_of_a_limiter_tells_keys_apart_and_holds_none() -> None:
    keys = ("a" * 20, "b" * 20)
    targets = [
        Target(base_url="https://api.example.com/v1"),
        *(Target(base_url="https://api.example.com/v1", key=Secret(key)) for key in keys),
        Target(base_url="https://other.example.com/v1", key=Secret(keys[0])),
    ]
    names = [limiter_name(target) for target in targets]
    assert len(set(names)) == len(targets)
    assert not any(key in name for key in keys for name in names)
    assert limiter_name(targets[1], ("print-key",)) == limiter_name(targets[2], ("print-key",))
