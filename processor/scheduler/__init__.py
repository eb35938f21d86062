"""The way a job takes: read, admit, stream, settle, write; and how all of it stops. Knows every room."""

from processor.scheduler.dependencies import LOOK_AHEAD, Outcome, Rooms, Terms
from processor.scheduler.scheduler import Run

__all__ = ["LOOK_AHEAD", "Outcome", "Rooms", "Run", "Terms"]
