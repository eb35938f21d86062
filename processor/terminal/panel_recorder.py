"""What the panel shows beside the statistics of the run: samples over time, outages, notices, sums by model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from processor.core.events import (
    Bottleneck,
    ConcurrencyChanged,
    JobFinished,
    Notice,
    OutageEnded,
    OutageStarted,
    RunEvent,
    Stopping,
)
from processor.core.fast_dataclass import dataclass
from processor.stats.model_stats import ModelStats
from processor.stats.recent_use import RecentUse, Use
from processor.stats.run_stats import RunStats

MAX_NOTICES = 8
BOTTLENECK_SAMPLES = 20
"""The bottleneck changes many times a second: shown is what held the run back most of the time over these samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInFlight:
    """One request that has no reply yet. ``started_at``: the event loop's time."""

    custom_id: str
    line: int
    attempt: int
    started_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointUse:
    """One of several endpoints."""

    name: str
    requests: int
    """Sent in this run."""
    in_flight: int
    down_since: float | None = None
    """The event loop's time; None where it is up."""
    next_probe_at: float = 0.0
    """When it is down."""
    stopped: str | None = None
    """Why nothing, or nothing of one model, is sent there any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelContext:
    """What is known of a run before it starts."""

    source: str = ""
    """The name of the job file."""
    destination: str = ""
    key_from: str | None = None
    concurrency: int | None = None
    """As configured; None: the run finds it."""
    max_outage_s: float | None = None


class RunDetails:
    """What only the parts at work know. To be replaced by their own functions before the run starts."""

    def __init__(self) -> None:
        self.oldest_requests: Callable[[int], Sequence[RequestInFlight]] = lambda count: ()
        self.endpoints: Callable[[], Sequence[EndpointUse]] = lambda: ()


class PanelRecorder:
    """A listener; ``sample`` is to be called before each picture."""

    event_types = (ConcurrencyChanged, JobFinished, Notice, OutageEnded, OutageStarted, Stopping)

    def __init__(self, stats: RunStats, context: PanelContext, details: RunDetails) -> None:
        self.stats = stats
        self.context = context
        self.details = details
        self.recent_use = RecentUse()
        self.models = ModelStats()
        self.outages: dict[str, OutageStarted] = {}
        """Those that are on, by endpoint."""
        self.stopping: Stopping | None = None
        self.notices: deque[tuple[float, str]] = deque(maxlen=MAX_NOTICES)
        """With the event loop's time."""
        self._concurrency: dict[str, int] = {}
        self._bottleneck_s: deque[dict[Bottleneck | None, float]] = deque(maxlen=BOTTLENECK_SAMPLES)

    def __call__(self, event: RunEvent) -> None:
        match event:
            case JobFinished():
                self.models(event)
            case ConcurrencyChanged():
                self._concurrency[event.limit_group] = event.limit
            case Notice():
                self.notices.append((event.at, event.text))
            case OutageStarted():
                self.outages[event.endpoint] = event
                self.notices.append((event.at, f"down: {event.message}"))
            case OutageEnded():
                self.outages.pop(event.endpoint, None)
                self.notices.append((event.at, "the provider is back"))
            case Stopping():
                self.stopping = event

    def sample(self, now: float) -> None:
        stats = self.stats
        requests, tokens = stats.throughput.requests_last_minute(now), stats.throughput.tokens_last_minute(now)
        self.recent_use.record(now, Use(requests, tokens, stats.in_flight))
        self._bottleneck_s.append(stats.throughput.bottleneck_s(now))

    @property
    def concurrency(self) -> int | None:
        """The most requests in flight: as the run has found out, else as configured."""
        return sum(self._concurrency.values()) if self._concurrency else self.context.concurrency

    @property
    def bottleneck(self) -> Bottleneck | None:
        """What held the run back most of the time lately."""
        if len(self._bottleneck_s) < 2:
            return self.stats.throughput.bottleneck
        before, after = self._bottleneck_s[0], self._bottleneck_s[-1]
        spent_s = {name: total_s - before.get(name, 0.0) for name, total_s in after.items()}
        return max(spent_s, key=lambda name: spent_s[name], default=None)
