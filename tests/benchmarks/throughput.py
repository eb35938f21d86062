"""What a request costs, beside the shortest program that could be written: ``python -m tests.benchmarks.throughput``.

Floor, this program and, where installed, the openai SDK's loop answer the same jobs from the same server, one after
the other, again and again; the server has the other core. A cost is the CPU time of a long run less that of a short
one, so that starting up is in neither; medians over the repetitions, ratios to the floor.

    throughput.py [MODE ...] [--repeat N]       MODE: whole, paced, long (default: all three)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median

import orjson

from tests.benchmarks.measure import PROGRAMS, Server, run, server, show, write_jobs

FLOOR, OURS = "floor", "process, all in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """Replies of so many chunks over so many seconds (0: in one write), so many at a time."""

    title: str
    chunks: int
    over_s: float
    streams: int
    short: int
    """Jobs of the short run: those that every run has, to be subtracted."""
    long: int
    target: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    name: str
    command: tuple[str, ...]
    jobs_divided_by: int = 1
    """Slow programs get fewer of them."""
    repeat_divided_by: int = 1

    def line(self, jobs: Path, out: Path, base_url: str, streams: int) -> list[str]:
        return [*self.command, str(jobs), str(out), base_url, str(streams)]


class Ours(Program):
    def line(self, jobs: Path, out: Path, base_url: str, streams: int) -> list[str]:
        flags = ["--concurrency", str(streams), "--no-progress", "--quiet"]
        return [*self.command, str(jobs), "--out", str(out), "--base-url", base_url, *flags]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    cpu_s: float
    """Per 1,000 requests."""
    reply_s: float | None
    """What a reply took, on average, by the program's own account."""


MODES = {
    "whole": Mode(
        title="100 chunks in one write, 64 streams", chunks=100, over_s=0, streams=64, short=200, long=4200, target=1.15
    ),
    "paced": Mode(
        title="100 chunks over 1 s, 200 streams", chunks=100, over_s=1, streams=200, short=200, long=1200, target=0.85
    ),
    "long": Mode(
        title="500 chunks over 10 s, 500 streams", chunks=500, over_s=10, streams=500, short=500, long=1500, target=0.45
    ),
}


def programs() -> Iterable[Program]:
    def python(name: str) -> tuple[str, ...]:
        return (sys.executable, str(PROGRAMS / f"{name}.py"))

    yield Program(name=FLOOR, command=python("floor"))
    yield Ours(name=OURS, command=(sys.executable, "-m", "processor"))
    yield Program(name="raw protocol, bytes discarded", command=python("raw"), repeat_divided_by=2)
    if find_spec("openai"):
        yield Program(name="openai SDK + tenacity", command=python("sdk"), jobs_divided_by=4, repeat_divided_by=4)


def sample(program: Program, mode: Mode, started: Server, folder: Path) -> Sample:
    out = folder / "out.jsonl"
    spent = []
    for count in (mode.short // program.jobs_divided_by, mode.long // program.jobs_divided_by):
        jobs = write_jobs(folder / "jobs.jsonl", count)
        for left in folder.glob("out.*"):
            left.unlink()
        spent.append(run(program.line(jobs, out, started.base_url, mode.streams)).cpu_s)
    more = (mode.long - mode.short) // program.jobs_divided_by
    return Sample(cpu_s=(spent[1] - spent[0]) / more * 1000, reply_s=_reply_s(out, mode, program))


def _reply_s(out: Path, mode: Mode, program: Program) -> float | None:
    """Without the first wave, which all starts at once."""
    if not out.exists():
        return None
    rows = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    assert len(rows) == mode.long // program.jobs_divided_by, f"{program.name} left {len(rows)} rows"
    return mean(float(row["timing"]["total_s"]) for row in rows[mode.streams // program.jobs_divided_by :])


def measure(mode: Mode, repeat: int) -> tuple[dict[str, list[Sample]], float]:
    taken: dict[str, list[Sample]] = {}
    with tempfile.TemporaryDirectory() as folder, server(mode.chunks, mode.over_s) as started:
        for turn in range(repeat):
            for program in programs():
                if turn % program.repeat_divided_by == 0:
                    taken.setdefault(program.name, []).append(sample(program, mode, started, Path(folder)))
                    print(".", end="", file=sys.stderr, flush=True)
    return taken, started.busy


def rows(taken: dict[str, list[Sample]], mode: Mode) -> Iterable[list[str]]:
    floor = median(one.cpu_s for one in taken[FLOOR])
    for name, samples in taken.items():
        cost = median(one.cpu_s for one in samples)
        spread = f"{min(one.cpu_s for one in samples) / floor:.2f}-{max(one.cpu_s for one in samples) / floor:.2f}"
        target = f"{mode.target:.2f}" if name == OURS else ""
        replies = [one.reply_s for one in samples if one.reply_s is not None]
        late = f"{100 * (median(replies) / mode.over_s - 1):+.1f} %" if mode.over_s and replies else ""
        yield [name, f"{cost:.3f} s", f"{cost / floor:.2f} x", target, spread, str(len(samples)), late]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("modes", nargs="*", choices=[*MODES, []], metavar="MODE")
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    for name in given.modes or MODES:
        mode = MODES[name]
        taken, busy = measure(mode, given.repeat)
        head = ["", "CPU per 1,000", "to the floor", "target", "spread", "runs", "replies late by"]
        show(mode.title, head, list(rows(taken, mode)))
        print(f"\nThe server used {100 * busy:.0f} % of its core.")


if __name__ == "__main__":
    main()
