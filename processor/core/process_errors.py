"""Errors of the processes that a run starts: the local model, and the workers that send its requests."""

from __future__ import annotations

from processor.core.errors import EndpointUnusable, RequestError, TransportError


class LocalModelRestarted(RequestError):
    """It does not count against the job, which is sent again at once under a new permit."""

    code = "local_model_restarted"


class LocalModelFailed(EndpointUnusable):
    code = "local_model_failed"


class WorkerLost(TransportError):
    """The worker process that was to send the request has ended, or cannot be reached any more.

    The request may have been sent and billed. It says nothing about the endpoint, and does not count against the job,
    which is sent again at once under a new permit.
    """

    code = "worker_lost"


class WorkersUnusable(EndpointUnusable):
    """No worker process can send requests, or one after the other is lost."""

    code = "workers_unusable"
