"""Limits and refusals on a virtual clock: ``python -m tests.benchmarks.limit_campaigns [NAME ...]``.

silent    servers that announce nothing and refuse above a limit of 60 to 12,000 a minute; ten minutes' work
random    servers without a limit that refuse 0 to 20 % of the requests at random
seconds   servers without a limit that refuse 2 % of the requests during one second in twenty
bursts    servers without a limit that refuse all for half a second, once in 200 requests
charging  servers that announce their limit and charge 0.7 to 1.5 times what the limiter expects
large     servers that announce 30,000 requests or 150,000,000 tokens a minute, with replies of 2 to 10 s; and 50 models
          with limits of their own in one file
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from time import process_time
from typing import Literal

from processor.simulator.rate_limiter import LimiterKind
from tests.benchmarks.measure import show
from tests.support.limit_campaigns import bursts, charging, large, silent, unlimited
from tests.support.limiter_simulation import Simulation
from tests.support.many_models import ManyModels

Row = list[str]
HEADER = ["server", "refused", "share", "time / bound", "within"]
KINDS: tuple[LimiterKind, ...] = ("sliding", "minute", "second", "quantised")
SILENT_RATES = (60, 300, 1_200, 3_000, 12_000)
RANDOM_SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
RATIOS = (0.7, 0.9, 1.15, 1.3, 1.5)
CHARGED_RATES = (3, 12, 60, 300, 3_000)


def _row(name: str, run: Simulation, bound_s: float, allowed: float) -> Row:
    refused = run.throttled + run.random_429s
    is_within = refused <= allowed and run.last_s <= bound_s
    share = f"{100 * refused / run.attempts:.2f} %"
    return [name, f"{refused:,}", share, f"{run.last_s / bound_s:.2f}", "yes" if is_within else "no"]


def _silent() -> Iterator[Row]:
    for given, kind, rate in product((None, 200), KINDS, SILENT_RATES):
        run, bound_s = silent(kind, rate, given=given)
        name = f"{kind}, {rate:,} a minute, {f'{given} in flight' if given else 'auto'}"
        yield _row(name, run, bound_s, (given or 0) + 0.02 * run.attempts)


def _random() -> Iterator[Row]:
    for given, share, latency_s in product((None, 64), RANDOM_SHARES, (0.3, 2.0)):
        for seed in range(3):
            run, bound_s = unlimited(share, 1_500, given=given, latency_s=latency_s, seed=seed)
            name = f"{100 * share:.0f} %, replies of {latency_s} s, {f'{given} in flight' if given else 'auto'}, {seed}"
            yield _row(name, run, bound_s, run.attempts)


def _seconds() -> Iterator[Row]:
    for given, latency_s in product((None, 64, 200), (0.3, 2.0)):
        for seed in range(3):
            run, bound_s = unlimited(
                lambda at: 0.02 if at % 20 < 1 else 0.0, 6_000, given=given, latency_s=latency_s, seed=seed
            )
            name = f"replies of {latency_s} s, {f'{given} in flight' if given else 'auto'}, {seed}"
            yield _row(name, run, bound_s, run.attempts)


def _bursts() -> Iterator[Row]:
    for given, latency_s in product((None, 64), (0.3, 2.0)):
        for seed in range(3):
            run, bound_s = bursts(3_000, given=given, latency_s=latency_s, seed=seed)
            name = f"replies of {latency_s} s, {f'{given} in flight' if given else 'auto'}, {seed}"
            yield _row(name, run, bound_s, run.attempts)


def _charging() -> Iterator[Row]:
    for kind, rate, ratio in product(KINDS, CHARGED_RATES, RATIOS):
        run, bound_s = charging(kind, rate, ratio)
        yield _row(f"{kind}, {rate:,} jobs a minute, x {ratio}", run, bound_s, max(1, 0.001 * run.attempts))


def _large() -> Iterator[Row]:
    resources: tuple[Literal["requests", "tokens"], ...] = ("requests", "tokens")
    for resource, kind, latency_s in product(resources, KINDS, (2.0, 5.0, 10.0)):
        run, bound_s = large(kind, resource, latency_s)
        yield _row(f"{resource}, {kind}, replies of {latency_s} s", run, bound_s, max(1, 0.001 * run.attempts))
    for latency_s in (0.5, 5.0):
        yield _fifty_models(latency_s)


def _fifty_models(latency_s: float) -> Row:
    """The model that ends latest, by its bound."""
    limits = {f"m{at}": (KINDS[at % 2], 12 * (8 + at)) for at in range(50)}
    run = ManyModels(limits=limits, minutes=1.2, latency_s=latency_s).run()
    refused, jobs = sum(map(run.throttled, limits)), sum(run.jobs.values())
    latest = max(run.last_s(model) / run.promised_s(model) for model in limits)
    is_within = refused <= 0.001 * jobs and latest <= 1
    name = f"50 models, windows and buckets, replies of {latency_s} s"
    return [name, f"{refused:,}", f"{100 * refused / jobs:.2f} %", f"{latest:.2f}", "yes" if is_within else "no"]


CAMPAIGNS = {
    "silent": _silent,
    "random": _random,
    "seconds": _seconds,
    "bursts": _bursts,
    "charging": _charging,
    "large": _large,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", choices=[*CAMPAIGNS, []], default=list(CAMPAIGNS))
    for name in parser.parse_args().names or CAMPAIGNS:
        before_s = process_time()
        rows = list(CAMPAIGNS[name]())
        within = sum(row[-1] == "yes" for row in rows)
        show(f"{name}: {within} of {len(rows)} within, {process_time() - before_s:.0f} s of CPU", HEADER, rows)


if __name__ == "__main__":
    main()
