"""Transports whose answers to some jobs are errors, for runs on the virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    ModelNotFound,
    ProtocolError,
    RequestError,
    StatusError,
    StreamTruncated,
    UrlNotFound,
)
from processor.core.events import RequestListener, ResponseStarted, Sent, Transport
from processor.core.models import Job, Reply, Target

Answer = Callable[[Job], RequestError | None]
"""The error that answers a job; None: the provider answers it."""

ANSWERED_WITHIN_S = 0.05

PERHAPS_THE_JOB: dict[str, Callable[[], RequestError]] = {
    "402": lambda: AccessDenied("this request needs more credits", status=402),
    "403": lambda: AccessDenied("flagged by moderation", status=403),
    "404": lambda: BadRequest("no endpoints found that support tools", status=404),
    "model": lambda: ModelNotFound("the model does not exist", status=404),
    "url": lambda: UrlNotFound("HTTP 404 Not Found", status=404),
    "html": lambda: ProtocolError("a web page answered: Sign in"),
    "unended": lambda: StreamTruncated("the stream ended with 1 of 1 choices unfinished", ended_by_server=True),
}
"""What may be the fault of one job, or of all."""

REFUSED = ("402", "403", "404", "model", "url")
NOT_UNDERSTOOD = ("html", "unended")


def answering(answer: Answer, *, within_s: float = ANSWERED_WITHIN_S) -> Callable[[Transport], Transport]:
    """A wrapper for ``World.run``: jobs to which ``answer`` gives an error get it, all others go to the provider."""

    def wrap(transport: Transport) -> Transport:
        async def send(job: Job, target: Target, on_event: RequestListener) -> Reply:
            error = answer(job)
            if error is None:
                return await transport(job, target, on_event)
            now = asyncio.get_running_loop().time
            on_event(Sent(now()))
            await asyncio.sleep(within_s)
            on_event(ResponseStarted(error.status if isinstance(error, StatusError) else 200, {}, now()))
            raise error

        return send

    return wrap


def only(*custom_ids: str, error: Callable[[], RequestError]) -> Answer:
    return lambda job: error() if job.custom_id in custom_ids else None


def for_model(model: str, error: Callable[[], RequestError]) -> Answer:
    return lambda job: error() if job.model == model else None
