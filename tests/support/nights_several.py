"""A night with several endpoints: the night of its seed, with further endpoints that are in trouble of all kinds."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from random import Random
from typing import Any

from processor.simulator.billing_log import BillingLog
from processor.simulator.faults import Faults
from processor.simulator.settings import Outage, OutageKind, SimulatorSettings
from tests.support.nights_audit import Audit, check
from tests.support.nights_night import Disturbance, Night
from tests.support.scheduler_world import RunRecord
from tests.support.several_endpoints import SeveralWorld, table

SOUND = "sound"
HEARD_WITHIN_S = 0.5
"""A refusal has come back to the client after this time: what is sent later is sent although it is known."""


class SeveralNight(Night):
    """``play`` raises PromiseBroken if a promise is broken. One endpoint can answer all jobs."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        rng = Random(f"night {seed}, several endpoints")
        provider = self.world.provider.settings
        providers = {f"e{at}": troubled(rng, provider) for at in range(rng.randint(1, 3))}
        providers[SOUND] = provider
        names = rng.sample(sorted(providers), len(providers))
        tables = tuple(table(name, **rng.choice(OPTIONS)) for name in names)
        self.several = SeveralWorld(
            {name: providers[name] for name in names}, endpoints=tables, fallback=rng.random() < 0.3
        )
        # The audit reads one bill and one log for all of them.
        bill = BillingLog(track_identities=True)
        for one in self.several.providers.values():
            one.billing = bill
        self.several.provider = self.several.providers[SOUND]
        self.world = self.several
        self.audit = Audit(self.several)
        self.said.append(f"endpoints: {', '.join(f'{name} {providers[name]}' for name in names)}")

    def _run(self, disturbance: Disturbance, *, rough: bool, retries: bool = True) -> RunRecord:
        before = {name: len(log) for name, log in self.several.logs.items()}
        run = super()._run(disturbance, rough=rough, retries=retries)
        for name, log in self.several.logs.items():
            settings = self.several.providers[name].settings
            stops = {401} if settings.quota is None else {429}
            entries = log[before[name] :]
            refused = [entry["at"] for entry in entries if entry["status"] in stops]
            if refused and (settings.quota is not None or settings.auth == "refused"):
                late = [entry["at"] for entry in entries if entry["at"] > refused[0] + HEARD_WITHIN_S]
                check(not late, "sent to an endpoint that is stopped", name, refused[0], late)
        return run


OPTIONS: tuple[dict[str, Any], ...] = ({}, {}, {"weight": 3.0}, {"concurrency": 2}, {"rpm": 30.0})


def troubled(rng: Random, sound: SimulatorSettings) -> SimulatorSettings:
    """A provider that fails, recovers, runs out of quota, refuses the key or the model, or answers slowly."""
    begins = rng.choice((0.0, rng.uniform(0, 60)))
    kinds: tuple[OutageKind, ...] = ("refuse", "500", "503", "429")
    # Where a status says that the endpoint is stopped, nothing else may answer with it.
    plain = replace(sound, rpm=None, tpm=None, faults=Faults({}), outages=())
    return rng.choice(
        (
            replace(
                sound, outages=(Outage(kind=rng.choice(kinds), from_s=begins, to_s=begins + 10 ** rng.uniform(0, 3)),)
            ),
            replace(sound, outages=(Outage(kind="refuse", from_s=begins, to_s=inf),)),
            replace(plain, quota=rng.randint(1, 8)),
            replace(plain, auth="refused"),
            replace(plain, models=("another",)),
            replace(sound, first_token_s=rng.uniform(5, 60)),
            replace(sound, rpm=rng.randint(10, 60)),
        )
    )
