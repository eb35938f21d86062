"""One lane: the limits that some requests share, and what has been charged to them. Pure but for its line and bell."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from processor.core.errors import ProcessorError
from processor.core.models import Cost, Usage
from processor.ratelimit.cooldown import CoolDown
from processor.ratelimit.estimator.send_history import WINDOW_S
from processor.ratelimit.fair_queue import FairQueue, WakeUp
from processor.ratelimit.headers import Reported, Resource, read
from processor.ratelimit.resource_limiter import ResourceLimiter
from processor.ratelimit.settings import RateLimits
from processor.ratelimit.strategies.concurrency_controller import ConcurrencyController

SCOUT_S = 2.0
"""While nothing at all is known of a lane, its first request goes ahead alone, for at most so long."""

TOKEN_COST_TOLERANCE = 0.3
"""Servers estimate tokens by rules of their own."""


class TooLarge(ProcessorError):
    """This request alone exceeds a whole minute's limit: it can never go."""

    code = "too_large"


CostByResource = Mapping[Resource, int]


def cost_by_resource(cost: Cost) -> CostByResource:
    """What each limit is charged. A project's limit on tokens counts as the model's."""
    return {
        "requests": cost.requests,
        "tokens": cost.tokens,
        "project_tokens": cost.tokens,
        "input_tokens": cost.input_tokens,
        "output_tokens": cost.output_tokens,
    }


@dataclass(slots=True)
class Reservation:
    """What one request has taken from a lane."""

    cost: Cost
    cost_by_resource: CostByResource
    granted_at: float
    sent_at: float | None = None
    answered: bool = False

    @property
    def went_at(self) -> float:
        """When it was sent; when it was granted, as long as that is not known."""
        return self.granted_at if self.sent_at is None else self.sent_at


@dataclass(slots=True)
class QueuedRequest:
    """Somebody in a lane's line, who waits for a charge."""

    cost: Cost
    cost_by_resource: CostByResource
    charge: asyncio.Future[Reservation]

    @property
    def is_over(self) -> bool:
        return self.charge.done()


