"""Sends the requests of a run from worker processes, on this or other machines.

The run itself stays in one process, the driver: limits, retries, budget, journal and display. Only the transport is
elsewhere. ``RemoteTransport`` (``remote``) is the near end, a ``Transport`` like any other. ``WorkerHost`` (``host``)
is the far end, which calls the real transport. Between them pass groups of messages as bytes (``messages``,
``grouping``), by the few calls of a ``WorkerLink`` (``link``). What makes the calls is a binding: ``ray`` between
processes and machines, ``memory`` on the virtual clock for tests.

Each request has a number that is never used again. Whatever happens to a worker, its requests fail with ``WorkerLost``,
count as sent where they may have been, and what it may still answer is dropped.
"""
