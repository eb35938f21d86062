"""The actor that Ray starts on a node: imported there by its name, and here by ``cluster.ray`` only."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from processor.cluster.host import WorkerHost
from processor.core.fd_limit import raised_fd_limit
from processor.core.gc_pause import relax_gc
from processor.http.client import HttpTransport
from processor.http.settings import TransportSettings


class RayActor:
    """Passes the calls of a link on to a WorkerHost. All its methods run on the event loop of the actor's process."""

    def __init__(self) -> None:
        import ray

        relax_gc()
        self._stack = ExitStack()
        max_connections = self._stack.enter_context(raised_fd_limit())
        self._host = WorkerHost(_http_transport, node=ray.util.get_node_ip_address(), max_connections=max_connections)

    async def ready(self) -> None:
        """Return once the actor runs."""

    async def describe(self) -> bytes:
        return await self._host.describe()

    async def open(self, settings: bytes) -> None:
        await self._host.open(settings)

    async def set_targets(self, targets: bytes) -> bytes:
        return await self._host.set_targets(targets)

    async def push(self, group: bytes) -> None:
        await self._host.push(group)

    async def pull(self) -> bytes:
        return await self._host.pull()


def _http_transport(settings: TransportSettings, on_notice: Callable[[str], None]) -> HttpTransport:
    return HttpTransport(settings, on_notice=on_notice)
