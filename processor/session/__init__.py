"""Runs jobs that a program hands over, and gives it their rows: see ``Session`` and ``results``."""

from processor.session.answers import RunStopped
from processor.session.blocking import results
from processor.session.session import Session

__all__ = ["RunStopped", "Session", "results"]
