"""The binding to Ray: joins a cluster, or starts one on this machine, and starts the workers in it as actors.

Ray (the extra ``ray``) is imported where it is used, so that this module can be imported without it.

Ray delivers each call at most once, and fails those that are pending when an actor or its node is lost. Nothing secret
is in what Ray keeps: constructor arguments, the runtime environment, objects. See ``TargetTable`` for the keys.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from processor.cluster.link import WorkerLink
from processor.cluster.ray_actor import RayActor
from processor.cluster.ray_calls import call_actor, reason_of
from processor.core import platform
from processor.core.errors import ConfigError
from processor.core.fast_dataclass import dataclass
from processor.core.process_errors import WorkerLost
from processor.core.text import setting_name

PACKAGE = Path(__file__).parents[1]

CALLS_AT_ONCE = 16
"""Calls of one actor that run at the same time: requests are tasks inside it, and no calls."""

CONNECT_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    address: str
    """``local``, ``auto``, or HOST:PORT of the head node."""
    worker_cpus: float = 1.0
    resources: Mapping[str, float] | None = None


class RayCluster:
    """A connection to a cluster, for use as an async context manager. A program that has joined one already keeps it.

    ``start`` is what ``RemoteTransport`` starts its workers with.
    """

    def __init__(self, options: RayOptions) -> None:
        import ray

        self._ray: Any = ray
        self._options = options
        self._links: list[_RayLink] = []
        self._has_connected = False
        self._actor_class: Any = None

    @property
    def version(self) -> str:
        return str(self._ray.__version__)

    @property
    def cpus(self) -> int:
        """CPUs of the whole cluster, at least 1."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    async def __aenter__(self) -> Self:
        """Raises ConfigError where the cluster cannot be joined or started."""
        try:
            if not self._ray.is_initialized():
                await asyncio.to_thread(_check_address, self._options.address)
                await asyncio.to_thread(_connect, self._ray, self._options.address)
                self._has_connected = True
        except (Exception, SystemExit) as error:  # noqa: BLE001 - Ray raises what it likes
            raise ConfigError(f"{setting_name('ray.address', self._options.address)}: {reason_of(error)}") from None
        self._actor_class = self._ray.remote(RayActor).options(
            num_cpus=self._options.worker_cpus,
            resources=dict(self._options.resources or {}),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=CALLS_AT_ONCE,
            scheduling_strategy="SPREAD",
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for link in self._links:
            await link.close()
        if self._has_connected:
            await asyncio.to_thread(self._ray.shutdown)

    async def start(self, name: str) -> WorkerLink:
        """Start a worker, as soon as the cluster has room for it. Raises WorkerLost."""
        link = _RayLink(self._ray, self._actor_class.remote())
        self._links.append(link)
        try:
            await link.ready()
        except BaseException:
            await link.close()
            raise
        return link


def _check_address(address: str) -> None:
    """Raises ConfigError where nothing listens: Ray would try for minutes, and say so on standard error."""
    host, separator, port = address.rpartition(":")
    if separator:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_WITHIN_S).close()
        except (OSError, OverflowError) as error:
            raise ConfigError(f"no head node of a Ray cluster can be reached there: {error}") from None


def _connect(ray: Any, address: str) -> None:
    """Join the cluster, or start one."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what concerns the run, it says itself
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        own: dict[str, Any] = {"num_cpus": platform.available_cpus(), "include_dashboard": False}
    else:
        own = {"runtime_env": {"py_modules": [str(PACKAGE)]}}  # the same sources on all nodes
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
    except ConnectionError:
        if address == "auto":
            raise ConfigError(
                f"this machine is part of no Ray cluster: use {setting_name('ray.address', 'local')}, or `ray start`"
            ) from None
        raise


class _RayLink:
    """A ``WorkerLink`` to an actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._actor = actor

    async def ready(self) -> None:
        await self._call("ready")

    async def describe(self) -> bytes:
        return await self._call("describe")

    async def open(self, settings: bytes) -> None:
        await self._call("open", settings)

    async def set_targets(self, targets: bytes) -> bytes:
        return await self._call("set_targets", targets)

    async def push(self, group: bytes) -> None:
        await self._call("push", group)

    async def pull(self) -> bytes:
        return await self._call("pull")

    async def close(self) -> None:
        if self._ray.is_initialized():
            self._ray.kill(self._actor, no_restart=True)

    async def _call(self, method: str, *args: bytes) -> bytes:
        answer: bytes = await call_actor(self._ray, self._actor, method, *args, lost=WorkerLost, name="a worker")
        return answer
