"""What the panel shows at one moment, as frozen values. ``panel_values`` gathers it, the layouts draw it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from processor.core.events import Bottleneck
from processor.core.fast_dataclass import dataclass
from processor.stats.recent_use import RecentColumns
from processor.terminal.panel_recorder import EndpointUse, PanelContext, RequestInFlight

Phase = Literal["starting", "working", "last_replies", "cool_down", "back_off", "outage", "stopping", "over"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageShown:
    since: datetime
    lasts_s: float
    message: str
    stops_at: datetime | None
    """When the run stops if it lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the run is doing."""

    phase: Phase
    time_left_s: float | None
    ends_at: datetime | None
    next_in_s: float | None
    """Seconds to the next request, or probe; None where that is not known."""
    outage: OutageShown | None
    stop_reason: str | None
    grace_left_s: float | None
    """Of a run that is stopping, where requests may still finish; None: there is no bound."""
    in_flight: int
    oldest_s: float | None
    """The age of the oldest request in flight."""
    bottleneck: Bottleneck | None
    bottleneck_share: float
    """The share of the run's time in which it held the run back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UseShown:
    """How much of one resource is used, of how much."""

    used: float
    limit: float | None
    is_bottleneck: bool

    @property
    def share(self) -> float | None:
        return self.used / self.limit if self.limit else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """USD. None: not known."""

    spent: float | None
    expected: float | None
    """At the end, if the other jobs cost as much as those that are done."""
    budget: float | None
    unpriced: int
    """Replies whose cost is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Of durations. None where there are none."""

    median_s: float | None
    p95_s: float | None
    longest_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepliesShown:
    first_token: Quantiles
    total: Quantiles
    tokens_per_s: float | None
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointShownLive:
    """One of several endpoints."""

    use: EndpointUse
    down_since: datetime | None
    probe_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShown:
    name: str
    done: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    first_token_s: float | None
    """The median."""
    tokens_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestShown:
    request: RequestInFlight
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeFormValues:
    """What only the large form shows."""

    models: tuple[ModelShown, ...]
    oldest: tuple[RequestShown, ...]
    notices: tuple[tuple[datetime, str], ...]
    """The newest first."""
    distribution: tuple[tuple[float, int], ...]
    """Of reply times: the upper bounds of adjoining buckets in seconds, and the replies in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelState:
    """Times of day are local."""

    time: datetime
    context: PanelContext
    elapsed_s: float
    done: str
    """``38,604/99,946``."""
    share: float | None
    situation: Situation
    money: Money
    requests: UseShown
    tokens: UseShown
    slots: UseShown
    recent: RecentColumns
    """As many columns as were asked for."""
    replies: RepliesShown
    failed: tuple[tuple[str, int], ...]
    """By code, the most frequent first."""
    retried: tuple[tuple[str, int], ...]
    endpoints: tuple[EndpointShownLive, ...]
    """Empty where there is one."""
    workers: str = ""
    """See ``workers_text``."""
    large: LargeFormValues | None = None
