"""The actor that holds the limiter of one key for all programs of a Ray cluster, and the link to it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from processor.cluster.ray_calls import call_actor, reason_of
from processor.core.models import Target
from processor.shared_limits.host import LimiterHost
from processor.shared_limits.link import LimiterLink, LimiterLost

NAMESPACE = "processor"
CALLS_AT_ONCE = 1000
"""One of each session waits for messages all the time."""


def limiter_name(target: Target, key_command: tuple[str, ...] = ()) -> str:
    """Return the name of the actor: a digest of the address and the key, from which neither can be found.

    ``key_command``: stands for the key where a command prints it, which need not print the same one twice.
    """
    key = "\0".join(key_command) if key_command or target.key is None else target.key.value
    digest = blake2b(f"{target.address}\0{key}".encode(), digest_size=16, person=b"shared limiter")
    return f"limiter-{digest.hexdigest()}"


class LimiterActor:
    """Passes calls on to a LimiterHost. All its methods run on the event loop of the actor's process."""

    def __init__(self) -> None:
        import ray

        self._host = LimiterHost(node=ray.util.get_node_ip_address())

    async def end_when_idle(self) -> None:
        """End the actor once no session has used it for some time."""
        import ray

        await self._host.idle()
        ray.actor.exit_actor()

    async def describe(self) -> bytes:
        return await self._host.describe()

    async def open(self, opening: bytes) -> bytes:
        return await self._host.open(opening)

    async def push(self, session: str, group: bytes) -> None:
        await self._host.push(session, group)

    async def pull(self, session: str) -> bytes:
        return await self._host.pull(session)

    async def leave(self, session: str) -> None:
        await self._host.leave(session)


async def connect(name: str) -> LimiterLink:
    """Return a link to the actor of this name, which is started where there is none. Raises LimiterLost.

    The actor is detached: it outlives the program that has started it, for the others that use it, and ends by itself.
    """
    import ray

    actor_class = ray.remote(LimiterActor).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=0,
        max_concurrency=CALLS_AT_ONCE,
    )
    link = _LimiterActorLink(ray, actor_class.remote)
    link.call_without_answer("end_when_idle")
    return link


class _LimiterActorLink:
    """A ``LimiterLink`` to an actor."""

    def __init__(self, ray: Any, find: Callable[[], Any]) -> None:
        self._ray = ray
        try:
            self._actor = find()
        except (ray.exceptions.RayError, ValueError, RuntimeError) as error:
            raise LimiterLost(reason_of(error)) from None

    def call_without_answer(self, method: str) -> None:
        getattr(self._actor, method).remote()

    async def describe(self) -> bytes:
        answer: bytes = await self._call("describe")
        return answer

    async def open(self, opening: bytes) -> bytes:
        answer: bytes = await self._call("open", opening)
        return answer

    async def push(self, session: str, group: bytes) -> None:
        await self._call("push", session, group)

    async def pull(self, session: str) -> bytes:
        answer: bytes = await self._call("pull", session)
        return answer

    async def leave(self, session: str) -> None:
        await self._call("leave", session)

    async def _call(self, method: str, *args: str | bytes) -> Any:
        return await call_actor(self._ray, self._actor, method, *args, lost=LimiterLost, name="the shared limiter")
