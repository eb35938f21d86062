"""``processor.ray.Ask``: what it adds to a batch, and how its actors share one session."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any, cast

import pytest

import processor
from processor.core.errors import ConfigError
from processor.ray import Ask, SharedSession
from processor.ray.shared_session import SessionActor
from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import ROOT, Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(INSTANT)
    yield server
    server.close()


@pytest.fixture
def make_server() -> Iterator[Callable[[SimulatorSettings], Server]]:
    servers: list[Server] = []

    def make(settings: SimulatorSettings) -> Server:
        servers.append(Server(settings))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


async def ask(server: Server, *batches: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Pass batches to an actor of Ask, whose session is here."""
    settings = processor.Settings(base_url=server.base_url, model="m")
    actor = SessionActor(settings, None)
    asking = Ask(cast(SharedSession, actor), **more)
    try:
        return [answer for batch in batches async for answer in asking(batch)]
    finally:
        assert actor._session is not None
        await actor._session.__aexit__(None, None, None)
        actor._fd_limit.__exit__(None, None, None)


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


def test_dataset_without_jobs_is_a_mistake(server: Server) -> None:
    asking = Ask(cast(SharedSession, None))

    async def main() -> None:
        with pytest.raises(ConfigError, match="the dataset has no column 'job': add it, or give job_of="):
            await anext(asking({"prompt": ["Hi"]}))

    asyncio.run(main())


PROGRAM = """
import json, sys
import processor, ray
from processor.ray import Ask, start_session

base_url, journal = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, address="local", log_to_driver=False)
settings = processor.Settings(base_url=base_url, model="m", limits=processor.Limits(rpm=600))
session = start_session(settings, journal=journal, num_cpus=0.5)
dataset = ray.data.from_items([{"job": {"id": f"q{n}", "prompt": f"q{n}"}} for n in range(100)], override_num_blocks=5)
for _ in range(2):
    rows = dataset.map_batches(
        Ask, fn_constructor_kwargs={"session": session}, batch_size=20, concurrency=2, num_cpus=0.25
    ).take_all()
    print(json.dumps([len({row["row"] for row in rows}), sum(row["error"] is None for row in rows)]))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(find_spec("ray") is None or find_spec("pyarrow") is None, reason="ray[data] is not installed")
def test_actors_of_a_dataset_share_a_limit_and_a_journal(tmp_path: Path, make_server: Callable[..., Server]) -> None:
    server = make_server(SimulatorSettings(rpm=600, kind="second", first_token_s=0.2, speed_tps=inf, canned=True))
    command = [sys.executable, "-c", PROGRAM, server.base_url, str(tmp_path / "r.jsonl")]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=300)
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith("[")]
    assert lines == ["[100, 100]", "[100, 100]"]
    assert [request["status"] for request in server.requests] == [200] * 100
