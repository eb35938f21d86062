"""Run events about the processes that send the requests of a run, where there are such."""

from __future__ import annotations

from processor.core.fast_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted:
    """A worker process is ready. ``at`` is on the event loop's clock, as in all events."""

    at: float
    worker: str
    node: str
    """The machine that it runs on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnded:
    """A worker process has ended, or cannot be reached any more."""

    at: float
    worker: str
    node: str
    requests: int
    """Those that it finished."""
    lost_requests: int
    """Those that were in flight when it was lost: they are sent again, and may be billed twice."""
    reason: str | None
    """How it was lost; None where the run has closed it."""
