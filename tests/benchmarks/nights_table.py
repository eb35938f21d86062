"""The faults that were tried, how, and what happened, as a Markdown table:
``python -m tests.benchmarks.nights_table [NIGHTS]``.

Every number comes from runs that it makes: about a minute, and a second for 20 NIGHTS (default: 1000).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from processor.core.events import OutageEnded, OutageStarted
from processor.retry.policy import RetryPolicy
from processor.simulator.faults import Faults
from processor.simulator.settings import Outage, OutageKind, SimulatorSettings
from tests.behaviour.nights.test_kills import Campaign, campaign
from tests.behaviour.nights.test_steps import check_recovery, every_step
from tests.behaviour.scheduler import test_http
from tests.behaviour.scheduler.test_stops import SLOW, all_of, at
from tests.support.nights_night import Night
from tests.support.scheduler_world import FAST_PROVIDER, RESULTS, RunRecord, World, short_job


class Row(NamedTuple):
    fault: str
    made: str
    happened: str


def jobs(count: int) -> list[dict[str, object]]:
    return [short_job(number) for number in range(count)]


def shape(world: World, count: int) -> str:
    """What is in the two files; every job must be in one of them, once."""
    replied = {row["custom_id"] for row in world.rows()}
    failed = {row["custom_id"] for row in world.failures()}
    assert len(world.rows()) + len(world.failures()) == len(replied | failed) == count
    return f"{len(replied):,} replies" + (f", {counted(len(failed), 'failed row')}" if failed else "")


# ---------------------------------------------------------------- the provider


def faults() -> Iterator[Row]:
    world = World(replace(FAST_PROVIDER, faults=Faults.parse("all=0.05"), seed=11))
    world.run(jobs(2000), concurrency=64)
    count = sum(world.provider.billing.faults.values())
    assert all(row["response"]["body"]["choices"] == said(world, row) for row in world.rows())
    yield Row(
        "500s, 429 bursts, resets, stalls, cut streams, errors inside a stream, malformed chunks, odd manners",
        f"each at 5 %, 2,000 jobs in memory, {count:,} faults",
        f"{shape(world, 2000)}, none assembled wrongly",
    )
    with TemporaryDirectory() as folder:
        _, provider, replied, failed = test_http.play(Path(folder), "/v1/chat/completions", test_http.JOBS)
    assert len(replied) + len(failed) == 300
    yield Row(
        "the same",
        f"300 jobs over HTTP, {sum(provider.billing.faults.values())} faults",
        f"{len(replied)} replies" + (f", {counted(len(failed), 'failed row')}" if failed else ""),
    )


def said(world: World, row: dict[str, dict[str, dict[str, object]]]) -> object:
    request = {"model": "m", "messages": [{"role": "user", "content": f"Question {int(str(row['line'])) - 1}?"}]}
    return world.provider.expected_body("/v1/chat/completions", request)["choices"]


def refusals() -> Iterator[Row]:
    def stopped(fault: str, made: str, settings: SimulatorSettings, policy: RetryPolicy | None = None) -> Row:
        world = World(settings)
        run = world.run(jobs(100), policy=policy)
        assert run.exit_code == 3
        return Row(fault, made, f"exit 3 after {counted(len(run.sent), 'request')}, {len(world.rows())} replies kept")

    yield stopped("a wrong key", "401 to everything", replace(FAST_PROVIDER, auth="refused"))
    yield stopped("a mistyped model", "404 to everything", replace(FAST_PROVIDER, models=("another",)))
    yield stopped("the quota ends", "after 20 requests", replace(FAST_PROVIDER, quota=20))
    told = replace(FAST_PROVIDER, rpm=10, kind="silent", count_throttled=False)
    yield stopped(
        "a wait too long to sit out",
        "429, longer than `max_wait_s`",
        told,
        RetryPolicy(max_wait_s=0.0),
    )


def outages() -> Iterator[Row]:
    ways: dict[OutageKind, str] = {"refuse": "refused connections", "500": "500s", "503": "503s", "429": "429s"}
    for how, name in ways.items():
        world = World(replace(FAST_PROVIDER, first_token_s=2.0, outages=(Outage(from_s=60.0, to_s=3660.0, kind=how),)))
        run = world.run(jobs(400))
        (started,), (ended,) = run.events_of(OutageStarted), run.events_of(OutageEnded)
        probes = sum(started.at < sent < 3660 for sent, _, _ in run.sent)
        assert run.exit_code == 0
        yield Row(
            "the provider is down for an hour",
            f"{name} from 02:00 to 03:00",
            f"noticed after {started.at - 60:.1f} s, {counted(probes, 'request')} sent meanwhile, "
            f"back {ended.at - 3660:.0f} s after it; {shape(world, 400)}",
        )
    world = World(replace(FAST_PROVIDER, first_token_s=2.0, outages=(Outage(from_s=60.0, to_s=1e6, kind="503"),)))
    run = world.run(jobs(400))
    assert run.exit_code == 3
    yield Row("and for longer than `max_outage_s`", "503s for good", f"exit 3 after {run.took_s / 3600:.1f} h")


# ---------------------------------------------------------------- the process


def stops() -> Iterator[Row]:
    for fault, on_start in (
        ("Ctrl-C", at(20.0, "stop")),
        ("Ctrl-C twice", all_of(at(20.0, "stop"), at(20.5, "abort"))),
    ):
        world = World(SLOW)
        run = world.run(jobs(100), on_start=on_start)
        assert run.exit_code == 130
        left, kept = len(run.left_in_flight), len(world.rows())
        world.run(jobs(100))
        again = world.provider.billing.requests - 100
        assert again == left
        yield Row(
            fault,
            "with 8 replies under way",
            f"exit 130 {run.took_s - 20:.1f} s later, {kept} replies kept; "
            f"{again} sent again, then {shape(world, 100)}",
        )


def kills() -> Iterator[Row]:
    with TemporaryDirectory() as folder:
        one: Campaign = asyncio.run(campaign(Path(folder), jobs=400, kills=8))
    again = sum(one.provider.billing.requests_by_identity.values()) - one.jobs
    yield Row(
        "SIGKILL",
        f"the real process, {len(one.in_flight)} times over {one.jobs} jobs, {sum(one.in_flight)} requests in flight",
        f"one row for each job, {counted(again, 'request')} sent again",
    )


# ---------------------------------------------------------------- the disk


def steps() -> Iterator[Row]:
    names = {  # of test_nights_steps.FAULTS
        "no_space": "no space left",
        "half_written_no_space": "no space left, with half of it written",
        "io_error": "an I/O error",
        "read_only": "a read-only disk",
        "short_write": "short writes",
        "killed": "killed",
        "power_lost": "the power goes",
    }
    for kind, name in names.items():
        met = []
        for step, play, run in every_step(kind):
            if run.steps >= step:
                met.append(run)
            check_recovery(kind, step, play, run)
        codes = sorted({run.exit_code for run in met if run.exit_code is not None})
        ends = f"exit {' or '.join(map(str, codes))}; " if codes else ""
        yield Row(name, f"at each of {len(met)} I/O steps of a run", ends + RIGHT)


RIGHT = "the next run puts all right, and sends nothing again that was written"


def damage() -> Iterator[Row]:
    world = World()
    world.run(jobs(50))
    data = world.disk.contents(RESULTS) or b""
    world.disk.put(RESULTS, data[:5000] + b"\0" + data[5001:])
    run: RunRecord = world.run(jobs(50))
    yield Row("a damaged line", "in the middle of the results", f"kept aside, {len(run.sent)} sent again; one row each")
    assert shape(world, 50) == "50 replies"


def nights(count: int) -> Iterator[Row]:
    done = [Night(seed).play() for seed in range(count)]
    said = [line for night in done for line in night.said]
    runs = sum(": exit " in line for line in said)
    killed = sum(": exit None" in line for line in said)
    power = said.count("the power goes")
    sent = sum(night.world.provider.billing.requests for night in done)
    yield Row(
        "all of it, mixed",
        f"{count:,} nights from seeds: {runs:,} runs, {killed:,} killed, {power:,} losses of power, {sent:,} requests",
        "no promise broken",
    )


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    parts: list[Callable[[], Iterator[Row]]] = [faults, refusals, outages, stops, kills, steps, damage]
    print("| fault | how it was made | what happened |\n| --- | --- | --- |")
    parts.append(partial(nights, count))
    for part in parts:
        for row in part():
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
