"""The stage of a Ray Dataset that adds replies."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from processor.core.errors import ConfigError
from processor.protocols.reply_text import text_of_reply
from processor.ray.shared_session import SharedSession

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
        self, session: SharedSession, *, job_of: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None
    ) -> None:
        """``job_of`` makes the job of a row of the dataset; None: it is in the column ``job``, as an object or as JSON
        text."""
        self._session = session
        self._job_of = job_of or _job_in_column

    async def __call__(self, batch: Columns) -> AsyncGenerator[dict[str, Any], None]:
        """Raises RunStopped where nothing more is sent, and ConfigError for settings that cannot be used."""
        names = list(batch)
        jobs = [self._job_of(dict(zip(names, values, strict=True))) for values in zip(*batch.values(), strict=True)]
        rows = await self._session.rows([json.dumps(job, default=_plain) for job in jobs])
        decoded = [json.loads(row) for row in rows]
        yield {
            **batch,
            "reply": [_text(row) for row in decoded],
            "error": [None if row["error"] is None else row["error"]["code"] for row in decoded],
            "row": rows,
        }


def _job_in_column(row: dict[str, Any]) -> Mapping[str, Any]:
    if JOB_COLUMN not in row:
        raise ConfigError(f"the dataset has no column {JOB_COLUMN!r}: add it, or give job_of=")
    job = row[JOB_COLUMN]
    return dict(json.loads(job)) if isinstance(job, str) else dict(job)


def _text(row: Mapping[str, Any]) -> str | None:
    return None if row["error"] is not None else text_of_reply(row["response"]["body"])


def _plain(value: Any) -> Any:
    """Return what stands for a value of a dataset in JSON."""
    if hasattr(value, "tolist"):  # of NumPy
        return value.tolist()
    raise TypeError(f"a job holds {type(value).__name__} {value!r:.80}, which JSON does not have")
