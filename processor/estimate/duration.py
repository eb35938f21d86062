"""How long a run takes: what each limit allows, and which one binds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from math import floor, inf
from typing import Literal

from processor.core.fast_dataclass import dataclass
from processor.estimate.group_totals import GroupTotals
from processor.ratelimit.settings import LimitSettings

Resource = Literal["requests", "tokens", "input_tokens", "output_tokens", "in_flight"]

EQUAL_WITHIN = 0.01
"""A configured limit that differs from the server's by less is the server's: then bursts are sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits per minute of a server. None: not known; inf: it announces none."""

    rpm: float | None = None
    tpm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLimits:
    """What an earlier run tells about the limits of the server."""

    by_group: Mapping[str, ServerLimits] = field(default_factory=dict)
    """By limit group, where the server has announced any."""
    is_silent: bool = False
    """Whether replies came and no limit was announced."""

    def of(self, group: str) -> ServerLimits:
        """The limits of a group. Where one alone was seen, it may have had another name: limits given rename it."""
        if group in self.by_group:
            return self.by_group[group]
        if len(self.by_group) == 1:
            return next(iter(self.by_group.values()))
        return ServerLimits(rpm=inf, tpm=inf) if self.is_silent else ServerLimits()


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

    @property
    def sending_s(self) -> float | None:
        """Until the last request is sent."""
        return self.bounds[0].seconds if self.bounds else None


def duration_of(
    groups: Mapping[str, GroupTotals],
    limits: LimitSettings,
    seen: SeenLimits,
    *,
    reply_s: float | None,
    concurrency: int | None,
) -> Duration:
    """``seen``: in an earlier run. ``reply_s``: the mean time of a reply, None where it is not known.

    ``concurrency``: the number of requests in flight; None where the run finds it.
    """
    bounds = [bound for name, group in groups.items() for bound in _bounds_of(name, group, limits, seen)]
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


def _bounds_of(name: str, group: GroupTotals, limits: LimitSettings, seen: SeenLimits) -> list[Bound]:
    configured, server = limits.of(group.model), seen.of(name)
    found = (
        _bound("requests", name, group, configured.rpm, server.rpm, bursts=limits.bursts),
        _bound("tokens", name, group, configured.tpm, server.tpm, bursts=limits.bursts),
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
    limit = min((limit for limit in (configured, server) if limit is not None), default=inf)
    if limit == inf or not amount:
        return None
    # What the server's counter holds at the start is sent at once. Below the server's limit requests are paced evenly.
    # Where the server's limit is not known, it is taken to be the one given.
    is_burst = bursts and (server is None or limit >= server * (1 - EQUAL_WITHIN))
    # Either way no minute has more than the limit.
    per_minute = _whole_requests(limit, amount / group.requests)
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
