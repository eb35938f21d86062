"""The way a job takes: read, admit, stream, settle, write; and how all of it stops. Knows every room."""

from processor.scheduler.dependencies import LOOK_AHEAD, Dependencies, Outcome, RunOptions
from processor.scheduler.scheduler import Scheduler

__all__ = ["LOOK_AHEAD", "Dependencies", "Outcome", "RunOptions", "Scheduler"]
