"""Reads the jobs, runs each one until it has its row, and brings the run to an orderly end.

``Scheduler`` reads and stops, ``Worker`` runs one job, ``Attempt`` follows one request, ``JobRegistry`` knows where
each job is. Whether the endpoint or the run is at fault is decided in ``health``, what is tried again in ``retry``.
"""

from processor.scheduler.dependencies import LOOK_AHEAD, Dependencies, Outcome, RunOptions
from processor.scheduler.scheduler import Scheduler
from processor.scheduler.selection import Forecast, forecast

__all__ = ["LOOK_AHEAD", "Dependencies", "Forecast", "Outcome", "RunOptions", "Scheduler", "forecast"]
