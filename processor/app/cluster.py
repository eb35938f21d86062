"""Opens the workers of a run in a Ray cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from processor.app.plan import Plan
from processor.config.endpoint_resolution import EndpointAccess
from processor.config.ray_address import LOCAL, check_ray_installed
from processor.core.errors import ConfigError
from processor.core.events import Listener
from processor.core.fast_dataclass import dataclass
from processor.core.models import Target
from processor.core.text import setting_name
from processor.http.settings import TransportSettings

if TYPE_CHECKING:
    from processor.cluster.messages import WorkerInfo
    from processor.cluster.remote import RemoteTransport

REQUESTS_PER_WORKER_S = 200.0
"""A core carries about so many streams that begin in a second, of those that last for ten."""
MAX_REQUESTS_S = 2000.0
"""The driver carries about so many requests a second: more workers than that would stand idle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersShown:
    """The workers of a run at its start."""

    workers: tuple[WorkerInfo, ...]
    ray_version: str
    in_flight: Callable[[], Mapping[str, int]]
    """Returns the requests in flight at each worker that there is now, by its name."""

    @property
    def max_connections(self) -> int:
        return sum(worker.max_connections for worker in self.workers)

    def __str__(self) -> str:
        nodes = len({worker.node for worker in self.workers})
        on_nodes = f"{nodes} node{'s' if nodes != 1 else ''}"
        return f"{len(self.workers)} on {on_nodes} (ray {self.ray_version})"


def check_cluster(plan: Plan, *, own_transport: bool) -> None:
    """Raises ConfigError where the run cannot be sent from a cluster."""
    address = plan.settings.ray.address
    if address is None:
        return
    if own_transport:
        raise ConfigError("a run has one transport: workers in a cluster or the given one")
    if plan.in_batches:
        raise ConfigError(
            f"{setting_name('in_batches')} sends a few large requests, and needs no workers: leave out "
            f"{setting_name('ray.address')}"
        )
    if plan.simulate and address != LOCAL:
        raise ConfigError(
            f"{setting_name('simulate')} answers on this machine: use {setting_name('ray.address', 'local')}"
        )
    check_ray_installed()


async def open_cluster(
    plan: Plan,
    accesses: Sequence[EndpointAccess],
    targets: Sequence[Target],
    settings: TransportSettings,
    emit: Listener,
    stack: AsyncExitStack,
) -> tuple[RemoteTransport, WorkersShown]:
    """Start the workers. Raises ConfigError where the cluster cannot be joined."""
    from processor.cluster.ray import RayCluster, RayOptions
    from processor.cluster.remote import RemoteTransport

    chosen = plan.settings.ray
    assert chosen.address is not None
    options = RayOptions(address=chosen.address, worker_cpus=chosen.worker_cpus, resources=chosen.resources)
    cluster = await stack.enter_async_context(RayCluster(options))
    workers = chosen.workers or default_workers(int(cluster.cpus / chosen.worker_cpus), plan.settings.limits.rpm)
    variables = {
        target: access.key_variable
        for access, target in zip(accesses, targets, strict=bool(accesses))
        if access.key_variable is not None
    }
    remote = RemoteTransport(
        cluster.start,
        settings,
        workers=workers,
        emit=emit,
        variables=variables,
        max_wait_s=plan.settings.waiting.max_outage_s,
    )
    await stack.enter_async_context(remote)
    return remote, WorkersShown(workers=tuple(remote.workers), ray_version=cluster.version, in_flight=remote.in_flight)


def default_workers(cpus: int, rpm: float | None) -> int:
    """Return one worker for each CPU, at most as many as the limit, or the driver, can occupy."""
    rate_s = min(MAX_REQUESTS_S if rpm is None else rpm / 60, MAX_REQUESTS_S)
    return max(1, min(cpus, math.ceil(rate_s / REQUESTS_PER_WORKER_S)))
