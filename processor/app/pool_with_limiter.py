"""Makes the endpoint of a session whose limiter is not its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from processor.app.endpoint_factory import endpoint_health, limit_settings, seconds_alone
from processor.app.plan import Plan
from processor.config.endpoint_resolution import EndpointAccess
from processor.core.errors import ConfigError
from processor.core.events import Listener
from processor.core.models import Target
from processor.cost.price_list import PriceList
from processor.endpoints.budget_gate import BudgetGate
from processor.endpoints.endpoint import Endpoint, Limiter
from processor.endpoints.pool import EndpointPool
from processor.health.endpoint_health import EndpointHealth
from processor.ratelimit.settings import LimitSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterNeeds:
    """What the limiter of an endpoint is made from."""

    access: EndpointAccess
    target: Target
    limits: LimitSettings
    fixed_concurrency: int | None
    """As the user has given it."""
    max_in_flight: int
    """The most requests that this process can have in flight."""
    health: EndpointHealth
    budget: BudgetGate | None
    prices: PriceList


MakeLimiter = Callable[[LimiterNeeds], Limiter]


def pool_with_limiter(
    plan: Plan,
    accesses: Sequence[EndpointAccess],
    targets: Sequence[Target],
    emit: Listener,
    make_limiter: MakeLimiter,
    *,
    concurrency: int,
    budget: BudgetGate | None,
    prices: PriceList,
) -> EndpointPool:
    """The pool of one endpoint whose limiter keeps the budget, too. Raises ConfigError where there are several."""
    if len(accesses) != 1 or accesses[0].settings is not None or plan.settings.local is not None:
        given = "a local model" if plan.settings.local is not None else "[[endpoints]]"
        raise ConfigError(f"sessions share the limits of one address, and cannot use {given}: give base_url")
    access, target = accesses[0], targets[0]
    alone_s = seconds_alone(target)
    health = endpoint_health(plan.settings, target.address, emit, alone_s=alone_s)
    limiter = make_limiter(
        LimiterNeeds(
            access=access,
            target=target,
            limits=limit_settings(plan.settings, access, first_alone_s=alone_s),
            fixed_concurrency=plan.settings.fixed_concurrency,
            max_in_flight=concurrency,
            health=health,
            budget=budget,
            prices=prices,
        )
    )
    return EndpointPool(Endpoint(target, limiter, health), budget=budget)
