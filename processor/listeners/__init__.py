"""Listeners: callables that get every event of a run. They import ``core`` and ``stats`` only."""
