"""Opens the journal of batches of an output, and refuses what would send its jobs twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from processor.app.batch_access import connection_flags
from processor.app.plan import Plan
from processor.batch.batch_log import BatchLog
from processor.core.errors import ConfigError, OutputError
from processor.core.models import Target
from processor.core.text import setting_name
from processor.output.paths import OutputPaths
from processor.output.storage import LocalStorage, as_output_error
from processor.terminal.formatting import plural


def open_log(plan: Plan, target: Target) -> BatchLog:
    """The journal of batches. Raises ConfigError where it cannot be used, or its batches are at another address."""
    path = OutputPaths.of(Path(plan.out)).batches
    try:
        with as_output_error(path):
            log = BatchLog(LocalStorage(), path)
            for batch in log.open_batches if plan.simulate else ():
                log.drop(batch)  # the simulator that had it has ended with its run
    except OutputError as error:
        raise ConfigError(str(error)) from None
    elsewhere = next((one.address for one in log.open_batches if one.address != target.base_url), None)
    if elsewhere is not None:
        raise ConfigError(
            f"{path} has batches at {elsewhere.partition('?')[0]}, and this run would use {target.address}: go on with "
            f"the same {setting_name('base_url')} and {setting_name('provider')}, or cancel them with process "
            "batch cancel"
        )
    return log


@contextmanager
def opened_log(path: Path) -> Iterator[BatchLog]:
    """The journal of an output, until it is closed. Raises ConfigError where it cannot be used."""
    try:
        with as_output_error(path), closing(BatchLog(LocalStorage(), path)) as log:
            yield log
    except OutputError as error:
        raise ConfigError(str(error)) from None


def refuse(plan: Plan) -> None:
    """Raises ConfigError where jobs are in open batches, and this run would send them once more."""
    path = OutputPaths.of(Path(plan.out)).batches
    if not path.exists():
        return
    with opened_log(path) as log:
        count, jobs = len(log.open_batches), sum(batch.size.jobs for batch in log.open_batches)
    if count:
        batches = f"{plural(count, 'batch', 'batches')} {'is' if count == 1 else 'are'}"
        raise ConfigError(
            f"{batches} with the provider, with {plural(jobs, 'job')} of {plan.out}: go on with "
            f"{setting_name('in_batches', True)}, or cancel "
            f"with process batch cancel {plan.out}{connection_flags(plan.command)}"
        )
