"""How long a run takes: what each limit allows, and which one binds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, floor, inf
from typing import Literal

from processor.core.fast_dataclass import dataclass
from processor.estimate.group_totals import GroupTotals
from processor.estimate.seen_limits import Counter, SeenLimits
from processor.ratelimit.settings import LimitSettings

Resource = Literal["requests", "tokens", "input_tokens", "output_tokens", "in_flight"]

EQUAL_WITHIN = 0.01
"""A configured limit that differs from the server's by less is the server's: then bursts are sent."""

STEPS = 200
"""In so many steps it is followed how much of a limit is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What one limit allows."""

    resource: Resource
    limit_group: str
    seconds: float
    amount: float
    """Requests or tokens; for ``in_flight`` the seconds of all replies."""
    limit: float
    """Per minute; for ``in_flight`` the requests at once."""
    is_from_history: bool = False
    counter: Counter | None = None
    """How the server counts; None where its counter does not matter, because requests are paced evenly below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a run begins, in seconds."""

    alone_s: float = 0.0
    """The first request is in flight alone so long."""
    probe_s: float = 0.0
    """So long a first burst waits for its responses, before all that fits is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """The requests that may be in flight."""

    requests: int
    tail_s: float = 0.0
    """The last reply comes so much later than if all requests in flight ended together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    bounds: tuple[Bound, ...]
    """The longest first; empty where nothing is known that bounds the run."""
    start_s: float
    """Until more than a first request, and a first burst, are sent."""
    end_s: float
    """From sending the last request to the end of the last reply."""

    @property
    def seconds(self) -> float | None:
        return None if self.sending_s is None else self.sending_s + self.end_s

    @property
    def sending_s(self) -> float | None:
        """Until the last request is sent."""
        return self.start_s + self.bounds[0].seconds if self.bounds else None


def duration_of(
    groups: Mapping[str, GroupTotals],
    limits: LimitSettings,
    seen: SeenLimits,
    *,
    likeliest: Counter,
    start: Start,
    in_flight: InFlight | None,
) -> Duration:
    """``seen``: in an earlier run. ``likeliest``: the counter of a server of which no run has found it out.

    ``in_flight``: None where the run finds their number.
    """
    requests = sum(group.requests for group in groups.values())
    replies_s = sum(group.replies_s for group in groups.values())
    bounds = []
    if in_flight is not None and replies_s:
        bounds.append(_bound_in_flight(requests, replies_s, in_flight.requests))
    full_speed_s = bounds[0].seconds if bounds else 0.0
    for name, group in groups.items():
        if (reserving := _bound_by_reservations(name, group, limits, seen)) is not None:
            bounds.append(reserving)
        bounds += _bounds_of(name, group, limits, seen, likeliest, full_speed_s)
    bounds.sort(key=lambda bound: bound.seconds, reverse=True)
    has_bursts = any(bound.counter is not None and not bound.counter.is_small for bound in bounds)
    is_bound_in_flight = bool(bounds) and bounds[0].resource == "in_flight"
    return Duration(
        bounds=tuple(bounds),
        start_s=start.alone_s + (start.probe_s if has_bursts else 0.0),
        end_s=replies_s / max(requests, 1) + (in_flight.tail_s if in_flight and is_bound_in_flight else 0.0),
    )


def _bound_in_flight(requests: int, replies_s: float, limit: int) -> Bound:
    beyond_first = max(requests - limit, 0) / requests
    return Bound(
        resource="in_flight", limit_group="*", seconds=beyond_first * replies_s / limit, amount=replies_s, limit=limit
    )


def _bound_by_reservations(name: str, group: GroupTotals, limits: LimitSettings, seen: SeenLimits) -> Bound | None:
    """Where the server counts what was used, each request in flight holds the most that it may use: only so many fit
    at once into what is left of the limit."""
    tpm = min(_known(limits.of(group.model).tpm), _known(seen.of(name).tpm))
    if tpm == inf or not group.reserved or not group.replies_s:
        return None
    requests = group.requests
    reserved, used, reply_s = group.reserved / requests, group.tokens / requests, group.replies_s / requests
    beyond_first = max(requests - max(floor(tpm / reserved), 1), 0)
    seconds, left = 0.0, tpm
    step = beyond_first / STEPS
    for _ in range(STEPS if beyond_first else 0):
        if left < reserved:
            seconds += (reserved - left) * 60 / tpm
            left = reserved
        took_s = step * reply_s / max(floor(left / reserved), 1)
        seconds += took_s
        left = min(tpm, left - step * used + took_s * tpm / 60)
    at_once = beyond_first * reply_s / seconds if seconds else tpm / reserved
    bound = _bound_in_flight(requests, group.replies_s, max(round(at_once), 1))
    return replace(bound, limit_group=name, seconds=seconds)


def _known(limit: float | None) -> float:
    return inf if limit is None else limit


def _bounds_of(
    name: str, group: GroupTotals, limits: LimitSettings, seen: SeenLimits, likeliest: Counter, full_speed_s: float
) -> list[Bound]:
    configured, server = limits.of(group.model), seen.of(name)
    pairs: tuple[tuple[Resource, float | None, float | None], ...] = (
        ("requests", configured.rpm, server.rpm),
        ("tokens", configured.tpm, server.tpm),
        ("input_tokens", configured.input_tpm, None),
        ("output_tokens", configured.output_tpm, None),
    )
    found = []
    for resource, of_user, of_server in pairs:
        limit = min((limit for limit in (of_user, of_server) if limit is not None), default=inf)
        amount = getattr(group, resource)
        if limit == inf or not amount:
            continue
        # The server's count governs where its limit is not above that given. Where it is not known, it is taken to be
        # the one given.
        is_governed = limits.bursts and (of_server is None or limit >= of_server * (1 - EQUAL_WITHIN))
        counter = server.counters.get(resource, likeliest) if is_governed else None
        found.append(
            Bound(
                resource=resource,
                limit_group=name,
                seconds=_sending_s(amount, limit, amount / group.requests, counter, full_speed_s),
                amount=amount,
                limit=limit,
                is_from_history=of_user is None or (of_server is not None and of_server < of_user),
                counter=counter,
            )
        )
    return found


def _sending_s(amount: float, limit: float, mean: float, counter: Counter | None, full_speed_s: float) -> float:
    """The time until all of it is sent. ``mean``: of a request. ``full_speed_s``: the same where no limit holds it
    back."""
    if counter is None:  # no minute has more than the limit
        return amount * 60 / _whole_requests(limit, mean)
    if counter.kind == "bucket":  # what it holds at the start is sent at once, where that is more than a moment's
        held = 0.0 if counter.is_small else limit * counter.period_s / 60
        return max(amount - held, 0.0) * 60 / limit
    # What fills a window is sent at once; then nothing is, until the window is over.
    size = _whole_requests(limit * counter.period_s / 60, mean)
    full_windows = max(ceil(amount / size) - 1, 0)
    rest = amount - full_windows * size
    return full_windows * counter.period_s + full_speed_s * rest / amount


def _whole_requests(limit: float, mean: float) -> float:
    """What a window holds of requests that are charged ``mean`` each: only whole ones fit."""
    return max(floor(limit / mean) * mean, min(mean, limit))