class LimitGroup:
    def __init__(self, name: str, limits: RateLimits, *, concurrency: int) -> None:
        self.name = name
        self.line: FairQueue[QueuedRequest] = FairQueue()
        self.bell = WakeUp()
        self.in_flight = 0
        self.cooling = CoolDown()
        self.meters: dict[Resource, ResourceLimiter] = {}
        for resource, limit in _configured(limits).items():
            if limit is not None or resource in ("requests", "tokens"):
                self._meter(resource, limit)
        self._requests = self.meters["requests"]
        self._level = ConcurrencyController(concurrency)
        self._scouted_at = inf
        """When others may follow the first request, though nothing is known yet."""
        self._unexplained = False
        """The last refusal is due to no limit that is known: so to one on requests that the server does not name."""

    @property
    def limits(self) -> RateLimits:
        """What is in force."""
        limit: dict[str, float | None] = {resource: meter.limit for resource, meter in self.meters.items()}
        return RateLimits(
            rpm=limit["requests"],
            tpm=limit["tokens"],
            input_tpm=limit.get("input_tokens"),
            output_tpm=limit.get("output_tokens"),
        )

    @property
    def unlimited(self) -> bool:
        """Whether no limit is known: the server has named none, and none is configured."""
        return self._requests.limit is None and all(meter.limit is None for meter in self.meters.values())

    # ------------------------------------------------------------ when

    def check(self, wanted: CostByResource) -> None:
        """Raises TooLarge."""
        for resource, meter in self.meters.items():
            amount = wanted[resource]
            if meter.exceeds_limit(amount):
                what = resource.replace("_", " ")
                raise TooLarge(f"it is charged {amount} {what}, and the limit is {meter.limit:.0f} a minute")

    def when(self, wanted: CostByResource, now: float) -> tuple[float, Resource | None]:
        """From when on every limit has room for this, and which of them is the last to have it (None: now)."""
        latest: tuple[float, Resource | None] = (now, None)
        for resource, meter in self.meters.items():
            at = meter.earliest(wanted[resource], now)
            if at > latest[0] + 1e-6:
                latest = (at, resource)
        return latest

    def full_until(self, now: float) -> float | None:
        """A server that names no limits has a level of its own. None: there is room; inf: until a request is done."""
        if self.in_flight == 0 or not self.unlimited:
            return None
        if now < self._scouted_at:
            return self._scouted_at
        return inf if self.in_flight >= self._level.limit else None

    # ------------------------------------------------------------ what becomes of a request

    def grant(self, cost: Cost, wanted: CostByResource, now: float) -> Reservation:
        self.in_flight += 1
        if self._scouted_at == inf:
            self._scouted_at = now + SCOUT_S
        if self._requests.aimd.judge(now):
            # From then on it is the pace that is found.
            self._level.refused(now)
        for resource, meter in self.meters.items():
            meter.on_grant(wanted[resource], now)
        return Reservation(cost, wanted, now)

    def sent(self, charge: Reservation, at: float) -> None:
        charge.sent_at = at
        for resource, meter in self.meters.items():
            meter.on_sent(charge.cost_by_resource[resource], at)
        self._requests.aimd.sent(at)
        self.bell.ring()

    def response(self, charge: Reservation, status: int, headers: Mapping[str, str], at: float) -> bool:
        """Returns whether the limits in force changed."""
        charge.answered = True
        said = read(headers)
        changed = self._hear(charge, said, at, refused=status == 429)
        if status == 429:
            self._blame(charge, said, at)
        else:
            self.cooling.answered()
            self._requests.aimd.answered(charge.went_at)
            self._scouted_at = -inf
        for resource, meter in self.meters.items():
            if status == 200 and resource not in said:
                meter.on_headers_absent()
            meter.on_response(charge.granted_at)
        self.bell.ring()
        return changed

    def refused(self, charge: Reservation, retry_after_s: float | None, at: float) -> None:
        """Hold the whole lane back."""
        news = self.cooling.is_news(charge.sent_at)
        if self._unexplained:
            sent_at, ledger = charge.went_at, self._requests.model.history
            held = ledger.total_sent_by(sent_at) - ledger.total_sent_by(sent_at - WINDOW_S)
            self._requests.aimd.refused(sent_at, at, held)
        if retry_after_s:
            for resource, meter in self.meters.items():
                meter.reset_pacer(at + retry_after_s, charge.cost_by_resource[resource])
        self.cooling.refused(retry_after_s, at, news=news)
        self.bell.ring()

    def settle(self, charge: Reservation, used: Usage, at: float, *, correct: bool) -> None:
        """``correct``: the server counts what was used."""
        if charge.sent_at is None:
            return
        self._level.replied(sent_at=charge.sent_at, at=at, work=used.completion_tokens or 1, in_flight=self.in_flight)
        if not correct:
            return
        spent = cost_by_resource(
            Cost(tokens=used.total_tokens, input_tokens=used.prompt_tokens, output_tokens=used.completion_tokens)
        )
        for resource, meter in self.meters.items():
            excess = charge.cost_by_resource[resource] - spent[resource]
            if excess:
                meter.refund(excess, charge.sent_at)
        self.bell.ring()

    def release(self, charge: Reservation) -> None:
        self.in_flight -= 1
        for resource, meter in self.meters.items():
            amount = charge.cost_by_resource[resource]
            if charge.sent_at is None:
                meter.on_cancelled(amount, charge.granted_at)
            elif not charge.answered:
                meter.on_response_lost(amount, charge.granted_at)
        self.bell.ring()

    def _hear(self, charge: Reservation, said: Mapping[Resource, Reported], at: float, *, refused: bool) -> bool:
        changed = False
        went_at = charge.went_at
        for resource, reported in said.items():
            meter = self.meters.get(resource) or self._meter(resource, None)
            amount = charge.cost_by_resource[resource]
            changed |= meter.on_headers(reported, went_at, amount, at, refused=refused)
        return changed

    def _blame(self, charge: Reservation, said: Mapping[Resource, Reported], at: float) -> None:
        """A 429 is due to the limits whose headers show no room. If none does, they promised more than is granted."""
        scarce = [
            resource
            for resource, reported in said.items()
            if reported.remaining is not None
            and reported.remaining < self.meters[resource].max_server_cost(charge.cost_by_resource[resource])
        ]
        self._unexplained = self._requests.limit is None and not any(
            self.meters[resource].may_explain_429(charge.granted_at, scarce=resource in scarce) for resource in said
        )
        for resource in scarce or self.meters:
            self.meters[resource].on_throttled(charge.granted_at, at, promised=not scarce and resource in said)

    def _meter(self, resource: Resource, configured: float | None) -> ResourceLimiter:
        meter = ResourceLimiter(configured, tolerance=0.0 if resource == "requests" else TOKEN_COST_TOLERANCE)
        self.meters[resource] = meter
        return meter


def _configured(limits: RateLimits) -> dict[Resource, float | None]:
    return {
        "requests": limits.rpm,
        "tokens": limits.tpm,
        "input_tokens": limits.input_tpm,
        "output_tokens": limits.output_tpm,
    }
