"""Makes the endpoints of a run from its settings: address, key, limits and health of each, and the pool of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from processor.app.plan import Plan
from processor.config import GENERIC
from processor.config.endpoint_resolution import EndpointAccess
from processor.config.endpoint_settings import EndpointSettings
from processor.config.settings import Settings
from processor.core.events import BottleneckChanged, Listener, RunEvent
from processor.core.models import Target
from processor.endpoints.budget_gate import BudgetGate
from processor.endpoints.endpoint import Endpoint
from processor.endpoints.failover import Failover
from processor.endpoints.pool import EndpointPool
from processor.health.canary import TIMEOUT_WITH_KEY_S, TIMEOUT_WITHOUT_KEY_S
from processor.health.endpoint_health import EndpointHealth
from processor.protocols.refusal_reasons import refusal_reason
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.retry.backoff import Backoff
from processor.retry.policy import RetryPolicy


def endpoint_pool(
    plan: Plan,
    accesses: Sequence[EndpointAccess],
    targets: Sequence[Target],
    emit: Listener,
    *,
    concurrency: int,
    budget: BudgetGate | None = None,
) -> EndpointPool:
    """``targets``: of each access, with its key; without an access that of a simulator. ``concurrency``: the most
    requests in flight."""
    settings = plan.settings
    if not accesses or accesses[0].settings is None:
        access = accesses[0] if accesses else None
        emit_own = emit if budget is None else _without_bottlenecks(emit)
        only = _only_endpoint(plan, access, targets[0], emit_own, concurrency=concurrency)
        return EndpointPool(only) if budget is None else one_with_budget(only, emit, budget, concurrency=concurrency)
    from processor.endpoints.dispatcher import Dispatcher

    limiters: dict[str, RateLimiter] = {}
    endpoints = [
        _one_of_several(plan, access, access.settings, target, emit, limiters, concurrency=concurrency)
        for access, target in zip(accesses, targets, strict=True)
        if access.settings is not None
    ]
    # The limits of the run hold for all endpoints together; what a server announces concerns its endpoint alone.
    of_run = replace(limit_settings(settings, None, first_alone_s=0.0), concurrency_is_fixed=True)
    return EndpointPool(
        *endpoints,
        dispatcher=Dispatcher(
            endpoints,
            RateLimiter(of_run, emit=emit, concurrency=concurrency),
            in_order=settings.fallback,
            emit=emit,
            budget=budget,
        ),
        failover=Failover(
            endpoints, retry_elsewhere=frozenset(settings.retry_elsewhere), refusal_reason=refusal_reason
        ),
        budget=budget,
    )


def one_with_budget(only: Endpoint, emit: Listener, budget: BudgetGate, *, concurrency: int) -> EndpointPool:
    """The pool of one endpoint whose requests are admitted by the budget, too."""
    from processor.endpoints.dispatcher import Dispatcher

    settings = LimitSettings(first_alone_s=0.0, concurrency_is_fixed=True)
    unlimited = RateLimiter(settings, emit=emit, concurrency=concurrency)
    dispatcher = Dispatcher([only], unlimited, in_order=True, emit=emit, budget=budget)
    return EndpointPool(only, dispatcher=dispatcher, budget=budget)


def _without_bottlenecks(emit: Listener) -> Listener:
    """For an endpoint behind a dispatcher, which alone knows what the run waits for."""

    def emit_own(event: RunEvent) -> None:
        if not isinstance(event, BottleneckChanged):
            emit(event)

    return emit_own


def _only_endpoint(
    plan: Plan, access: EndpointAccess | None, target: Target, emit: Listener, *, concurrency: int
) -> Endpoint:
    alone_s = seconds_alone(target)
    health = endpoint_health(plan.settings, target.address, emit, alone_s=alone_s)
    limits = limit_settings(plan.settings, access, first_alone_s=alone_s)
    return Endpoint(target, RateLimiter(limits, emit=health.emit_from_limiter, concurrency=concurrency), health)


def _one_of_several(
    plan: Plan,
    access: EndpointAccess,
    table: EndpointSettings,
    target: Target,
    emit: Listener,
    limiters: dict[str, RateLimiter],
    *,
    concurrency: int,
) -> Endpoint:
    """``limiters``: those made so far, by limit group; the function adds to it."""
    emit_own = _without_bottlenecks(emit)
    alone_s = seconds_alone(target)
    health = endpoint_health(plan.settings, table.name, emit_own, alone_s=alone_s, is_only=False)
    group = table.name if table.limit_group is None else table.limit_group
    # A limit group and an endpoint may have the same name.
    key = f"{'endpoint' if table.limit_group is None else 'group'} {group}"
    limiter = limiters.get(key)
    if limiter is None:
        own = replace(
            limit_settings(plan.settings, access, first_alone_s=alone_s),
            default=RateLimits(rpm=table.rpm, tpm=table.tpm),
            per_model={},
            concurrency_is_fixed=(table.concurrency or plan.settings.fixed_concurrency) is not None,
        )
        limiter = limiters[key] = RateLimiter(
            own,
            emit=health.emit_from_limiter,
            concurrency=min(table.concurrency or concurrency, concurrency),
            name=group,
        )
    return Endpoint(target, limiter, health, name=table.name, weight=table.weight, model_sent=table.model_sent)


def seconds_alone(target: Target) -> float:
    """Return how long the first request is sent alone at most, where it has no answer."""
    return TIMEOUT_WITH_KEY_S if target.key else TIMEOUT_WITHOUT_KEY_S


def endpoint_health(
    settings: Settings, name: str, emit: Listener, *, alone_s: float, is_only: bool = True
) -> EndpointHealth:
    waiting = settings.waiting
    backoff = Backoff(min_s=waiting.backoff_min_s, max_s=waiting.backoff_max_s)
    policy = RetryPolicy(max_attempts=settings.max_attempts, backoff=backoff, max_wait_s=waiting.max_wait_s)
    return EndpointHealth(
        policy,
        emit,
        endpoint=name,
        max_outage_s=waiting.max_outage_s,
        canary_timeout_s=alone_s,
        is_only=is_only,
    )


def limit_settings(settings: Settings, access: EndpointAccess | None, *, first_alone_s: float) -> LimitSettings:
    provider = access.provider if access else GENERIC
    return LimitSettings(
        default=settings.limits,
        per_model=settings.limits.models,
        charging=settings.limits.charging or provider.charging,
        dialect=provider.rate_limit_headers,
        bursts=settings.limits.bursts,
        first_alone_s=first_alone_s,
        concurrency_is_fixed=settings.fixed_concurrency is not None,
    )
