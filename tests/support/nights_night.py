"""A night made from a seed: a job file, a provider with faults, and runs that are disturbed in all ways."""

from __future__ import annotations

import asyncio
import errno
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from processor.core.events import Transport
from processor.core.models import Timeouts
from processor.output.sink import FsyncMode
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.retry.backoff import Backoff
from processor.retry.policy import RetryPolicy
from processor.scheduler import RunOptions, Scheduler
from processor.simulator.fault_injecting_storage import (
    UNLIMITED_BYTES,
    FaultPlan,
    Killed,
    StorageFault,
    fail_at_step,
    os_error,
)
from processor.simulator.faults import FAILURES, QUIRKS, Faults
from processor.simulator.rate_limiter import LIMITER_KINDS
from processor.simulator.settings import Outage, SimulatorSettings
from tests.support import nights_audit as audit
from tests.support.nights_jobs import MAX_LINE_BYTES, DraftJob, draw, edited, job_file
from tests.support.scheduler_network import network_down_during
from tests.support.scheduler_world import RESULTS, STATE, OnStart, RunRecord, World, kill_at

FSYNC_INTERVAL_S = 1.0
SLACK_S = 0.01

MakeDisturbance = Callable[["Night", Random], "Disturbance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """What happens to one run."""

    name: str
    on_start: OnStart = lambda run: None
    fault_plan: FaultPlan | None = None
    disk_fails: bool = False
    stopped: bool = False
    room_bytes: int = UNLIMITED_BYTES
    loses_power: bool = False


class Night:
    """A job file, a provider and several runs. ``play`` raises PromiseBroken if a promise is broken."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Random(f"night {seed}")
        self.later = Random(f"night {seed}, what came later")
        """A second generator, for what was added later: seeds in ``KNOWN_SEEDS`` still make the same nights."""
        self.drafts: list[DraftJob] = [draw(self.rng, number) for number in range(self.rng.randint(1, 14))]
        provider = _provider(self.rng, seed)
        kind, tpm = self.later.choice(LIMITER_KINDS), self.later.choice((None, None, None, 4000))
        self.world = World(replace(provider, kind=kind, tpm=tpm))
        self.audit = audit.Audit(self.world)
        self.fsync: FsyncMode = self.rng.choice(("interval", "interval", "interval", "always", "never"))
        self.said: list[str] = []
        """What happened, run by run, for the report of a failure."""

    @property
    def bound_s(self) -> float | None:
        """The greatest age of a row that a loss of power may remove."""
        return {"interval": FSYNC_INTERVAL_S + SLACK_S, "always": SLACK_S, "never": None}[self.fsync]

    def play(self) -> Night:
        # tenacity draws from the global generator.
        random.seed(self.seed)
        rng = self.rng
        for _ in range(rng.randint(0, 4)):
            self._run(rng.choice(DISTURBANCES)(self, rng), rough=True)
            self._change_between_runs(rng)
        for _ in range(self.later.randint(0, 2)):
            self._run(self.later.choice((_kill_early, _kill_at_early_step))(self, self.later), rough=True)
            self._change_between_runs(self.later)
        self.world.now_s = max([self.world.now_s, *(outage.to_s for outage in self.world.provider.settings.outages)])
        self._run(Disturbance(name="undisturbed"), rough=False)
        run = self._run(Disturbance(name="and again"), rough=False, retries=False)
        done = [name for name, _ in self.world.replied()]
        audit.check(len(done) == len(set(done)), "a job stands twice")
        # 3: the audit has found that no remaining job can succeed.
        audit.check(run.exit_code in (0, 1, 2, 3), "the last run ends by itself", run.exit_code)
        return self

    # ------------------------------------------------------------ one run

    def _run(self, disturbance: Disturbance, *, rough: bool, retries: bool = True) -> RunRecord:
        rng = self.rng
        file = job_file(self.drafts)
        policy = RetryPolicy(max_attempts=rng.choice((1, 3, 6)), backoff=Backoff(max_s=rng.choice((4.0, 60.0))))
        max_outage_s = rng.choice((600.0, 6 * 3600.0)) if rough else math.inf
        options = RunOptions(
            grace_s=rng.choice((0.0, 1.0, 30.0)),
            look_ahead=rng.choice((3, 1000)),
            limit=rng.randint(1, 12) if rough and rng.random() < 0.15 else None,
            retry_failed=rng.random() < 0.2,
            resend_changed=rng.random() < 0.5,
        )
        concurrency = rng.randint(1, 6)
        network_outages = self._network_outages(self.later) if rough else []
        asked = audit.RunConditions(
            concurrency=concurrency,
            max_attempts=policy.max_attempts,
            limit=options.limit,
            resend=options.resend_changed,
            retry_failed=options.retry_failed,
            disk_fails=disturbance.disk_fails,
            stopped=disturbance.stopped
            or bool(network_outages)
            or bool(rough and self.world.provider.settings.outages),
            synced_within_s=self.bound_s,
        )
        before = audit.StateBefore.of(self.world)
        self.audit.expect(file)
        disk = self.world.disk
        disk.capacity_bytes = sum(len(inode.data) for inode in disk.names.values()) + disturbance.room_bytes
        run = self.world.run(
            file.data,
            options=options,
            policy=policy,
            max_outage_s=max_outage_s,
            concurrency=concurrency,
            limits=_limits(rng),
            fsync=self.fsync,
            fault_plan=disturbance.fault_plan,
            timeouts=Timeouts(first_byte_timeout_s=60.0, stall_timeout_s=20.0, request_timeout_s=300.0),
            on_start=self._on_start(disturbance),
            wrap_transport=self._wrap_transport(network_outages, rough=rough),
            max_line_bytes=MAX_LINE_BYTES,
            part_bytes=self.later.choice((None, 1, 300)),
        )
        self.said.append(
            f"{disturbance.name}: exit {run.exit_code} ({run.reason}) after {run.took_s:.3f} s, "
            f"{len(run.sent)} sent, {len(run.left_in_flight)} left in flight, {run.steps} steps"
        )
        self.audit.check_run(run, file, asked, before)
        if disturbance.loses_power:
            self._lose_power()
        return run

    def _on_start(self, disturbance: Disturbance) -> OnStart:
        """The disturbance, and sometimes a change of the limits."""
        at, limit = self.later.uniform(0.0, 20.0), self.later.choice((None, None, None, 20, 200))
        rate_limiter, began_at = self.world.provider.rate_limiter, self.world.now_s

        def on_start(run: Scheduler) -> None:
            if limit is not None:
                change = partial(rate_limiter.set_limits, began_at + at, rpm=limit)
                asyncio.get_running_loop().call_at(at, change)
            disturbance.on_start(run)

        return on_start

    def _wrap_transport(
        self, network_outages: list[tuple[float, float]], *, rough: bool
    ) -> Callable[[Transport], Transport]:
        """What is put between the scheduler and the provider."""
        return network_down_during(*network_outages)

    @staticmethod
    def _network_outages(rng: Random) -> list[tuple[float, float]]:
        """Times without a network."""
        times = [rng.uniform(0.0, 10.0) for _ in range(rng.choice((0, 0, 0, 1, 3)))]
        return [(time, time + rng.choice((0.0, 1.0, 30.0))) for time in times]

    def _lose_power(self) -> None:
        before = self.world.disk.contents(RESULTS) or b""
        self.world.disk.lose_power(self.rng)
        self.said.append("the power goes")
        self.audit.on_data_lost(before, bound_s=self.bound_s if self.audit.synced else None)

    def _change_between_runs(self, rng: Random) -> None:
        """What happens between two runs."""
        self.world.now_s += rng.choice((0.0, 1.0, 60.0, 3600.0))
        if rng.random() < 0.2:
            self.drafts = edited(rng, self.drafts)
            self.said.append("the job file is edited")
        if rng.random() < 0.05 and STATE in self.world.disk.names:
            self.world.disk.delete(STATE)
            self.audit.on_state_file_deleted()
            self.said.append("the state file is deleted")
        # A file without a complete row is not damaged: it might not be a results file.
        if rng.random() < 0.05 and (data := self.world.disk.contents(RESULTS)) and data.count(b"\n") > 2:
            _damage(self, rng, data)


def _damage(night: Night, rng: Random, data: bytes) -> None:
    place = rng.randrange(len(data))
    night.world.disk.put(RESULTS, data[:place] + b"\0" + data[place + 1 :])
    night.said.append(f"byte {place} of the results is damaged")
    night.audit.on_data_lost(data, bound_s=None)


def _provider(rng: Random, seed: int) -> SimulatorSettings:
    rates: dict[str, float] = {}
    if rng.random() < 0.7:
        for name in rng.sample(FAILURES, rng.randint(1, len(FAILURES))):
            rates[name] = rng.choice((0.02, 0.05, 0.1))
        for name in rng.sample(QUIRKS, rng.randint(0, len(QUIRKS))):
            rates[name] = rng.choice((0.1, 0.5))
    outages = tuple(_outage(rng) for _ in range(rng.choice((0, 0, 0, 1, 1, 2))))
    return SimulatorSettings(
        seed=seed,
        write_batch_s=1.0,
        reply_tokens=(2, 30),
        first_token_s=rng.choice((0.0, 0.1, 0.5, 3.0)),
        speed_tps=rng.choice((math.inf, 80.0, 10.0)),
        faults=Faults(rates),
        outages=outages,
        models=("m",),
        rpm=rng.choice((None, None, 60)),
        track_identities=True,
    )


def _outage(rng: Random) -> Outage:
    begins = rng.choice((0.0, rng.uniform(0, 3), rng.uniform(0, 100)))
    return Outage(
        from_s=begins,
        to_s=begins + 10 ** rng.uniform(0, 3.8),
        kind=rng.choice(("refuse", "500", "503", "429")),
    )


def _limits(rng: Random) -> LimitSettings:
    return LimitSettings(default=RateLimits(rpm=60.0)) if rng.random() < 0.2 else LimitSettings()


# ---------------------------------------------------------------- disturbances


def _when(rng: Random) -> float:
    """A time soon after the start, where most can go wrong."""
    return 10 ** rng.uniform(-2.5, 1.5)


def _nothing(night: Night, rng: Random) -> Disturbance:
    return Disturbance(name="undisturbed", loses_power=rng.random() < 0.2)


def _kill(night: Night, rng: Random) -> Disturbance:
    at = _when(rng)
    return Disturbance(name=f"killed at {at:.3f} s", on_start=kill_at(at), loses_power=rng.random() < 0.4)


def _kill_at_step(night: Night, rng: Random) -> Disturbance:
    return _killed_at(rng.randint(1, 120), rng.random(), rng)


def _killed_at(step: int, part: float, rng: Random) -> Disturbance:
    def plan(number: int, operation: str) -> StorageFault | None:
        # A kill may fall between the pages of a long write; a short write is done or not done.
        return StorageFault(Killed(), part if operation == "write" else round(part)) if number == step else None

    return Disturbance(name=f"killed at step {step}", fault_plan=plan, loses_power=rng.random() < 0.4)


def _kill_early(night: Night, rng: Random) -> Disturbance:
    at = rng.uniform(0.0, 3.0 * night.world.provider.settings.first_token_s + 0.2)
    return Disturbance(name=f"killed at {at:.3f} s", on_start=kill_at(at), loses_power=rng.random() < 0.3)


def _kill_at_early_step(night: Night, rng: Random) -> Disturbance:
    return _killed_at(rng.randint(8, 12 + 4 * len(night.drafts)), rng.random(), rng)


def _stop(night: Night, rng: Random) -> Disturbance:
    at, patience = _when(rng), rng.choice((0.0, 1.0, 100.0))

    def on_start(run: Scheduler) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(at, lambda: run.stop("interrupted", exit_code=130))
        loop.call_at(at + patience, run.abort)

    return Disturbance(name=f"stopped at {at:.3f} s", on_start=on_start, stopped=True, loses_power=rng.random() < 0.2)


def _fault(night: Night, rng: Random) -> Disturbance:
    step, code, part = rng.randint(1, 120), rng.choice((errno.ENOSPC, errno.EIO, errno.EROFS)), rng.random()
    name = f"{errno.errorcode[code]} at step {step}"
    disk = fail_at_step(step, StorageFault(os_error(code), part))
    return Disturbance(name=name, fault_plan=disk, disk_fails=True, loses_power=rng.random() < 0.2)


def _bad_disk(night: Night, rng: Random) -> Disturbance:
    """From some step on, all operations of three kinds fail."""
    step, code = rng.randint(1, 60), rng.choice((errno.ENOSPC, errno.EIO, errno.EROFS))
    kinds = rng.sample(("open", "write", "pwrite", "fsync", "fsync folder", "rename", "truncate", "unlink"), 3)

    def plan(number: int, operation: str) -> StorageFault | None:
        return StorageFault(os_error(code), 0.5) if number >= step and operation in kinds else None

    return Disturbance(name=f"{errno.errorcode[code]} on {kinds} from step {step}", fault_plan=plan, disk_fails=True)


def _short_writes(night: Night, rng: Random) -> Disturbance:
    chance = Random(rng.random())

    def plan(number: int, operation: str) -> StorageFault | None:
        return StorageFault(None, chance.uniform(0.3, 1.0)) if operation == "write" and chance.random() < 0.7 else None

    return Disturbance(name="short writes", fault_plan=plan)


def _full_disk(night: Night, rng: Random) -> Disturbance:
    return Disturbance(name="the disk is full", room_bytes=rng.randint(0, 4000), disk_fails=True)


DISTURBANCES: tuple[MakeDisturbance, ...] = (
    _nothing,
    _kill,
    _kill,
    _kill_at_step,
    _kill_at_step,
    _stop,
    _fault,
    _bad_disk,
    _short_writes,
    _full_disk,
)
