"""Describes a run for the first line of its history. What is not listed here stays out of it."""

from __future__ import annotations

import os
import shlex
import socket
from datetime import UTC, datetime

from processor.app.plan import Plan
from processor.core.models import JSON
from processor.core.secrets import mask_text
from processor.core.version import __version__
from processor.ratelimit.settings import RateLimits
from processor.remote.addresses import shown_address
from processor.stats.history import RunDescription

_PLAN_FIELDS = ("limit", "retry_failed", "simulate", "echo")
_SETTINGS = ("provider", "endpoint", "model", "concurrency", "max_attempts", "stream", "changed", "grace_s")
_WAITING = ("backoff_min_s", "backoff_max_s", "max_wait_s", "max_outage_s")
_LIMITS = ("rpm", "tpm", "input_tpm", "output_tpm")


def describe_run(plan: Plan) -> RunDescription:
    settings = plan.settings
    return RunDescription(
        run=os.urandom(8).hex(),
        version=__version__,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=mask_text(shlex.join(plan.command)),
        process=os.getpid(),
        host=socket.gethostname(),
        settings={
            "jobs": _shown_jobs(plan),
            **{name: getattr(plan, name) for name in _PLAN_FIELDS},
            **({} if plan.shard is None else {"shard": str(plan.shard)}),
            **{name: getattr(settings, name) for name in _SETTINGS},
            "base_url": settings.base_url and settings.base_url.partition("?")[0],
            "endpoints": [endpoint.name for endpoint in settings.endpoints],
            **{name: getattr(settings.waiting, name) for name in _WAITING},
        },
        limits={
            **_limits(settings.limits),
            "models": {model: _limits(limits) for model, limits in settings.limits.models.items()},
        },
    )


def _shown_jobs(plan: Plan) -> str | list[str]:
    shown = [shown_address(path) for path in plan.job_files]
    return shown[0] if len(shown) == 1 else shown


def _limits(limits: RateLimits) -> JSON:
    return {name: getattr(limits, name) for name in _LIMITS}
