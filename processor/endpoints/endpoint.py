"""One endpoint: its address and key, its limits and its health; and the permit to send a request to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Protocol

from processor.core.models import Job, RequestSize, Target
from processor.core.urls import endpoint_address, with_model
from processor.cost.budget import BudgetReservation
from processor.health.endpoint_health import EndpointHealth
from processor.ratelimit.limiter import Blocked, RateLimiter
from processor.ratelimit.permit import Permit
from processor.ratelimit.snapshot import LimiterSnapshot

ModelNames = Callable[[str], str | None]
"""Returns the name under which a job's model is sent to an endpoint; None where the endpoint does not answer it."""


class Limiter(Protocol):
    """Grants permits: a ``RateLimiter``, or one of another process that several sessions share."""

    async def acquire(self, size: RequestSize, *, is_retry: bool) -> Permit: ...

    @property
    def counts_characters(self) -> bool:
        """Whether it needs ``RequestSize.prompt_chars``."""

    def group_name(self, job: Job) -> str: ...

    def cool_down_s(self, job: Job) -> float: ...

    def next_start_at(self) -> float | None: ...

    def snapshot(self) -> LimiterSnapshot: ...


class Endpoint:
    """An address with its key, its limits and its health."""

    __slots__ = ("_addresses", "_model_sent", "granted", "health", "in_flight", "limiter", "name", "target", "weight")

    def __init__(
        self,
        target: Target,
        limiter: Limiter,
        health: EndpointHealth,
        *,
        name: str | None = None,
        weight: float = 1.0,
        model_sent: ModelNames | None = None,
    ) -> None:
        """``name``: None stands for the address. ``model_sent``: None sends all models under their own names."""
        self.target = target
        self.limiter = limiter
        self.health = health
        self.name = target.address if name is None else name
        self.weight = weight
        self.in_flight = self.granted = 0
        """Requests, at present and in the whole run; counted where there are several endpoints."""
        self._model_sent = model_sent
        self._addresses: dict[str, str] = {}

    def answers(self, model: str) -> bool:
        """Whether jobs of this model are sent here at all."""
        return self._model_sent is None or self._model_sent(model) is not None

    def job_as_sent(self, job: Job) -> Job:
        """The job with the model's name at this endpoint."""
        model = job.model if self._model_sent is None else self._model_sent(job.model)
        if model is None or model == job.model:
            return job
        return replace(job, model=model, body={**job.body, "model": model})

    def size_as_sent(self, size: RequestSize) -> RequestSize:
        model = size.model if self._model_sent is None else self._model_sent(size.model)
        return size if model is None or model == size.model else replace(size, model=model)

    def closed_reason(self, job: Job) -> str | None:
        """Return why nothing like this job is sent any more in this run; None if it is."""
        health = self.health
        if not health.has_closed:
            return None
        job = self.job_as_sent(job)
        return health.closed_reason(job.model, self.limiter.group_name(job))

    def address_of(self, path: str, model: str) -> str:
        """Return the address (scheme, host and path) that requests for an API path and a model are sent to."""
        address = self._addresses.get(path)
        if address is None:
            address = self._addresses[path] = endpoint_address(self.target.base_url, path)
        return with_model(address, model)

    def turn_blocked(self, now: float) -> Blocked | None:
        """What a request waits for that needs the turn to be a probe or the canary; None: it need not wait for it."""
        health, canary = self.health, self.health.canary
        if health.is_down:
            free_at = health.probe_turn.free_at()
            return Blocked("outage", free_at) if free_at > now else None
        return None if canary.has_free_turn else Blocked("in_flight", inf)

    def try_acquire(self, job: Job, size: RequestSize, now: float, *, in_turn: bool) -> EndpointPermit | Blocked:
        """Return a permit if the limits have room, perhaps as a probe or as the canary. Raises TooLarge.

        It must not be blocked by that turn. ``in_turn``: see ``RateLimiter.try_acquire``.
        """
        permit = self.own_limiter.try_acquire(self.size_as_sent(size), in_turn=in_turn)
        if isinstance(permit, Blocked):
            return permit
        is_probe = self.health.is_down
        has_canary_turn = not (is_probe or self.health.canary.is_cleared)
        if is_probe:
            self.health.probe_turn.take(now)
        if has_canary_turn:
            self.health.canary.take()
        return EndpointPermit(self, permit, self.job_as_sent(job), is_probe=is_probe, has_canary_turn=has_canary_turn)

    @property
    def own_limiter(self) -> RateLimiter:
        """The limiter of this process, which can be asked without waiting: a dispatcher needs one."""
        assert isinstance(self.limiter, RateLimiter)
        return self.limiter

    def is_undecided(self, size: RequestSize) -> bool:
        """Whether it is not known yet if there is room for a request of this size: the first response has not come."""
        return self.health.canary.is_undecided or self.own_limiter.awaits_first_response(self.size_as_sent(size))


class BudgetedPermit(Permit):
    """A permit of a limiter that keeps the budget, too."""

    __slots__ = ("reserved",)

    def __init__(self, permit: Permit, reserved: BudgetReservation) -> None:
        super().__init__(permit._group, permit._size, permit._reservation, permit._on_release)
        self.reserved = reserved


class EndpointPermit(Permit):
    """A permit for one request, and the endpoint that it is for. Takes the place of the limiter's permit."""

    __slots__ = ("_has_canary_turn", "endpoint", "is_probe", "job", "reserved")

    def __init__(
        self, endpoint: Endpoint, permit: Permit, job: Job, *, is_probe: bool, has_canary_turn: bool = False
    ) -> None:
        super().__init__(permit._group, permit._size, permit._reservation, permit._on_release)
        self.endpoint = endpoint
        self.job = job
        """The job as it is sent to this endpoint."""
        self.is_probe = is_probe
        self.reserved: BudgetReservation | None = permit.reserved if isinstance(permit, BudgetedPermit) else None
        """The request's worst case, in a run with a budget."""
        self._has_canary_turn = has_canary_turn

    def release(self) -> None:
        """Give the in-flight slot back, and the turn to probe or to be the canary. To be called once, at the end."""
        super().release()
        if self.is_probe:
            self.endpoint.health.probe_turn.end()
        if self._has_canary_turn:
            self.endpoint.health.canary.release()


class EndpointClosed(Exception):
    """Nothing more is sent in this run to the model, or for the limit group, of this job."""
