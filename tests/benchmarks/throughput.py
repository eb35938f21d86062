"""CPU time of a request, beside the shortest program that could be written: ``python -m tests.benchmarks.throughput``.

The floor, this program and, if they are installed, a loop with the openai SDK and lm-deluge (which does not stream, and
so takes part in ``body`` alone) answer the same jobs from the same server, one after the other, again and again; the
server has the other core. A cost is the CPU time of a long run less that of a
short one, so that it excludes starting up. The table shows medians over the repetitions and ratios to the floor.

    throughput [MODE ...] [--repeat N] [--beside FOLDER]       MODE: whole, body, paced, long (default: all)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median

import orjson

from tests.benchmarks.measure import (
    PROGRAMS,
    THIS,
    Checkout,
    Server,
    add_beside,
    checkouts,
    run,
    server,
    show,
    write_jobs,
)

FLOOR = "floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """Replies of `chunks` chunks (0: as one JSON body) over `over_s` seconds (0: in one write), `streams` at a time."""

    title: str
    chunks: int
    over_s: float
    streams: int
    short: int
    """Jobs of the short run, whose cost is subtracted."""
    long: int
    target: float | None
    """The greatest cost of this program, as a ratio to the floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that sends all jobs of a file to a server."""

    name: str
    command: tuple[str, ...]
    checkout: Checkout = THIS
    jobs_divided_by: int = 1
    """Slow programs get fewer jobs."""
    repeat_divided_by: int = 1

    def line(self, jobs: Path, out: Path, base_url: str, streams: int) -> list[str]:
        """Its command line."""
        return [*self.command, str(jobs), str(out), base_url, str(streams)]


class ThisProgram(Program):
    """The program of a checkout."""

    def line(self, jobs: Path, out: Path, base_url: str, streams: int) -> list[str]:
        flags = ["--concurrency", str(streams), "--no-progress", "--quiet"]
        return [*self.command, str(jobs), "--out", str(out), "--base-url", base_url, *flags]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement of one program."""

    cpu_s: float
    """Per 1,000 requests."""
    reply_s: float | None
    """The mean duration of a reply, as the program reports it."""


MODES = {
    "whole": Mode(
        title="100 chunks in one write, 64 streams", chunks=100, over_s=0, streams=64, short=200, long=4200, target=1.15
    ),
    "body": Mode(title="one JSON body, 64 streams", chunks=0, over_s=0, streams=64, short=200, long=8200, target=None),
    "paced": Mode(
        title="100 chunks over 1 s, 200 streams", chunks=100, over_s=1, streams=200, short=200, long=1200, target=0.85
    ),
    "long": Mode(
        title="500 chunks over 10 s, 500 streams", chunks=500, over_s=10, streams=500, short=500, long=1500, target=0.45
    ),
}


def floor_program() -> Program:
    return Program(name=FLOOR, command=(sys.executable, str(PROGRAMS / "floor.py")))


def checkout_programs(chosen: Sequence[Checkout]) -> Iterable[Program]:
    for checkout in chosen:
        yield ThisProgram(name=checkout.name, command=tuple(checkout.process()), checkout=checkout)


def programs(mode: Mode, chosen: Sequence[Checkout]) -> Iterable[Program]:
    yield floor_program()
    yield from checkout_programs(chosen)
    if mode.chunks == 0 and find_spec("lm_deluge"):
        yield Program(name="lm-deluge", command=(sys.executable, str(PROGRAMS / "deluge.py")), repeat_divided_by=2)
    if mode.chunks:  # the raw protocol knows the end of a stream alone
        raw = (sys.executable, str(PROGRAMS / "raw.py"))
        yield Program(name="raw protocol, bytes discarded", command=raw, repeat_divided_by=2)
    if mode.chunks and find_spec("openai"):
        sdk = (sys.executable, str(PROGRAMS / "sdk.py"))
        yield Program(name="openai SDK + tenacity", command=sdk, jobs_divided_by=4, repeat_divided_by=4)


def sample(program: Program, mode: Mode, running: Server, folder: Path) -> Sample:
    out = folder / "out.jsonl"
    spent = []
    for count in (mode.short // program.jobs_divided_by, mode.long // program.jobs_divided_by):
        jobs = write_jobs(folder / "jobs.jsonl", count, streamed=mode.chunks > 0)
        for left in folder.glob("out.*"):
            left.unlink()
        line = program.line(jobs, out, running.base_url, mode.streams)
        spent.append(run(line, checkout=program.checkout).cpu_s)
    more = (mode.long - mode.short) // program.jobs_divided_by
    return Sample(cpu_s=(spent[1] - spent[0]) / more * 1000, reply_s=_reply_s(out, mode, program))


def _reply_s(out: Path, mode: Mode, program: Program) -> float | None:
    """The mean without the first wave, which starts all at once."""
    if not out.exists():
        return None
    rows = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    assert len(rows) == mode.long // program.jobs_divided_by, f"{program.name} left {len(rows)} rows"
    if "timing" not in rows[0]:
        return None
    return mean(float(row["timing"]["total_s"]) for row in rows[mode.streams // program.jobs_divided_by :])


def measure(mode: Mode, repeat: int, chosen: Sequence[Checkout]) -> tuple[dict[str, list[Sample]], float]:
    """The samples by program, and the utilization of the server's core."""
    samples: dict[str, list[Sample]] = {}
    with tempfile.TemporaryDirectory() as folder, server(mode.chunks, mode.over_s) as running:
        for turn in range(repeat):
            for program in programs(mode, chosen):
                if turn % program.repeat_divided_by == 0:
                    samples.setdefault(program.name, []).append(sample(program, mode, running, Path(folder)))
                    print(".", end="", file=sys.stderr, flush=True)
    return samples, running.utilization


def rows(samples: dict[str, list[Sample]], mode: Mode) -> Iterable[list[str]]:
    floor = median(one.cpu_s for one in samples[FLOOR])
    for name, taken in samples.items():
        cost = median(one.cpu_s for one in taken)
        spread = f"{min(one.cpu_s for one in taken) / floor:.2f}-{max(one.cpu_s for one in taken) / floor:.2f}"
        target = f"{mode.target:.2f}" if mode.target and name == THIS.name else ""
        replies = [one.reply_s for one in taken if one.reply_s is not None]
        late = f"{100 * (median(replies) / mode.over_s - 1):+.1f} %" if mode.over_s and replies else ""
        yield [name, f"{cost:.3f} s", f"{cost / floor:.2f} x", target, spread, str(len(taken)), late]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("modes", nargs="*", choices=[*MODES, []], metavar="MODE")
    parser.add_argument("--repeat", type=int, default=5)
    add_beside(parser)
    arguments = parser.parse_args()
    for name in arguments.modes or MODES:
        mode = MODES[name]
        samples, utilization = measure(mode, arguments.repeat, checkouts(arguments))
        head = ["", "CPU per 1,000", "to the floor", "target", "spread", "runs", "replies late by"]
        show(mode.title, head, list(rows(samples, mode)))
        print(f"\nThe server used {100 * utilization:.0f} % of its core.")


if __name__ == "__main__":
    main()
