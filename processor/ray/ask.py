"""The stage of a Ray Dataset that adds replies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.fd_limit import raised_fd_limit
from processor.core.models import JSON, Target
from processor.protocols.reply_text import text_of_reply
from processor.ray.limiter_actor import connect, limiter_name
from processor.session.shared_session import SharedSession
from processor.shared_limits.link import ConnectLimiter

Columns = Mapping[str, Any]
"""A batch of Ray Data in its NumPy format: arrays of one length by name."""

JOB_COLUMN = "job"


class Ask:
    """A class for ``Dataset.map_batches``. To each batch it adds three columns:

    | column | holds |
    | --- | --- |
    | `reply` | the text of the reply; None where there is none |
    | `error` | the code of the error; None for a reply |
    | `row` | the row as in a results file, as JSON text |
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        journal: str | PathLike[str] | None = None,
        job_of: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
    ) -> None:
        """``settings``: None stands for those of ``config.toml`` and the environment of the node.

        ``journal``: a folder that all nodes see, for the results files of all actors. ``job_of`` makes the job of a row
        of the dataset; None: it is in the column ``job``, as an object or as JSON text.
        """
        self._shared = SharedSession(settings, None if journal is None else Path(journal), _connect, program=_program())
        self._job_of = job_of or _job_in_column
        self._opening = asyncio.Lock()
        self._is_open = False
        self._fd_limit = raised_fd_limit()
        self._fd_limit.__enter__()

    async def __call__(self, batch: Columns) -> AsyncGenerator[dict[str, Any], None]:
        """Raises RunStopped where nothing more is sent, and ConfigError for settings that cannot be used."""
        names = list(batch)
        jobs = [self._job_of(dict(zip(names, values, strict=True))) for values in zip(*batch.values(), strict=True)]
        rows = await self._rows([_plain_job(job) for job in jobs])
        yield {
            **batch,
            "reply": [_text(row) for row in rows],
            "error": [None if row["error"] is None else row["error"]["code"] for row in rows],
            "row": [json.dumps(row) for row in rows],
        }

    async def _rows(self, jobs: list[JSON]) -> list[JSON]:
        async with self._opening:
            if not self._is_open:
                await self._shared.open()
                self._is_open = True
        # A block that Ray runs again may have been answered in part by an actor that is lost.
        await self._shared.read_new_rows()
        return list(await asyncio.gather(*(self._shared.session.result(job) for job in jobs)))


def _connect(target: Target, key_command: tuple[str, ...]) -> ConnectLimiter:
    return partial(connect, limiter_name(target, key_command))


def _program() -> str:
    import ray

    return f"job {ray.get_runtime_context().get_job_id()}"


def _job_in_column(row: dict[str, Any]) -> Mapping[str, Any]:
    if JOB_COLUMN not in row:
        raise ConfigError(f"the dataset has no column {JOB_COLUMN!r}: add it, or give job_of=")
    job = row[JOB_COLUMN]
    return dict(json.loads(job)) if isinstance(job, str) else dict(job)


def _text(row: Mapping[str, Any]) -> str | None:
    return None if row["error"] is not None else text_of_reply(row["response"]["body"])


def _plain_job(job: Mapping[str, Any]) -> JSON:
    """Return the job with JSON values only."""
    plain: JSON = json.loads(json.dumps(job, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    """Return what stands for a value of a dataset in JSON."""
    if hasattr(value, "tolist"):  # of NumPy
        return value.tolist()
    raise TypeError(f"a job holds {type(value).__name__} {value!r:.80}, which JSON does not have")
