"""One session for all actors of a Ray program: an actor of its own, and the handle that others call it by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike, fspath
from typing import Any

from processor.config.settings import RaySettings, Settings
from processor.core.errors import ProcessorError
from processor.core.fd_limit import raised_fd_limit
from processor.session import RunStopped, Session

CALLS_AT_ONCE = 1000
"""Batches that wait for their rows at the same time."""
MAX_LOSSES = 5
"""A batch is given up after the session's actor was lost so often while it had the batch."""
RESTART_WAIT_S = 2.0


class SessionActor:
    """Holds the session. If the actor is lost, Ray restarts it, and it opens the session again."""

    def __init__(self, settings: Settings, journal: str | None) -> None:
        self._settings = settings
        self._journal = journal
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._fd_limit = raised_fd_limit()
        self._fd_limit.__enter__()

    async def rows(self, jobs: Sequence[str]) -> list[str]:
        """Return the row of each job, both as JSON text. Raises RunStopped and ConfigError."""
        session = await self._opened()
        rows = await asyncio.gather(*(session.result(json.loads(job)) for job in jobs))
        return [json.dumps(row) for row in rows]

    async def _opened(self) -> Session:
        async with self._opening:
            if self._session is None:
                self._session = await Session(self._settings, journal=self._journal).__aenter__()
            return self._session


class SharedSession:
    """A handle of the session's actor, to be given to other actors. The session ends with the last handle."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def rows(self, jobs: Sequence[str]) -> list[str]:
        """Return the row of each job, both as JSON text. Raises RunStopped and ConfigError.

        Where the actor is lost, the jobs are handed over again: those that the journal has are answered from it.
        """
        from ray.exceptions import RayError, RayTaskError

        for losses in range(1, MAX_LOSSES + 1):
            try:
                rows: list[str] = await self._actor.rows.remote(list(jobs))
            except RayTaskError as error:
                if isinstance(error.cause, ProcessorError):
                    raise error.cause from None
                raise
            except RayError as error:
                if losses == MAX_LOSSES:
                    raise RunStopped(f"the actor of the session was lost {losses} times: {error}") from None
                await asyncio.sleep(RESTART_WAIT_S)
            else:
                return rows
        raise AssertionError


def start_session(
    settings: Settings | None = None,
    *,
    journal: str | PathLike[str] | None = None,
    workers: int | None = None,
    num_cpus: float = 1.0,
) -> SharedSession:
    """Start the actor of a session in the Ray cluster of this program.

    ``journal``: a results file, on a disk that all nodes see. ``workers``: so many further actors send the requests;
    None: the session's own process does. The key is read from the environment of the session's node.
    """
    import ray

    settings = settings or Settings()
    if workers is not None:
        settings = replace(settings, ray=RaySettings(address="auto", workers=workers))
    actor_class = ray.remote(SessionActor).options(
        num_cpus=num_cpus, max_restarts=-1, max_task_retries=0, max_concurrency=CALLS_AT_ONCE
    )
    return SharedSession(actor_class.remote(settings, None if journal is None else fspath(journal)))
