"""Runs in a real Ray cluster of three nodes: workers, nodes and the driver are killed in the middle.

They take minutes, and need the extra ``ray``, which CI installs only with ``RAY=1``: ``pytest -m ray``.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from math import inf

import pytest

from processor.simulator.rate_limiter import LIMITER_KINDS, LimiterKind
from processor.simulator.settings import Outage, SimulatorSettings
from tests.support.cli_world import ProgramResult, Server, Shell, chat_jobs, wait_until
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
RPM: dict[LimiterKind, int] = {"sliding": 200, "minute": 200, "second": 1200, "quantised": 1200, "silent": 250}
BURST: dict[LimiterKind, float] = {"minute": 1.0, "second": 1 / 60, "quantised": 1 / 60, "silent": 0.0}
"""The share of a minute's limit that may be sent at once."""
BUSY_S = 5.0
"""What a machine that is busy with other work may add: the exact bound is tested on the virtual clock."""
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


@pytest.mark.parametrize("kind", LIMITER_KINDS)
def test_limit_is_kept_and_used(
    shell: Shell, start_server: StartServer, run_in: Callable[..., subprocess.Popen[bytes]], kind: LimiterKind
) -> None:
    server = start_server(replace(TWO_SECONDS, first_token_s=0.2, rpm=RPM[kind], kind=kind))
    result = end(shell, run_in("--rpm", str(RPM[kind])))
    assert result.code == 0, result.err
    assert_every_job_has_one_row(shell)
    statuses = Counter(request["status"] for request in server.requests)
    assert statuses[200] == JOBS
    assert statuses[429] <= (16 if kind == "quantised" else 0)  # whose headers promise more than it grants
    took_s = server.requests[-1]["at"] - server.requests[0]["at"]
    least_s = 60.0 if kind == "sliding" else (JOBS - BURST[kind] * RPM[kind]) / (RPM[kind] / 60)
    assert took_s <= 1.02 * least_s + 3.0 + 0.2 + BUSY_S


def test_outage_costs_no_job(
    shell: Shell, start_server: StartServer, run_in: Callable[..., subprocess.Popen[bytes]]
) -> None:
    server = start_server(replace(TWO_SECONDS, first_token_s=1.0))
    run = run_in("--summary-json", "s.json")
    wait_until(lambda: shell.row_count("r.jsonl") >= 80, within_s=120)
    now = server.requests[-1]["at"]
    outage = Outage(from_s=now, to_s=now + 8.0, kind="refuse")
    server.provider.settings = replace(server.provider.settings, outages=(outage,))
    result = end(shell, run)
    assert result.code == 0, result.err
    assert_every_job_has_one_row(shell)
    assert "outage" in result.err
    assert sum(worker["lost_requests"] for worker in shell.rows("s.json")[0]["workers"]) == 0


def test_budget_is_kept_although_a_worker_is_killed(
    shell: Shell, start_server: StartServer, run_in: Callable[..., subprocess.Popen[bytes]]
) -> None:
    server = start_server(replace(TWO_SECONDS, first_token_s=1.0, reply_tokens=(5, 15), canned=False))
    with (shell.folder / "ray.toml").open("a") as settings:
        settings.write('[prices."gpt-4o-mini"]\ninput = 0\noutput = 1000\n')  # at most 0.02 USD a job
    run = run_in("--max-cost", "2")
    wait_until(lambda: shell.row_count("r.jsonl") >= 40, within_s=120)
    os.kill(workers()[0], signal.SIGKILL)
    stopped = end(shell, run)
    assert (stopped.code, "the budget of 2.00" in stopped.row("stopped")) == (3, True), stopped.err
    assert 1.0 < server.provider.billing.completion_tokens / 1000 <= 2.0
    assert end(shell, run_in("--max-cost", "20")).code == 0
    assert_every_job_has_one_row(shell)


def test_key_is_in_nothing_that_ray_keeps(
    shell: Shell, start_server: StartServer, cluster: RayCluster, run_in: Callable[..., subprocess.Popen[bytes]]
) -> None:
    key = secrets.token_hex(24)
    server = start_server(replace(TWO_SECONDS, first_token_s=0.1, auth="required"))
    shell.environ["OPENAI_API_KEY"] = key
    result = end(shell, run_in())
    assert result.code == 0, result.err
    assert Counter(request["status"] for request in server.requests) == {200: JOBS}
    assert cluster.places_of(key) == []


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
