"""``processor.ray.Ask`` in a real Ray cluster: programs share a limit, and an actor is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any

import pytest

from processor.simulator.settings import SimulatorSettings
from tests.support.cli_world import ROOT, Server, wait_until
from tests.support.ray_cluster import RayCluster

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.skipif(find_spec("ray") is None or find_spec("pyarrow") is None, reason="ray[data] is not installed"),
]

StartServer = Callable[[SimulatorSettings], Server]
StartProgram = Callable[..., subprocess.Popen[bytes]]

PROGRAM = """
import json, sys
import processor, ray
from processor.config.price_settings import ModelPrices
from processor.ray import Ask

address, base_url, name, count, more = sys.argv[1:]
more = json.loads(more)
ray.init(address=address, log_to_driver=False)
settings = processor.Settings(
    base_url=base_url,
    api_key_env=more.get("key"),
    limits=processor.Limits(rpm=more.get("rpm")),
    concurrency=more.get("concurrency", "auto"),
    max_cost_usd=more.get("max_cost"),
    prices={name: ModelPrices(input=0.0, output=1000.0)},
)
model = name if more.get("max_cost") else name + "-{}"
jobs = [
    {"job": {"id": f"{name}-{n}", "model": model.format(n), "prompt": "Hi", "max_tokens": 20}}
    for n in range(int(count))
]
rows = ray.data.from_items(jobs, override_num_blocks=10).map_batches(
    Ask,
    fn_constructor_kwargs={"settings": settings, "journal": more.get("journal")},
    batch_size=20,
    concurrency=2,
    num_cpus=0.25,
).take_all()
found = [json.loads(row["row"]) for row in rows]
print(json.dumps([len({row["custom_id"] for row in found}), sum(row["error"] is None for row in found)]))
"""


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    servers: list[Server] = []

    def start(settings: SimulatorSettings) -> Server:
        servers.append(Server(settings))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def start_program(cluster: RayCluster) -> Iterator[StartProgram]:
    """Starts a program: its server, the name and number of its jobs, and the settings that it has."""
    programs: list[subprocess.Popen[bytes]] = []
    environ = {**os.environ, "RAY_TMPDIR": str(cluster.folder), "PYTHONWARNINGS": ""}

    def start(server: Server, name: str, count: int, **more: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, cluster.address, server.base_url, name, str(count), json.dumps(more)]
        programs.append(subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
        program.communicate()


def answered(program: subprocess.Popen[bytes]) -> list[int]:
    """Return how many jobs have a row, and how many a reply, once the program has ended."""
    out, _ = program.communicate(timeout=300)
    assert program.returncode == 0
    found: list[int] = json.loads([line for line in out.decode().splitlines() if line.startswith("[")][-1])
    return found


def test_two_programs_share_a_limit(start_server: StartServer, start_program: StartProgram) -> None:
    """Each for itself would send a minute's limit at once."""
    server = start_server(SimulatorSettings(rpm=300, kind="minute", first_token_s=0.2, speed_tps=inf, canned=True))
    programs = [start_program(server, name, 300, rpm=300) for name in "ab"]
    assert [answered(program) for program in programs] == [[300, 300]] * 2
    assert Counter(request["status"] for request in server.requests) == {200: 600}
    times = [request["at"] for request in server.requests]
    share_used = (600 - 300) / (300 / 60) / (max(times) - min(times))
    assert 0.95 <= share_used <= 1.01
    both = [request["model"][0] for request in server.requests[350:550]]
    assert min(both.count(name) for name in "ab") > 20  # they ran at the same time


def test_two_programs_share_a_budget(start_server: StartServer, start_program: StartProgram, tmp_path: Path) -> None:
    server = start_server(SimulatorSettings(first_token_s=0.5, speed_tps=inf, reply_tokens=(5, 15)))
    programs = [start_program(server, name, 300, max_cost=2.0, journal=str(tmp_path)) for name in "ab"]
    for program in programs:
        program.communicate(timeout=300)
        assert program.returncode == 1  # RunStopped
    assert 1.8 <= server.provider.billing.completion_tokens / 1000 <= 2.0
    assert {request["model"] for request in server.requests} == {"a", "b"}


def test_killed_actor_costs_what_it_had_in_flight(
    start_server: StartServer, start_program: StartProgram, tmp_path: Path
) -> None:
    server = start_server(SimulatorSettings(first_token_s=1.0, first_token_jitter=0.5, speed_tps=inf, canned=True))
    journal = tmp_path / "journal"
    earlier = actors()
    program = start_program(server, "k", 400, journal=str(journal), concurrency=30)
    wait_until(lambda: len(ids_in(journal)) >= 150, within_s=200)
    asking = actors() - earlier
    assert len(asking) == 2
    os.kill(asking.pop(), signal.SIGKILL)
    before = ids_in(journal)
    assert answered(program) == [400, 400]
    assert len(ids_in(journal)) == 400
    again = {name for name, count in Counter(request["model"] for request in server.requests).items() if count > 1}
    assert again.isdisjoint(before)
    assert len(again) <= 30 + 5
    assert server.provider.billing.completed <= 400 + 30


def test_dataset_is_answered_from_the_journal_of_an_earlier_program(
    start_server: StartServer, start_program: StartProgram, tmp_path: Path
) -> None:
    server = start_server(SimulatorSettings(first_token_s=0.1, speed_tps=inf, canned=True))
    for _ in range(2):
        assert answered(start_program(server, "j", 100, journal=str(tmp_path))) == [100, 100]
    assert len(server.requests) == 100


def test_key_is_in_nothing_that_ray_keeps(
    cluster: RayCluster, start_server: StartServer, start_program: StartProgram, tmp_path: Path
) -> None:
    settings = SimulatorSettings(first_token_s=0.1, speed_tps=inf, canned=True, auth="required")
    server = start_server(settings)
    program = start_program(server, "key", 50, journal=str(tmp_path), key="RAY_TEST_KEY")
    assert answered(program) == [50, 50]
    assert Counter(request["status"] for request in server.requests) == {200: 50}
    assert cluster.places_of(cluster.key) == []
    assert [path for path in tmp_path.iterdir() if cluster.key.encode() in path.read_bytes()] == []


def actors() -> set[int]:
    """The processes of all actors of Ask."""
    found = subprocess.run(["pgrep", "-f", "^ray::.*Ask"], check=False, capture_output=True, text=True)
    return {int(line) for line in found.stdout.split()}


def ids_in(journal: Path) -> set[str]:
    lines = [line for path in journal.glob("journal-?.jsonl") for line in path.read_bytes().split(b"\n")[:-1]]
    return {json.loads(line)["custom_id"] for line in lines}
