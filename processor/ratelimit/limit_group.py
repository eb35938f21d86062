"""The limits that some requests share, and what has been reserved from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from math import inf

from processor.core.errors import ProcessorError
from processor.core.models import JSON, Cost, RequestSize, Usage
from processor.health.first_requests import FirstRequests
from processor.ratelimit.cooldown import CoolDown
from processor.ratelimit.fair_queue import FairQueue
from processor.ratelimit.headers import HeaderNames, Reported, Resource, parse_rate_limit_headers
from processor.ratelimit.refusals import RefusalCounter
from processor.ratelimit.reservation import CostByResource, QueuedRequest, Reservation
from processor.ratelimit.resource_limiter import ResourceLimiter
from processor.ratelimit.settings import RateLimits
from processor.ratelimit.strategies.concurrency_controller import ConcurrencyController
from processor.ratelimit.token_cost import ExpectedOutput
from processor.ratelimit.wake_up import WakeUp, WakeUpTimes

TOKEN_COST_TOLERANCE = 0.3
"""Relative uncertainty of token costs: servers estimate tokens by rules of their own."""


class TooLarge(ProcessorError):
    """This request alone exceeds a whole minute's limit: it can never be sent."""

    code = "too_large"


_WITH_OUTPUT: frozenset[Resource] = frozenset({"tokens", "project_tokens", "output_tokens"})
"""Limits that count the tokens of replies."""


