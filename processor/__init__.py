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
    from processor.config import Limits, ModelLimits, Output, Settings, Waiting, load
    from processor.errors import ConfigError, ProcessorError
    from processor.session.plan import Plan
    from processor.session.run import run, run_async

_HOMES = {
    "ConfigError": "processor.errors",
    "Limits": "processor.config",
    "ModelLimits": "processor.config",
    "Output": "processor.config",
    "Plan": "processor.session.plan",
    "ProcessorError": "processor.errors",
    "Settings": "processor.config",
    "Waiting": "processor.config",
    "load": "processor.config",
    "run": "processor.session.run",
    "run_async": "processor.session.run",
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
