"""The way a job takes: read, admit, stream, settle, write; and how all of it stops. Knows every room."""

from processor.pipeline.rooms import Outcome, Rooms, Terms
from processor.pipeline.run import Run

__all__ = ["Outcome", "Rooms", "Run", "Terms"]
