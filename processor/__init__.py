"""Turns a file of LLM requests into a file of replies.

From a program that has its jobs in a list, a generator or a DataFrame:

    import processor

    for row in processor.results(jobs, processor.Settings(model="gpt-4o-mini")):
        ...

``Session`` is the same for asynchronous programs. From a program that has them in a file:

    plan = processor.Plan(jobs="jobs.jsonl", out="results.jsonl", settings=processor.Settings(model="gpt-4o-mini"))
    exit_code = processor.run(plan)

``await processor.run_async(plan)`` does the same inside a running loop. Both take ``listeners``, which are called with
each event of the run (see ``processor.core.events``), and a ``transport``, which sends the requests in place of HTTP.

Names are imported when they are first used, so that importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processor.app.plan import Plan
    from processor.app.run import run, run_async
    from processor.config.settings import Limits, ModelLimits, Output, RaySettings, Settings, Waiting
    from processor.config.settings_loading import load
    from processor.core.errors import ConfigError, ProcessorError
    from processor.session import RunStopped, Session, results

_MODULES = {
    "ConfigError": "processor.core.errors",
    "Limits": "processor.config.settings",
    "ModelLimits": "processor.config.settings",
    "Output": "processor.config.settings",
    "Plan": "processor.app.plan",
    "ProcessorError": "processor.core.errors",
    "RunStopped": "processor.session",
    "Session": "processor.session",
    "RaySettings": "processor.config.settings",
    "Settings": "processor.config.settings",
    "Waiting": "processor.config.settings",
    "load": "processor.config.settings_loading",
    "results": "processor.session",
    "run": "processor.app.run",
    "run_async": "processor.app.run",
}

__all__ = [
    "ConfigError",
    "Limits",
    "ModelLimits",
    "Output",
    "Plan",
    "ProcessorError",
    "RaySettings",
    "RunStopped",
    "Session",
    "Settings",
    "Waiting",
    "load",
    "results",
    "run",
    "run_async",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
