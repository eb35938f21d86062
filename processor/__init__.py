"""Turns a file of LLM requests into a file of replies.

From a program as from the command line:

    import processor

    plan = processor.Plan(jobs="jobs.jsonl", out="results.jsonl", settings=processor.Settings(model="gpt-4o-mini"))
    exit_code = processor.run(plan)

``await processor.run_async(plan)`` does the same inside a running loop. Names are loaded when they are first used, so
that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processor.app.run import run, run_async
    from processor.app.run_options import Plan
    from processor.config.settings import Limits, ModelLimits, Output, Settings, Waiting, load
    from processor.core.errors import ConfigError, ProcessorError

_HOMES = {
    "ConfigError": "processor.core.errors",
    "Limits": "processor.config.settings",
    "ModelLimits": "processor.config.settings",
    "Output": "processor.config.settings",
    "Plan": "processor.app.run_options",
    "ProcessorError": "processor.core.errors",
    "Settings": "processor.config.settings",
    "Waiting": "processor.config.settings",
    "load": "processor.config.settings",
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
    "Settings",
    "Waiting",
    "load",
    "run",
    "run_async",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
