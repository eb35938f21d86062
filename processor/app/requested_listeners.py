"""Opens the listeners that a run has only where it is asked to, and that need several parts of the program."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from processor.app.plan import Plan
from processor.config.endpoint_resolution import EndpointAccess
from processor.core.events import Listener
from processor.core.models import JSON
from processor.remote.addresses import shown_address
from processor.stats.run_stats import RunStats


def open_metrics(path: Path, accesses: Sequence[EndpointAccess], stats: RunStats, stack: AsyncExitStack) -> Listener:
    """The metrics file, which ``stack`` closes. Raises ConfigError where it cannot be written."""
    from processor.config.telemetry_names import telemetry_labels
    from processor.listeners.metrics_file import MetricsFile
    from processor.stats.request_histograms import RequestHistograms

    histograms = RequestHistograms()
    labels = partial(telemetry_labels, _provider_name(accesses))
    stack.callback(MetricsFile(path, stats, histograms, labels, time.time).close)
    return histograms


def _provider_name(accesses: Sequence[EndpointAccess]) -> str:
    """The names of the run's providers, each once."""
    return ",".join(dict.fromkeys(access.provider.name for access in accesses)) or "simulator"


def open_hook(plan: Plan, args: tuple[str, ...], stats: RunStats, emit: Listener, stack: AsyncExitStack) -> Listener:
    """The hook for notices, which ``stack`` closes."""
    from processor.listeners.notice_hook import NoticeHook

    hook = NoticeHook(args, emit, partial(_hook_context, plan, stats), time.time)
    stack.push_async_callback(hook.close)
    return hook


def _hook_context(plan: Plan, stats: RunStats) -> JSON:
    """What every event for the hook carries, beside its own fields."""
    return {
        "jobs_file": " ".join(map(shown_address, plan.job_files)),
        "results": plan.results_name,
        "jobs": stats.jobs,
        "replies": stats.done + stats.done_earlier,
        "failed": stats.failed,
        "cost_usd": stats.replies.cost_usd,
    }
