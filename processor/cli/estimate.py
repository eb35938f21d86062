"""``process estimate``: what a run will send, use and take."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from processor.cli import options
from processor.cli.options import option
from processor.cli.usage import plan_of
from processor.core import exit_codes

if TYPE_CHECKING:
    from processor.estimate.estimate import Estimate

EXIT_CODES = """
Exit codes:
  0    all lines are valid
  1    some lines are not
  2    nothing could be read
"""


def estimate(
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
    max_cost_usd: options.MaxCost = None,
    until: options.Until = None,
    limit: options.Limit = None,
    order: options.Order = "file",
    shard: options.Shard = None,
    retry_failed: options.RetryFailed = False,
    changed: options.Changed = None,
    as_json: Annotated[bool, option("Output", "--json", text="Print all of it as JSON.")] = False,
) -> int:
    """Checks every line of JOBS and says what a run with the same flags would send
    and skip, how many tokens that is, how long it takes and what binds. Sends
    nothing, and needs no key.

      process estimate jobs.jsonl --rpm 500 --tpm 200000
      process estimate jobs.jsonl --like june.results.jsonl
      process estimate jobs.jsonl --until 07:30 --json
    """
    from processor.app.estimate import estimate as make_estimate
    from processor.config.environment import environment
    from processor.estimate.estimate import estimate_json
    from processor.terminal.scan_progress import scan_progress

    environ = environment(os.environ)
    with scan_progress([Path(path) for path in jobs]) as on_read:
        found = make_estimate(plan_of(ctx, environ, like=like), environ, on_read)
    if as_json:
        import json

        typer.echo(json.dumps(estimate_json(found)))
    else:
        _print(found)
    return exit_codes.INCOMPLETE if found.counts.invalid else exit_codes.COMPLETE


def _print(found: Estimate) -> None:
    from processor.estimate.text import detail_rows, estimate_rows, model_table, start_command
    from processor.terminal.label_table import print_rows

    print_rows(estimate_rows(found), sys.stdout)
    if found.counts.models:
        typer.echo(f"\n{model_table(found)}\n")
        print_rows(list(detail_rows(found)), sys.stdout)
    if found.counts.all.jobs:
        typer.echo(f"\nNothing was sent. To start:\n{start_command(found)}")
    else:
        typer.echo("\nA run with these flags has nothing to send.")
