"""What each part of the rate limiter is good for: ``python -m tests.benchmarks.ablation [--jobs N]``.

Each part is switched off in turn, and the same jobs run against eight kinds of simulated server on the virtual clock.
The table shows the requests that the server refused, and the time to the last admission as a multiple of the least time
that the limit allows. It takes about five minutes. `docs/rate-limiting.md` holds its output.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from processor.ratelimit.estimator.burst_breaker import BurstBreaker
from processor.ratelimit.estimator.counter_models import CounterFacts
from processor.ratelimit.estimator.external_usage import ExternalUsage
from processor.ratelimit.estimator.server_model import ServerModel
from processor.ratelimit.estimator.token_ratio import TokenRatio
from processor.ratelimit.estimator.window_or_bucket import CounterClassifier
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.ratelimit.strategies.aimd_rate import AimdRate
from processor.ratelimit.strategies.header_guided import HeaderGuided
from processor.ratelimit.strategies.pacer import Pacer
from tests.support.limiter_simulation import MEAN_TOKENS, Simulation, even_traffic, job_tokens

RATE = 300
"""Jobs a minute."""
SEEDS = (1, 2)

MakeSimulation = Callable[[int], Simulation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    name: str
    bound_by: str
    make: MakeSimulation
    charged: float = 1.0
    """What it charges for one of our tokens."""


def _requests(seed: int, **more: Any) -> Simulation:
    return Simulation(rpm=RATE, tpm=None, seed=seed, **more)


def _tokens(seed: int, **more: Any) -> Simulation:
    return Simulation(rpm=None, tpm=RATE * MEAN_TOKENS, seed=seed, **more)


def _unannounced(seed: int) -> Simulation:
    no_wait: Callable[[float | None], float | None] = lambda _: None  # noqa: E731
    return _requests(
        seed, kind="minute", dialect="none", settings=LimitSettings(), rewrite_retry_after=no_wait, concurrency=64
    )


def _small_bucket(seed: int) -> Simulation:
    return _requests(seed, kind="quantised", latency_s=0.5)


SERVERS = (
    Server(name="window", bound_by="requests", make=lambda seed: _requests(seed, kind="sliding")),
    Server(name="bucket", bound_by="requests", make=lambda seed: _requests(seed, kind="minute")),
    Server(
        name="window, 1.5 tokens charged for one",
        bound_by="tokens",
        make=lambda seed: _tokens(seed, kind="sliding", token_ratio=lambda _: 1.5),
        charged=1.5,
    ),
    Server(name="bucket", bound_by="tokens", make=lambda seed: _tokens(seed, kind="minute")),
    Server(
        name="window, shared key",
        bound_by="requests",
        make=lambda seed: _requests(seed, kind="sliding", other_client=even_traffic(RATE / 2, 60, 3000)),
    ),
    Server(name="refuses by the second", bound_by="requests", make=_small_bucket),
    Server(
        name="window, no headers, limit configured",
        bound_by="requests",
        make=lambda seed: _requests(
            seed, kind="sliding", dialect="none", settings=LimitSettings(default=RateLimits(rpm=RATE))
        ),
    ),
    Server(name="bucket, no headers, no limit known", bound_by="requests", make=_unannounced),
)


# ------------------------------------------------------------ the parts, switched off


def _nothing(*_: object, **__: object) -> None:
    return None


def _patched(owner: type, **replacements: Any) -> Any:
    return patch.multiple(owner, **replacements)


def _always_closed(self: BurstBreaker, cost: float, headers_at: float, now: float) -> bool:
    return True


def _no_bursts() -> Any:
    return patch.object(HeaderGuided, "_must_pace", lambda self, now: True)


def _no_calibration() -> Any:
    def earliest(self: HeaderGuided, cost: float, now: float) -> float:
        return self._model.earliest(cost, now)

    return patch.object(HeaderGuided, "_earliest_for_calibration", earliest)


def _no_headers() -> Any:
    """The strategy that the headers guide is never chosen."""
    return patch.object(ServerModel, "observe", lambda self, *args, **more: False)


PARTS: dict[str, Callable[[], Any]] = {
    "nothing": nullcontext,
    "headers": _no_headers,
    "window or bucket": lambda: _patched(CounterClassifier, observe=_nothing, rule_out_window=_nothing),
    "calibration": _no_calibration,
    "external usage": lambda: _patched(ExternalUsage, fit=_nothing),
    "its forecast": lambda: _patched(ExternalUsage, sample=_nothing),
    "token ratio": lambda: _patched(TokenRatio, observe=lambda self, *args: False),
    "bursts": _no_bursts,
    "burst breaker": lambda: _patched(
        BurstBreaker, allows=_always_closed, burst_budget=property(lambda self: float("inf"))
    ),
    "even pacing": lambda: _patched(Pacer, earliest=lambda self, cost, limit: float("-inf")),
    "back-off of the pace": lambda: _patched(Pacer, back_off=_nothing),
    "reserve after refusals": lambda: _patched(CounterFacts, reserve_for=lambda self, cost, now, more=0.0: 0.0),
    "AIMD": lambda: _patched(AimdRate, on_throttled=_nothing),
}


# ------------------------------------------------------------ the table


def measure(server: Server, count: int) -> str:
    costs = job_tokens("tpm" if server.bound_by == "tokens" else "rpm", RATE, count)
    refused, ratio = 0, 0.0
    for seed in SEEDS:
        run = server.make(seed)
        try:
            run.run(costs)
        except (AssertionError, TimeoutError):
            return "never ends"
        ideal_s = run.server.min_duration_s([int(cost * server.charged) for cost in costs])
        refused += run.throttled
        ratio += run.last_s / max(ideal_s, 1.0)
    return f"{refused / len(SEEDS):.0f} · {ratio / len(SEEDS):.2f}"


def table(count: int) -> Iterator[str]:
    for number, server in enumerate(SERVERS, 1):
        yield f"{number}. {server.name} (bound by {server.bound_by})"
    yield ""
    yield "| switched off | " + " | ".join(str(number) for number in range(1, len(SERVERS) + 1)) + " |"
    yield "| --- |" + " --- |" * len(SERVERS)
    for part, switched_off in PARTS.items():
        with switched_off():
            cells = [measure(one, count) for one in SERVERS]
        yield f"| {part} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1050, help="in each run; default: 3.5 minutes' limit")
    given = parser.parse_args()
    print(
        f"{given.jobs} jobs at {RATE} a minute: requests refused · time / ideal, mean of {len(SEEDS)} seeds", flush=True
    )
    for line in table(given.jobs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
