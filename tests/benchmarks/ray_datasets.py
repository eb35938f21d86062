"""``processor.ray.Ask`` beside the HTTP stage of Ray Data: how long 300 requests of one second take.

``python -m tests.benchmarks.ray_datasets [--jobs N] [--actors N] [--repeat N] [KIND ...]``, KIND: ask, auto, http
(default: all). Needs the extra ``ray-data``. The server counts: from its first request to its last reply, and the most
requests at the same time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from itertools import accumulate
from math import inf
from statistics import median

from processor.simulator.settings import SimulatorSettings
from tests.benchmarks.measure import PROGRAMS, REPOSITORY, THIS, show
from tests.support.cli_world import Server

TITLES = {
    "ask": "Ask, concurrency=256",
    "auto": "Ask, concurrency not given",
    "http": "HTTP stage of ray.data.llm",
}
REPLY_S = 1.0


def one_run(kind: str, jobs: int, actors: int) -> tuple[float, int]:
    """Return the seconds from the first request to the last reply, and the most requests in flight."""
    server = Server(
        SimulatorSettings(first_token_s=REPLY_S, first_token_jitter=0.0, speed_tps=inf, reply_tokens=(20, 40))
    )
    try:
        command = [
            sys.executable,
            str(PROGRAMS / "ray_dataset.py"),
            kind,
            server.base_url,
            str(jobs),
            str(actors),
            "256",
        ]
        subprocess.run(command, cwd=REPOSITORY, env={**THIS.environment, "PYTHONWARNINGS": ""}, check=True)
        times = sorted(request["at"] for request in server.requests)
    finally:
        server.close()
    changes = sorted([(at, 1) for at in times] + [(at + REPLY_S, -1) for at in times])
    return times[-1] + REPLY_S - times[0], max(accumulate(change for _, change in changes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*TITLES, []], metavar="KIND")
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    for kind in arguments.kinds or TITLES:
        runs = [one_run(kind, arguments.jobs, arguments.actors) for _ in range(arguments.repeat)]
        took = sorted(seconds for seconds, _ in runs)
        rows.append(
            [
                TITLES[kind],
                f"{median(took):.1f} s ({took[0]:.1f} to {took[-1]:.1f})",
                f"{max(most for _, most in runs)}",
            ]
        )
    show(
        f"{arguments.jobs} requests of {REPLY_S:g} s, {arguments.actors} actors",
        ["", "from the first request to the last reply", "most in flight"],
        rows,
    )


if __name__ == "__main__":
    main()
