"""Runs whose requests are sent by workers in memory, and nights in which these are killed and cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import Any, Self

from processor.cluster.memory import ClusterFaults, MemoryCluster
from processor.cluster.remote import RemoteTransport
from processor.core.events import RequestEvent, RequestListener, RunEvent, Transport
from processor.core.models import Job, Reply, Target
from processor.core.process_errors import WorkerLost
from processor.core.secrets import Secret
from processor.http.settings import TransportSettings
from tests.support.budget_campaign import BudgetCampaign
from tests.support.nights_night import Night
from tests.support.scheduler_network import network_down_during
from tests.support.scheduler_world import KEY


class ClusterTransport:
    """A ``Transport`` through workers in memory. It starts them when it is opened, on the loop that runs then."""

    def __init__(
        self,
        transport: Transport,
        *,
        workers: int = 2,
        faults: ClusterFaults | None = None,
        seed: int = 0,
        on_lost: Callable[[Job], None] = lambda job: None,
        **more: Any,
    ) -> None:
        """``on_lost`` is called for each job that was in flight in a lost worker; ``more``: for MemoryCluster."""
        self.cluster = MemoryCluster(transport, faults=faults, seed=seed, **more)
        self.events: list[RunEvent] = []
        self.lost: Counter[str] = Counter()
        """How often each job was in flight in a lost worker, by custom_id."""
        self._workers = workers
        self._on_lost = on_lost
        self.remote: RemoteTransport

    async def __aenter__(self) -> Self:
        self.remote = RemoteTransport(
            self.cluster.start,
            TransportSettings(),
            workers=self._workers,
            emit=self.events.append,
            variables={Target(base_url="http://127.0.0.1/v1", key=Secret(KEY)): "THE_KEY"},
            max_wait_s=600.0,
        )
        await self.remote.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.remote.__aexit__(kind, error, traceback)
        await self.cluster.close()

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        events: list[RequestEvent] = []

        def observe(event: RequestEvent) -> None:
            events.append(event)
            on_event(event)

        try:
            return await self.remote(job, target, observe)
        except WorkerLost:
            self.lost[job.custom_id] += 1
            self._on_lost(job)
            raise
        except GeneratorExit:  # the driver is killed: a worker may have sent it, and not have said so yet
            if not events:
                self._on_lost(job)
            raise

    def events_of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class ClusterNight(Night):
    """A night in which the requests are sent by workers. What was in flight in a lost one may be billed again."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.of_cluster = Random(f"cluster of night {seed}")
        self.losses = 0
        """Requests that were in flight in a lost worker."""

    def _wrap_transport(
        self, network_outages: list[tuple[float, float]], *, rough: bool
    ) -> Callable[[Transport], Transport]:
        rng, number = self.of_cluster, self.world.runs
        faults = _faults(rng) if rough else ClusterFaults()
        workers = rng.randint(1, 4)
        if rough:
            self.said.append(f"{workers} workers, {faults}")

        def wrap(transport: Transport) -> Transport:
            behind_network = network_down_during(*network_outages)(transport)
            return ClusterTransport(behind_network, workers=workers, faults=faults, seed=number, on_lost=self._on_lost)

        return wrap

    def _on_lost(self, job: Job) -> None:
        self.losses += 1
        self.audit.allowed_payments[job.custom_id, job.fingerprint] += 1


class ClusterBudgetCampaign(BudgetCampaign):
    """A budget while the requests are sent by workers that are lost."""

    def _wrap_transport(self) -> Callable[[Transport], Transport]:
        seed = self.seed * 100 + self.runs
        faults = _faults(Random(f"cluster {seed}"))
        return lambda transport: ClusterTransport(transport, faults=faults, seed=seed)


def _faults(rng: Random) -> ClusterFaults:
    """No more than four losses, so that neither a job nor the run is given up because of them."""
    partitions = rng.choice((0, 0, 1))
    return ClusterFaults(
        latency_s=rng.choice(((0.0, 0.0), (0.0005, 0.003), (0.001, 0.2))),
        kill_at_calls=frozenset(rng.randint(1, rng.choice((20, 200, 2000))) for _ in range(rng.randint(0, 3))),
        partitions=tuple((rng.uniform(0.0, 10.0), rng.choice((1.0, 5.0, 20.0))) for _ in range(partitions)),
        detected_after_s=rng.choice((3.0, 10.0, 100.0)),
    )
