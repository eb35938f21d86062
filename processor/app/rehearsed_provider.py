"""The simulated provider of a rehearsal: with the limits, counters, lengths and times that earlier runs have seen."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import inf, sqrt
from statistics import pstdev

from processor.app.endpoint_factory import limit_settings
from processor.app.estimate import seen_limits
from processor.app.plan import Plan
from processor.config.endpoint_resolution import EndpointAccess
from processor.core.errors import ConfigError
from processor.core.events import FirstToken, RequestEvent, RequestListener, ResponseStarted
from processor.core.fast_dataclass import dataclass
from processor.core.models import Job, Reply, Target
from processor.estimate.known_replies import KnownReplies, ReplySample
from processor.estimate.seen_limits import Counter, likeliest_counter
from processor.protocols import RequestOptions
from processor.protocols.chat import OVERHEAD, PRIMING_TOKENS
from processor.ratelimit.settings import TokenAccounting, limit_group_key
from processor.simulator.faults import Faults
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.provider import SimulatedProvider
from processor.simulator.rate_limiter import LimiterKind, ServerRateLimiter
from processor.simulator.settings import Outage, SimulatorSettings
from processor.tokens.counter import TokenCounter

ROUGH_NIGHT = "rough-night"
_ROUGH_NIGHT_FAULTS = (
    "error_500=0.01,burst_429=0.005,reset_before=0.005,reset_mid=0.005,cut=0.005,in_band_error=0.002,stall_mid=0.001"
)
_ROUGH_NIGHT_OUTAGES = (Outage(from_s=3600, to_s=4200, kind="503"), Outage(from_s=10800, to_s=10920, kind="refuse"))
ALL_JOBS = "*"
"""The limit group of jobs that share all limits."""
SAMPLED_LENGTHS = 1000
"""Reply lengths that the simulated provider draws from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalOptions:
    faults: str = ""
    """Rates of faults as of ``process simulate``, or ``rough-night``."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsedLimits:
    """Limits per minute that the simulated provider announces; None: none."""

    rpm: int | None
    tpm: int | None
    counter: Counter


class RehearsedProvider:
    """A transport to a simulated provider for each model, with the replies of that model. Those of a limit group share
    its rate limiter. Raises ConfigError for faults that do not exist."""

    def __init__(
        self,
        plan: Plan,
        access: EndpointAccess,
        replies: KnownReplies,
        options: RehearsalOptions,
        counter: TokenCounter,
    ) -> None:
        """``counter``: that of the run, so that prompts cost what it counts, as at most providers."""
        self._counter = counter
        self._limits = limit_settings(plan.settings, access, first_alone_s=0.0)
        self._seen = seen_limits(plan, plan.like)
        self._likeliest = likeliest_counter(access.provider.counter_period_s)
        self._replies = replies
        self._timeouts = plan.settings.waiting
        has_first_tokens = replies.all is None or bool(replies.all.first_token_s)
        self._is_streamed = plan.settings.stream and has_first_tokens
        self._settings = replace(_settings(options, self._limits.charging), headers_with_first_token=self._is_streamed)
        self._rate_limiters: dict[str, ServerRateLimiter] = {}
        self._transports: dict[tuple[str, str], MemoryTransport] = {}
        """By limit group and model."""
        self._providers: list[SimulatedProvider] = []
        self.limits: dict[str, RehearsedLimits] = {}
        """By limit group, as far as jobs were sent; ``*``: of all jobs together."""

    def _limits_of(self, group: str) -> RehearsedLimits:
        several, configured = self._seen.by_group, self._limits.default
        server = several[group] if group in several else next(iter(several.values()), self._seen.of(group))
        rpm, tpm = _announced(server.rpm, configured.rpm), _announced(server.tpm, configured.tpm)
        found = [server.counters[name] for name in ("requests", "tokens") if name in server.counters]
        counter = found[-1 if rpm is None else 0] if found else self._likeliest
        return RehearsedLimits(rpm=rpm, tpm=tpm, counter=counter)

    @property
    def generated_tokens(self) -> int:
        """Of all replies, also of those that broke off."""
        return sum(provider.billing.completion_tokens for provider in self._providers)

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        key = self._group_of(job), job.model
        transport = self._transports.get(key)
        if transport is None:
            transport = self._transports[key] = self._transport(*key)
        return await transport(job, target, _first_token_with_headers(on_event) if self._is_streamed else on_event)

    def _group_of(self, job: Job) -> str:
        """The limit group of the job where the server was seen to limit several, else one for all jobs."""
        name = limit_group_key(self._limits, job)
        return name if len(self._seen.by_group) > 1 and name in self._seen.by_group else ALL_JOBS

    def _transport(self, group: str, model: str) -> MemoryTransport:
        settings = self._settings_of(group, model)
        provider = SimulatedProvider(settings, count_tokens=partial(_prompt_tokens, self._counter, model))
        provider.rate_limiter = self._rate_limiters.setdefault(group, provider.rate_limiter)
        self._providers.append(provider)
        # Unstreamed replies take as long and cost a fraction of the time to simulate. All that a run does at the first
        # token of a stream, it does at their headers.
        return MemoryTransport(
            provider,
            latency_s=(0.0, 0.0),  # it is part of the times of replies
            seed=settings.seed,
            timeouts=self._timeouts,
            options=RequestOptions(streamed=False),
        )

    def _settings_of(self, group: str, model: str) -> SimulatorSettings:
        limits = self.limits.setdefault(group, self._limits_of(group))
        settings = replace(self._settings, rpm=limits.rpm, tpm=limits.tpm, kind=_kind(limits.counter))
        sample = self._replies.of_model(model)
        return settings if sample is None else _with_replies(settings, sample)


def _prompt_tokens(counter: TokenCounter, model: str, text: str) -> int:
    """Of a chat prompt of one message."""
    return counter.for_model(model).count_text(text) + OVERHEAD.tokens + PRIMING_TOKENS


def _first_token_with_headers(on_event: RequestListener) -> RequestListener:
    def listen(event: RequestEvent) -> None:
        on_event(event)
        if isinstance(event, ResponseStarted) and event.status == 200:
            on_event(FirstToken(event.at))

    return listen


def _settings(options: RehearsalOptions, charging: TokenAccounting) -> SimulatorSettings:
    is_rough = options.faults == ROUGH_NIGHT
    try:
        return SimulatorSettings(
            seed=options.seed,
            charging=charging,
            faults=Faults.parse(_ROUGH_NIGHT_FAULTS if is_rough else options.faults),
            outages=_ROUGH_NIGHT_OUTAGES if is_rough else (),
        )
    except ValueError as error:
        raise ConfigError(f"--faults: {error}") from None


def _announced(seen: float | None, configured: float | None) -> int | None:
    """The limit that the simulated provider announces; None: none. A server of which nothing is known has the limit
    that is configured."""
    limit = configured if seen is None else seen
    return None if limit is None or limit == inf else max(1, round(limit))


def _kind(counter: Counter) -> LimiterKind:
    if counter.kind == "window":
        return "sliding"
    if not counter.is_small:
        return "minute"
    return "second" if counter.is_announced else "quantised"


def _with_replies(settings: SimulatorSettings, sample: ReplySample) -> SimulatorSettings:
    """Replies of the lengths of the sample, at a speed and with first tokens by which they take as long."""
    count = len(sample.tokens)
    picked = tuple(max(1, sample.tokens[at * count // SAMPLED_LENGTHS]) for at in range(SAMPLED_LENGTHS))
    first_token_s = sum(sample.first_token_s) / len(sample.first_token_s) if sample.first_token_s else 0.0
    generated_s = max((sample.mean_s or 0.0) - first_token_s, 1e-3)
    # The standard deviation of a uniform distribution is its half width, divided by the root of three.
    jitter = sqrt(3) * pstdev(sample.first_token_s) / first_token_s if first_token_s else 0.0
    return replace(
        settings,
        reply_lengths=picked,
        first_token_s=first_token_s,
        first_token_jitter=min(jitter, 1.0),
        speed_tps=max(sample.mean_tokens(None) / generated_s, 1e-3),
    )
