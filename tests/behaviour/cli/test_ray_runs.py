"""Runs in a real Ray cluster of three nodes: workers, nodes and the driver are killed in the middle.

They take minutes, and need the extra ``ray``, which CI does not install: ``pytest -m ray``.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from math import inf
from pathlib import Path

import pytest

from processor.simulator.settings import SimulatorSettings
from tests.support.cli_world import KEY, ProgramResult, Server, Shell, chat_jobs, wait_until
from tests.support.ray_cluster import RayCluster

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"),
]

StartServer = Callable[[SimulatorSettings], Server]

TWO_SECONDS = SimulatorSettings(first_token_s=2.0, first_token_jitter=0.0, speed_tps=inf, canned=True)
JOBS = 300
COMMAND = ("jobs.jsonl", "--out", "r.jsonl", "--config", "ray.toml", "--workers", "2", "--concurrency", "100")


@pytest.fixture
def run_in(shell: Shell, cluster: RayCluster) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts the run of 300 jobs in the cluster."""
    shell.write("jobs.jsonl", *chat_jobs(JOBS))
    (shell.folder / "ray.toml").write_text(f'[ray]\naddress = "{cluster.address}"\nresources = {{w = 1}}\n')
    shell.environ |= {"PYTHONWARNINGS": "", "RAY_TMPDIR": str(cluster.folder)}
    return lambda *more: shell.start(*COMMAND, *more)


def workers() -> list[int]:
    found = subprocess.run(["pgrep", "-f", "^ray::RayActor"], check=False, capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def assert_every_job_has_one_row(shell: Shell) -> None:
    assert sorted(row["custom_id"] for row in shell.rows("r.jsonl")) == sorted(job["id"] for job in chat_jobs(JOBS))


def end(shell: Shell, run: subprocess.Popen[bytes]) -> ProgramResult:
    return shell.end(run, timeout_s=300)


def test_killed_worker_costs_what_it_had_in_flight(
    shell: Shell, start_server: StartServer, run_in: Callable[..., subprocess.Popen[bytes]]
) -> None:
    server = start_server(TWO_SECONDS)
    run = run_in("--summary-json", "s.json")
    wait_until(lambda: shell.row_count("r.jsonl") >= 80, within_s=120)
    os.kill(workers()[0], signal.SIGKILL)
    result = end(shell, run)
    assert result.code == 0, result.err
    assert_every_job_has_one_row(shell)
    (lost,) = [worker for worker in shell.rows("s.json")[0]["workers"] if worker["reason"]]
    assert 0 < lost["lost_requests"] <= 60
    assert len(server.requests) == JOBS + lost["lost_requests"]
    assert server.provider.billing.completed - JOBS <= lost["lost_requests"]
    assert "1 lost, with " in result.row("workers")


def test_node_that_is_removed_and_one_that_is_added_in_the_middle(
    shell: Shell, start_server: StartServer, cluster: RayCluster, run_in: Callable[..., subprocess.Popen[bytes]]
) -> None:
    server = start_server(TWO_SECONDS)
    run = run_in("--summary-json", "s.json")
    wait_until(lambda: shell.row_count("r.jsonl") >= 80, within_s=120)
    cluster.ask("remove")
    cluster.ask("add")
    result = end(shell, run)
    assert result.code == 0, result.err
    assert_every_job_has_one_row(shell)
    lost = sum(worker["lost_requests"] for worker in shell.rows("s.json")[0]["workers"])
    assert len(server.requests) <= JOBS + lost


def test_killed_driver_goes_on_where_it_was(
    shell: Shell, start_server: StartServer, run_in: Callable[..., subprocess.Popen[bytes]]
) -> None:
    server = start_server(TWO_SECONDS)
    run = run_in()
    wait_until(lambda: shell.row_count("r.jsonl") >= 80, within_s=120)
    run.kill()
    end(shell, run)
    wait_until(lambda: not workers(), within_s=60)  # they end with their driver
    result = end(shell, run_in())
    assert result.code == 0, result.err
    assert_every_job_has_one_row(shell)
    assert len(server.requests) <= JOBS + 100


def test_interrupted_run_ends_its_workers_and_can_be_resumed(
    shell: Shell, start_server: StartServer, run_in: Callable[..., subprocess.Popen[bytes]]
) -> None:
    server = start_server(TWO_SECONDS)
    run = run_in()
    wait_until(lambda: shell.row_count("r.jsonl") >= 80, within_s=120)
    run.send_signal(signal.SIGINT)
    assert end(shell, run).code == 130
    wait_until(lambda: not workers(), within_s=60)
    assert len(server.requests) == shell.row_count("r.jsonl")  # those in flight were given time
    assert end(shell, run_in()).code == 0
    assert_every_job_has_one_row(shell)
    assert len(server.requests) == JOBS


def test_limit_is_kept_and_used(
    shell: Shell, start_server: StartServer, run_in: Callable[..., subprocess.Popen[bytes]]
) -> None:
    server = start_server(replace(TWO_SECONDS, first_token_s=0.2, rpm=1200, kind="second"))
    result = end(shell, run_in())
    assert result.code == 0, result.err
    assert_every_job_has_one_row(shell)
    assert Counter(request["status"] for request in server.requests) == {200: JOBS}


def test_key_is_in_nothing_that_ray_keeps(
    shell: Shell, start_server: StartServer, cluster: RayCluster, run_in: Callable[..., subprocess.Popen[bytes]]
) -> None:
    server = start_server(replace(TWO_SECONDS, first_token_s=0.1, auth="required"))
    result = end(shell, run_in())
    assert result.code == 0, result.err
    assert len(server.requests) == JOBS
    files = [path for path in Path(cluster.folder).rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    values = bytes.fromhex(cluster.ask("values")["values"])
    assert len(values) > 100
    assert KEY.encode() not in values


def test_workers_of_another_version_are_not_used(
    shell: Shell, start_server: StartServer, run_in: Callable[..., subprocess.Popen[bytes]]
) -> None:
    server = start_server(TWO_SECONDS)
    (shell.folder / "sitecustomize.py").write_text(
        "import sys\n"
        "if sys.argv[:1] == ['-m']:\n"
        "    import processor.cluster.worker_pool as pool\n"
        "    pool.sources_digest = lambda: 'another'\n"
    )
    shell.environ["PYTHONPATH"] = os.pathsep.join((str(shell.folder), shell.environ["PYTHONPATH"]))
    result = end(shell, run_in())
    assert result.code == 3, result.err
    assert "no worker can be used: " in result.err
    assert "has another version of processor" in result.err
    assert server.requests == []


def test_cluster_of_its_own_ends_with_the_run(shell: Shell) -> None:
    shell.write("jobs.jsonl", *chat_jobs(20))
    shell.environ |= {"PYTHONWARNINGS": ""}
    result = end(shell, shell.start("jobs.jsonl", "--simulate", "--ray", "local", "--workers", "1"))
    assert result.code == 0, result.err
    assert result.row("workers") == "1, with 20 requests each"
    assert workers() == []
