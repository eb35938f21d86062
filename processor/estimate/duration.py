"""How long a run takes: what each limit allows, and which one binds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import Literal

from processor.core.fast_dataclass import dataclass
from processor.estimate.job_counts import GroupTotals
from processor.ratelimit.settings import LimitSettings

Resource = Literal["requests", "tokens", "input_tokens", "output_tokens", "in_flight"]

EQUAL_WITHIN = 0.01
"""A configured limit that differs from the server's by less is the server's: then bursts are sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits per minute that the server announced in an earlier run; None: not known."""

    rpm: float | None = None
    tpm: float | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    bounds: tuple[Bound, ...]
    """The longest first; empty where nothing is known that bounds the run."""
    reply_s: float
    """The mean time of a reply, which the last request takes as well."""

    @property
    def seconds(self) -> float | None:
        return self.bounds[0].seconds + self.reply_s if self.bounds else None


def duration_of(
    groups: Mapping[str, GroupTotals],
    limits: LimitSettings,
    server: Mapping[str, ServerLimits],
    *,
    reply_s: float | None,
    concurrency: int | None,
) -> Duration:
    """``server``: by limit group. ``reply_s``: the mean time of a reply, None where it is not known.

    ``concurrency``: the number of requests in flight; None where the run finds it.
    """
    bounds = [bound for name, group in groups.items() for bound in _bounds_of(name, group, limits, server.get(name))]
    requests = sum(group.requests for group in groups.values())
    if reply_s is not None and concurrency is not None and requests:
        spent_s = max(requests - concurrency, 0) * reply_s / concurrency
        bounds.append(
            Bound(
                resource="in_flight",
                limit_group="*",
                seconds=spent_s,
                amount=requests * reply_s,
                limit=concurrency,
            )
        )
    bounds.sort(key=lambda bound: bound.seconds, reverse=True)
    return Duration(bounds=tuple(bounds), reply_s=reply_s or 0.0)


def _bounds_of(name: str, group: GroupTotals, limits: LimitSettings, server: ServerLimits | None) -> list[Bound]:
    configured, known = limits.of(group.model), server or ServerLimits()
    found = (
        _bound("requests", name, group, configured.rpm, known.rpm, bursts=limits.bursts),
        _bound("tokens", name, group, configured.tpm, known.tpm, bursts=limits.bursts),
        _bound("input_tokens", name, group, configured.input_tpm, None, bursts=limits.bursts),
        _bound("output_tokens", name, group, configured.output_tpm, None, bursts=limits.bursts),
    )
    return [bound for bound in found if bound is not None]


def _bound(
    resource: Resource,
    name: str,
    group: GroupTotals,
    configured: float | None,
    server: float | None,
    *,
    bursts: bool,
) -> Bound | None:
    amount = getattr(group, resource)
    known = [limit for limit in (configured, server) if limit is not None]
    if not known or not amount:
        return None
    limit = min(known)
    # What the server's counter holds at the start is sent at once. Below the server's limit requests are paced evenly.
    # Where the server's limit is not known, it is taken to be the one given.
    is_burst = bursts and (server is None or limit >= server * (1 - EQUAL_WITHIN))
    per_minute = _whole_requests(limit, amount / group.requests) if is_burst else limit
    paced = max(amount - per_minute, 0.0) if is_burst else amount
    return Bound(
        resource=resource,
        limit_group=name,
        seconds=paced * 60 / per_minute,
        amount=amount,
        limit=limit,
        is_from_history=configured is None or (server is not None and server < configured),
    )


def _whole_requests(limit: float, mean: float) -> float:
    """What a window of one minute holds of requests that are charged ``mean`` each: only whole ones fit."""
    return max(floor(limit / mean) * mean, min(mean, limit))