class LimitGroup:
    """The state of one limit group: queue, limits, cool-down and concurrency. RateLimiter drives it.

    ``refunds_unused``: the server counts what was used, so that a settled reservation shrinks to that.
    ``bursts``: False paces evenly, whatever the headers allow.
    """

    def __init__(
        self,
        name: str,
        limits: RateLimits,
        *,
        concurrency: ConcurrencyController,
        refunds_unused: bool,
        bursts: bool,
        header_names: HeaderNames,
        first_alone_s: float,
        on_limits_changed: Callable[[LimitGroup, float], None],
        wake_up_times: WakeUpTimes,
    ) -> None:
        self.name = name
        self.queue: FairQueue[QueuedRequest] = FairQueue()
        self.wake_up = WakeUp(wake_up_times)
        self.in_flight = 0
        self.is_queueing = False
        """Whether requests wait since the queue was last looked at."""
        self.released_since_drain = 0
        """Requests that have ended since then: those that wait could not take their places yet."""
        self.cool_down = CoolDown()
        self._bursts = bursts
        self._header_names = header_names
        self.resource_limiters: dict[Resource, ResourceLimiter] = {}
        for resource, limit in _configured(limits).items():
            if limit is not None or resource in ("requests", "tokens"):
                self._add_limiter(resource, limit)
        self._requests = self.resource_limiters["requests"]
        self._has_limit = limits.is_set
        """Whether a limit is known: one is configured, or the server has announced one."""
        self._has_found_rate = False
        """Whether a rate of requests is in force that was found by trying."""
        self._concurrency = concurrency
        self._refunds_unused = refunds_unused
        self._on_limits_changed = on_limits_changed
        self._expected_outputs: dict[tuple[str, str], ExpectedOutput] = defaultdict(ExpectedOutput)
        """By API path and model."""
        self._first_requests = FirstRequests(first_alone_s)
        self.refusals = RefusalCounter()
        self._has_responded = False
        self._last_429_unattributed = False
        """The last 429 matches no known limit, so assume a limit on requests that the server does not announce."""

    @property
    def limits(self) -> RateLimits:
        """The limits in force."""
        limit = {resource: limiter.limit for resource, limiter in self.resource_limiters.items()}
        return RateLimits(
            rpm=limit["requests"],
            tpm=limit["tokens"],
            input_tpm=limit.get("input_tokens"),
            output_tpm=limit.get("output_tokens"),
        )

    @property
    def counters(self) -> dict[str, JSON]:
        """How the server counts, by resource, as far as that is known."""
        found = {resource: limiter.counter for resource, limiter in self.resource_limiters.items()}
        return {resource: counter for resource, counter in found.items() if counter is not None}

    def expected_output(self, size: RequestSize) -> ExpectedOutput:
        """Of replies to requests of the same API path and model."""
        return self._expected_outputs[size.path, size.model]

    # ------------------------------------------------------------ when a request may be sent

    def raise_if_too_large(self, cost: CostByResource) -> None:
        """Raises TooLarge."""
        if not self._has_limit:
            return
        for resource, limiter in self.resource_limiters.items():
            if cost[resource] > limiter.max_cost:
                what = resource.replace("_", " ")
                raise TooLarge(f"it is charged {cost[resource]} {what}, and the limit is {limiter.limit:.0f} a minute")

    def earliest(self, cost: CostByResource, now: float) -> tuple[float, Resource | None]:
        """When all limits allow this cost, and which of them is the last to allow it (None: all do now)."""
        latest, last = now, None
        for resource, limiter in self.resource_limiters.items():
            at = limiter.earliest(cost[resource], now)
            if at > latest + 1e-6:
                latest, last = at, resource
        return latest, last

    def concurrency_blocked_until(self, now: float) -> float | None:
        """Where no limit is known, the number of requests in flight is controlled instead.

        None: another request may be sent; inf: not before one in flight is done.
        """
        if self._has_limit or self.in_flight == 0:
            return None
        if (until := self._first_requests.blocked_until(self.in_flight, now)) is not None:
            return until
        return inf if self.in_flight >= self._concurrency.limit else None

    def awaits_first_response(self, now: float) -> bool:
        """Whether no more is sent because the first response may name the limits."""
        return not self._has_limit and self._first_requests.blocked_until(self.in_flight, now) is not None

    # ------------------------------------------------------------ what became of a request

    def grant(self, cost: Cost, by_resource: CostByResource, now: float) -> Reservation:
        self.in_flight += 1
        self._first_requests.start(now)
        for resource, limiter in self.resource_limiters.items():
            limiter.on_grant(by_resource[resource], now)
        if not self._has_found_rate and self._requests.has_found_rate:
            # From now on the rate is controlled, and not the number in flight.
            self._has_found_rate = True
            self._concurrency.throttled(now)
        return Reservation(cost, by_resource, now)

    def sent(self, reservation: Reservation, at: float) -> None:
        reservation.sent_at, cost = at, reservation.cost_by_resource
        for resource, limiter in self.resource_limiters.items():
            limiter.on_sent(cost[resource], at)
        self.wake_up.fire()

    def responded(self, reservation: Reservation, status: int, headers: Mapping[str, str], at: float) -> None:
        """Apply the headers. A 429 is attributed to a limit; the cool-down begins with ``throttled``."""
        reservation.responded = True
        cost, granted_at = reservation.cost_by_resource, reservation.granted_at
        reported = parse_rate_limit_headers(headers, self._header_names)
        changed = bool(reported) and self._apply_headers(reservation, reported, at, is_429=status == 429)
        if status == 429:
            self._attribute_429(reservation, reported, at)
        else:
            self._has_responded = True
            self.cool_down.responded()
            self._requests.on_accepted(reservation.effective_sent_at)
            self._first_requests.allow_all()
        for resource, limiter in self.resource_limiters.items():
            limiter.on_response(cost[resource], granted_at, at)
            if resource in reported:
                changed |= limiter.has_new_counter()
            elif status == 200:
                limiter.on_headers_absent()
        self.wake_up.fire()
        if changed:
            self._on_limits_changed(self, at)

    def first_token(self, reservation: Reservation, at: float) -> None:
        if self._has_limit or reservation.sent_at is None:
            return
        if self._concurrency.on_first_token(sent_at=reservation.sent_at, at=at):
            self.wake_up.fire()

    def throttled(self, reservation: Reservation, retry_after_s: float | None, at: float) -> None:
        """Hold the whole group back."""
        is_new = self.cool_down.was_sent_after_last_429(reservation.sent_at)
        # A 429 to the very first request says nothing of a rate: it may be meant for that job alone.
        if self._last_429_unattributed and self._has_responded:
            self._requests.on_unexplained_429(reservation.effective_sent_at, at, is_wait_named=bool(retry_after_s))
        if retry_after_s:
            for resource, limiter in self.resource_limiters.items():
                limiter.reset_pacer(at + retry_after_s, reservation.cost_by_resource[resource])
        self._has_responded = True
        self._hold_back(retry_after_s, at, is_new=is_new)

    def hold_back(self, reservation: Reservation, wait_s: float, at: float) -> None:
        """A response other than a 429 asks to wait."""
        self._hold_back(wait_s, at, is_new=True)

    def _hold_back(self, wait_s: float | None, at: float, *, is_new: bool) -> None:
        self.cool_down.throttled(wait_s, at, is_new=is_new)
        self._concurrency.pause(self.cool_down.until)
        self.wake_up.fire()

    def settled(self, reservation: Reservation, size: RequestSize, used: Usage, at: float) -> None:
        if size.max_tokens is None:
            self.expected_output(size).learn(used.completion_tokens / size.choices)
        if reservation.sent_at is None:
            return
        self.refusals.on_answered(reservation.sent_at)
        if not self._has_limit:
            tokens = used.completion_tokens or 1
            # Of replies that come together the first frees a place that the next one's count must not miss.
            in_flight = self.in_flight + (self.released_since_drain if self.is_queueing else 0)
            self._concurrency.on_reply(sent_at=reservation.sent_at, at=at, tokens=tokens, in_flight=in_flight)
        if self._refunds_unused:
            self._refund(reservation, used, reservation.sent_at, at)

    def release(self, reservation: Reservation) -> None:
        self.in_flight -= 1
        self.released_since_drain += 1
        if reservation.sent_at is None or not reservation.responded:
            self._on_no_response(reservation)
        self.wake_up.fire()

    def _on_no_response(self, reservation: Reservation) -> None:
        for resource, limiter in self.resource_limiters.items():
            amount = reservation.cost_by_resource[resource]
            if reservation.sent_at is None:
                limiter.on_cancelled(amount, reservation.granted_at)
            else:
                limiter.on_response_lost(amount, reservation.granted_at)

    def _refund(self, reservation: Reservation, used: Usage, sent_at: float, at: float) -> None:
        # The prompt was counted when it arrived, and its tokens may be the server's where ours are an estimate.
        unused = reservation.cost.output_tokens - used.completion_tokens
        for resource, limiter in self.resource_limiters.items():
            if unused and resource in _WITH_OUTPUT:
                limiter.refund(unused, sent_at, at)
        self.wake_up.fire()

    def _apply_headers(
        self, reservation: Reservation, reported: Mapping[Resource, Reported], at: float, *, is_429: bool
    ) -> bool:
        """Returns whether the limits in force changed."""
        changed = False
        sent_at, cost = reservation.effective_sent_at, reservation.cost_by_resource
        for resource, values in reported.items():
            limiter = self.resource_limiters.get(resource) or self._add_limiter(resource, None)
            changed |= limiter.on_headers(values, sent_at, cost[resource], at, refused=is_429)
        self._has_limit |= changed
        return changed

    def _attribute_429(self, reservation: Reservation, reported: Mapping[Resource, Reported], at: float) -> None:
        """Attribute a 429 to the limits whose headers show no room for it. If all show room, each of them has
        announced more than it grants."""
        limiters = self.resource_limiters
        exhausted = [
            resource
            for resource, values in reported.items()
            if values.remaining is not None
            and values.remaining < limiters[resource].max_server_cost(reservation.cost_by_resource[resource])
        ]
        self._last_429_unattributed = self._requests.limit is None and not any(
            limiters[resource].may_explain_429(reservation.granted_at, is_exhausted=resource in exhausted)
            for resource in reported
        )
        for resource in exhausted or limiters:
            limiters[resource].on_throttled(reservation.granted_at, at, had_room=not exhausted and resource in reported)

    def _add_limiter(self, resource: Resource, configured: float | None) -> ResourceLimiter:
        tolerance = 0.0 if resource == "requests" else TOKEN_COST_TOLERANCE
        limiter = ResourceLimiter(configured, tolerance=tolerance, bursts=self._bursts)
        self.resource_limiters[resource] = limiter
        return limiter


def _configured(limits: RateLimits) -> dict[Resource, float | None]:
    return {
        "requests": limits.rpm,
        "tokens": limits.tpm,
        "input_tokens": limits.input_tpm,
        "output_tokens": limits.output_tpm,
    }
