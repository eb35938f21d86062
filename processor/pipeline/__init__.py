"""The way a job takes: read, admit, stream, settle, write; and how all of it stops. Knows every room."""

from processor.pipeline.rooms import LOOK_AHEAD, Outcome, Rooms, Terms
from processor.pipeline.run import Run

__all__ = ["LOOK_AHEAD", "Outcome", "Rooms", "Run", "Terms"]
