"""Rehearsals beside real runs over HTTP: ``python -m tests.benchmarks.rehearsals``. About three minutes.

Each setting is run once against the simulator on a loopback port, and then rehearsed with five seeds, whose means are
shown as ratios to the run. Real time takes part: on a busy machine the runs are late.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from processor.simulator.faults import Faults
from processor.simulator.settings import SimulatorSettings
from tests.benchmarks.measure import show
from tests.support.cli_world import Server, Shell, chat_job

LIMITED = {"rpm": 6000, "tpm": 10**7}
SETTINGS: tuple[tuple[str, dict[str, int], str, int], ...] = (
    ("--concurrency 1", {}, "", 30),
    ("--concurrency 2", {}, "", 60),
    ("--concurrency 4", {}, "", 100),
    ("--concurrency 8", {}, "", 200),
    ("--rpm 600", LIMITED, "", 80),
    ("--rpm 300", LIMITED, "", 40),
    ("--rpm 1200", LIMITED, "", 150),
    ("--tpm 60000", LIMITED, "", 50),
    ("--concurrency 4", {}, "error_500=0.05", 100),
    ("--rpm 600 --concurrency 8", LIMITED, "", 80),
)
SEEDS = 5


def measure(flags: str, limits: dict[str, int], faults: str, jobs: int) -> tuple[float, float, float]:
    """The time, the requests and the reply tokens of the rehearsals, each as a ratio to the run."""
    settings = SimulatorSettings(
        first_token_s=0.1,
        first_token_jitter=0.0,
        speed_tps=100.0,
        reply_tokens=(10, 40),
        faults=Faults.parse(faults),
        rpm=limits.get("rpm"),
        tpm=limits.get("tpm"),
    )
    server = Server(settings)
    with tempfile.TemporaryDirectory() as name:
        shell = Shell(Path(name))
        shell.environ |= {"OPENAI_BASE_URL": server.base_url}
        try:
            shell.write("jobs.jsonl", *(chat_job(f"j{at}", max_tokens=100) for at in range(jobs)))
            run = shell("jobs.jsonl", "--out", "r.jsonl", "--quiet", "--summary-json", "s.json", *flags.split())
            assert run.code == 0, run.err
            real: dict[str, Any] = json.loads((shell.folder / "s.json").read_text())
            wanted = ("rehearse", "jobs.jsonl", "--like", "r.jsonl", "--json", *flags.split())
            wanted += ("--faults", faults) if faults else ()
            plays = [json.loads(shell(*wanted, "--seed", str(seed)).out) for seed in range(SEEDS)]
        finally:
            shell.close()
            server.close()
    return (
        mean(play["seconds"] for play in plays) / real["elapsed_s"],
        mean(play["requests"] for play in plays) / real["attempts"],
        mean(play["tokens"]["completion"] for play in plays) / real["tokens"]["used"]["completion"],
    )


def main() -> None:
    rows = []
    for flags, limits, faults, jobs in SETTINGS:
        ratios = measure(flags, limits, faults, jobs)
        rows.append([f"{flags} {faults}".strip(), str(jobs), *(f"{ratio:.3f} x" for ratio in ratios)])
    show("Rehearsals, as ratios to the run", ["setting", "jobs", "time", "requests", "reply tokens"], rows)


if __name__ == "__main__":
    main()
