"""``process rehearse``: a whole run on a virtual clock, in seconds."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from processor.cli import options
from processor.cli.options import option
from processor.cli.usage import plan_of
from processor.core import exit_codes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processor.app.rehearse import Rehearsal
    from processor.app.rehearsed_provider import RehearsedLimits
    from processor.core.models import JSON
    from processor.terminal.label_table import LabelRow


MAX_SHOWN_LIMITS = 6
ASSUMED_LENGTHS = "of assumed lengths: give --like RESULTS"


def rehearse(
    ctx: typer.Context,
    jobs: options.Jobs,
    out: options.Out = None,
    template: options.TemplateFile = None,
    config: options.Config = None,
    like: options.Like = None,
    base_url: options.BaseUrl = None,
    provider: options.ProviderName = None,
    endpoint: options.Endpoint = None,
    model: options.ModelName = None,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    concurrency: options.Concurrency = None,
    max_attempts: options.MaxAttempts = None,
    max_cost_usd: options.MaxCost = None,
    until: options.Until = None,
    limit: options.Limit = None,
    shard: options.Shard = None,
    order: options.Order = "file",
    retry_failed: options.RetryFailed = False,
    changed: options.Changed = None,
    faults: Annotated[
        str,
        option("Replies", "--faults", metavar="RATES", text='rough-night, or rates, e.g. "cut=0.1,error_500=0.02".'),
    ] = "",
    seed: options.Seed = 0,
    as_json: Annotated[bool, option("Output", "--json", text="Print the result as JSON.")] = False,
) -> int:
    """Plays the run that the same flags would start, with the real scheduler,
    limits and retries, against a simulated provider on a virtual clock: when it
    ends, what binds it, what is refused. Sends nothing, writes nothing.

    The provider has the limits given, or those that the server last announced,
    and replies of the lengths and times in --like, or in RESULTS.

      process rehearse jobs.jsonl --rpm 500 --tpm 200000
      process rehearse jobs.jsonl --like june.results.jsonl --faults rough-night
    """
    from processor.app.rehearse import rehearse as play
    from processor.app.rehearsed_provider import RehearsalOptions
    from processor.config.environment import environment
    from processor.terminal.label_table import print_rows
    from processor.terminal.scan_progress import rehearsal_progress

    environ = environment(os.environ)
    wanted = RehearsalOptions(faults=faults, seed=seed)
    with rehearsal_progress() as on_progress:
        found = play(plan_of(ctx, environ, like=like), environ, wanted, on_progress)
    if as_json:
        import json

        typer.echo(json.dumps(_json(found)))
    else:
        print_rows(_rows(found), sys.stdout)
    return exit_codes.COMPLETE if found.outcome.exit_code == exit_codes.COMPLETE else exit_codes.INCOMPLETE


def _rows(found: Rehearsal) -> list[LabelRow]:
    from datetime import datetime, timedelta

    from processor.estimate.text import known_of_others
    from processor.terminal.formatting import abbreviated, duration, percent, plural
    from processor.terminal.label_table import BLANK, LabelRow
    from processor.terminal.status_line import BOTTLENECK_LABELS

    stats = found.stats
    end = datetime.now() + timedelta(seconds=found.seconds)
    refused = ", ".join(f"{count:,} with {status}" for status, count in stats.refused.most_common()) or "none"
    shares = stats.throughput.bottleneck_shares(stats.last_event_at)
    bounds = ", ".join(f"{BOTTLENECK_LABELS[name]} {percent(share)}" for name, share in shares)
    replies = found.replies
    source = plural(replies.count, "reply", "replies")
    of_others = known_of_others(replies, found.models)
    prompt, completion = found.prompt_tokens, found.completion_tokens
    rows = [
        LabelRow("time", f"{duration(found.seconds)}; if started now, it ends {end:%a %d %b %H:%M}"),
        *([LabelRow("bound by", bounds)] if bounds else []),
        LabelRow("done", f"{plural(stats.done, 'job')}, {stats.failed:,} failed"),
        LabelRow("requests", f"{stats.attempts:,}; refused: {refused}"),
        LabelRow("tokens", f"{abbreviated(prompt)} prompt + {abbreviated(completion)} completion"),
        *_cost_rows(found),
        LabelRow("replies", f"as in {replies.source} ({source})" if replies.source else ASSUMED_LENGTHS),
        *([LabelRow("", of_others, "warning")] if of_others else []),
        *(LabelRow("" if at else "server", text) for at, text in enumerate(_limit_texts(found.limits))),
        LabelRow("took", duration(found.took_s)),
        BLANK,
        LabelRow("sent", "nothing"),
    ]
    if found.outcome.reason:
        rows.insert(2, LabelRow("stopped", found.outcome.reason, "bad"))
    return rows


def _limit_texts(limits: Mapping[str, RehearsedLimits]) -> Iterator[str]:
    """What the simulated provider allows, a line for each limit group."""
    from processor.estimate.text import counter_text

    for group, one in list(limits.items())[:MAX_SHOWN_LIMITS]:
        amounts = ((one.rpm, "requests"), (one.tpm, "tokens"))
        shown = " and ".join(f"{limit:,} {what}" for limit, what in amounts if limit is not None)
        of_group = f" for {group}" if len(limits) > 1 else ""
        yield f"{shown} a minute{of_group}, {counter_text(one.counter)}" if shown else f"no limits{of_group}"
    if len(limits) > MAX_SHOWN_LIMITS:
        yield f"... and {len(limits) - MAX_SHOWN_LIMITS} more"


def _cost_rows(found: Rehearsal) -> list[LabelRow]:
    from processor.terminal.label_table import LabelRow
    from processor.terminal.summary import cost_rows

    if found.stats.replies.cost_usd is None and found.stats.done:
        return [LabelRow("cost", 'unknown: no price is known; set one under [prices."MODEL"] in config.toml')]
    return list(cost_rows(found.stats))


def _json(found: Rehearsal) -> JSON:
    from processor.estimate.estimate import counter_json

    stats = found.stats
    return {
        "seconds": found.seconds,
        "exit_code": found.outcome.exit_code,
        "reason": found.outcome.reason,
        "bound_by": {
            name or "nothing": share for name, share in stats.throughput.bottleneck_shares(stats.last_event_at)
        },
        "done": stats.done,
        "failed": stats.failed,
        "requests": stats.attempts,
        "refused": dict(stats.refused),
        "retried": dict(stats.retried),
        "tokens": {
            "prompt": found.prompt_tokens,
            "completion": found.completion_tokens,
            "generated": found.generated_tokens,
        },
        "cost_usd": stats.replies.cost_usd,
        "unconfirmed_cost_usd": stats.costs.unconfirmed_usd,
        "costs": stats.costs.as_json(),
        "replies_from": found.replies.source,
        "server": {
            group: {"rpm": limits.rpm, "tpm": limits.tpm, "counter": counter_json(limits.counter)}
            for group, limits in found.limits.items()
        },
    }
