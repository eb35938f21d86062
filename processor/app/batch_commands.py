"""``process batch``: lists, cancels and settles the batches of an output."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from processor.app.batch_access import batch_accesses, batch_preset
from processor.app.open_batches import opened_log
from processor.batch.batch_log import BatchLog
from processor.batch.open_batch import OpenBatch
from processor.config.batch_presets import BatchPreset
from processor.config.endpoint_resolution import EndpointAccess, resolve_endpoints
from processor.config.settings import Settings
from processor.core.errors import BadRequest, ConfigError, OutputError, RequestError
from processor.output.opening import lock_state
from processor.output.paths import OutputPaths
from processor.output.storage import LocalStorage


def listed(results: Path) -> list[dict[str, Any]]:
    """The open batches of an output. Raises ConfigError where there is no such output."""
    with _log(results) as log:
        return [_shown(batch) for batch in log.open_batches]


def cancel(results: Path, name: str | None, settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Cancel all batches, or the one with this name. Return what was done. Raises ConfigError."""
    with _log(results) as log:
        wanted = [one for one in log.open_batches if name in (None, one.name, one.batch_id)]
        batches = [one for one in wanted if one.batch_id is not None]
        uncertain = [one.name for one in wanted if one.batch_id is None]
    if not batches:
        return [f"batch {one} is not submitted: the next run with --batch finds out about it" for one in uncertain]
    given = resolve_endpoints(settings, environ)
    accesses, preset = batch_accesses(given), batch_preset(settings, given)
    address = accesses[0].target.base_url
    elsewhere = next((one.address for one in batches if one.address != address), None)
    if len(accesses) > 1 or elsewhere is not None:
        raise ConfigError(f"the batches are not at {address}: give the --base-url or --provider of the run")
    if preset is None:
        raise ConfigError(f"no batch API is known at {address}: give the --provider of the run")
    return asyncio.run(_cancel(settings, accesses[0], preset, batches))


async def _cancel(
    settings: Settings, access: EndpointAccess, preset: BatchPreset, batches: list[OpenBatch]
) -> list[str]:
    from processor.app.batch_run import provider_batches
    from processor.app.factory import first_target
    from processor.http.api_client import HttpApiClient
    from processor.http.settings import TransportSettings

    target = await first_target(access)
    transport = TransportSettings(timeouts=settings.waiting, ca_file=settings.ca_file)
    told = []
    async with HttpApiClient(transport, target) as client:
        api = provider_batches(preset, client, target)
        for batch in batches:
            try:
                await api.cancel(batch.batch_id or "")
                told.append(f"batch {batch.batch_id} is cancelled: the next run with --batch collects what is done")
            except BadRequest as error:
                told.append(f"batch {batch.batch_id} cannot be cancelled: {error}")
            except RequestError as error:
                raise ConfigError(f"cannot cancel batch {batch.batch_id}: {error}") from None
    return told


def adopt(results: Path, name: str | None, batch_id: str) -> list[str]:
    """Take a batch of the provider as the one with this name, of which it is not known whether it was created.

    None: as the only one. Return what was done. Raises ConfigError.
    """
    with _locked_log(results) as log:
        unsubmitted = [one for one in log.open_batches if one.state != "submitted" and name in (None, one.name)]
        if len(unsubmitted) > 1:
            names = ", ".join(one.name for one in unsubmitted)
            raise ConfigError(f"which batch is {batch_id}: {names}? write BATCH={batch_id}")
        for batch in unsubmitted:
            log.record_submission(batch, batch_id, batch.intended_at)
        return [f"batch {one.name} is {batch_id}: the next run with --batch collects it" for one in unsubmitted]


def assume_lost(results: Path, name: str) -> list[str]:
    """Give up a batch, by its name or the provider's id. Return what was done. Raises ConfigError."""
    with _locked_log(results) as log:
        lost = [one for one in log.open_batches if name in (one.name, one.batch_id)]
        for batch in lost:
            log.drop(batch)
        log.compact()
        return [f"batch {one.name} is given up: the next run sends its {one.size.jobs:,} jobs again" for one in lost]


@contextmanager
def _log(results: Path) -> Iterator[BatchLog]:
    paths = OutputPaths.of(results)
    if not paths.batches.exists() and not paths.replies.exists():
        raise ConfigError(f"there is no results file {results}: give the one that a run has written with --out")
    with opened_log(paths.batches) as log:
        yield log


@contextmanager
def _locked_log(results: Path) -> Iterator[BatchLog]:
    """The journal, while no run works on the output."""
    try:
        with closing(lock_state(LocalStorage(), OutputPaths.of(results))), _log(results) as log:
            yield log
    except OutputError as error:
        raise ConfigError(str(error)) from None


def _shown(batch: OpenBatch) -> dict[str, Any]:
    at = batch.submitted_at
    return {
        "batch": batch.name,
        "state": batch.state,
        "id": batch.batch_id,
        "jobs": batch.size.jobs,
        "prompt_tokens": batch.size.tokens,
        "model": batch.model,
        "path": batch.path,
        "address": batch.address,
        "submitted_at": None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
    }
