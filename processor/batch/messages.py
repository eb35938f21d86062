"""What a run through the batch API says at its end, and why a job cannot be in a batch. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence

from processor.batch.open_batch import OpenBatch
from processor.batch.verdicts import NOT_IN_BATCH
from processor.core.models import Failure
from processor.core.text import setting_name
from processor.terminal.formatting import plural


def no_batch_api(base_url: str, error: Exception) -> str:
    """The server does not have the addresses of a batch API."""
    return f"{base_url.partition('?')[0]} has no batch API ({error}): leave out {setting_name('in_batches')}"


def not_in_batch(path: str, paths: Collection[str]) -> Failure:
    """Why a job gets a failed row, and is not sent."""
    allowed = ", ".join(sorted(paths))
    what = f"{path} is not one of {allowed}" if path not in paths else "the job is larger than a batch may be"
    remedy = f"run without {setting_name('in_batches')}, or with {setting_name('stream_after')}"
    message = f"not sent, the provider's batch API does not take it ({what}): {remedy}"
    return Failure(code=NOT_IN_BATCH, message=message)


def end_reason(open_batches: Sequence[OpenBatch], waiting: int, output: str, connection_flags: str = "") -> str:
    """Why a run ends while batches are open, and what to do. ``connection_flags``: see ``BatchOptions``."""
    if stuck := [batch for batch in open_batches if batch.is_uncertain or batch.is_lost]:
        return "; ".join(_stuck(batch, output) for batch in stuck)
    submitted = sum(batch.state == "submitted" for batch in open_batches)
    pending = len(open_batches) - submitted
    found = ((submitted, "with the provider"), (pending, "being submitted"))
    batches = ", ".join(f"{_batches_are(count)} {where}" for count, where in found if count)
    jobs = "" if not waiting else ", 1 job waits for room" if waiting == 1 else f", {waiting:,} jobs wait for room"
    cancel = f", `process batch cancel {shlex.quote(output)}{connection_flags}` cancels" if submitted else ""
    return f"{batches or 'no batch is open'}{jobs}; the same command goes on{cancel}"


def _batches_are(count: int) -> str:
    return "1 batch is" if count == 1 else f"{count} batches are"


def _stuck(batch: OpenBatch, output: str) -> str:
    results = shlex.quote(output)
    lost = f"`process batch assume-lost {results} {batch.name}` sends its jobs again"
    if batch.is_lost:
        return f"the provider does not return batch {batch.batch_id} any more: {lost}"
    adopt = f"`process batch adopt {results} {batch.name}=ID` where ID is its id there"
    return (
        f"it is not certain whether the provider has batch {batch.name} with {plural(batch.size.jobs, 'job')}: "
        f"look there, then {adopt}, or {lost}"
    )
