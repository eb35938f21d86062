"""The steps in which a results file is opened: two locks, then the rows of earlier runs, then the in-flight log."""

from __future__ import annotations

from processor.core.errors import ConfigError, OutputError
from processor.core.money import RowCosts
from processor.core.text import setting_name
from processor.output.appender import Appender
from processor.output.in_flight_log import InFlightLog
from processor.output.index_entry import FAILED, REPLIED
from processor.output.job_index import JobIndex
from processor.output.paths import OutputPaths
from processor.output.recovery import Recovery
from processor.output.shard_check import check_shard
from processor.output.sink import RecoveredState, SpentEarlier
from processor.output.storage import Storage, as_output_error


class OutputLocked(OutputError):
    """Another run is writing to this output."""


def lock_state(storage: Storage, paths: OutputPaths) -> InFlightLog:
    """Open and lock the state file.

    Raises OutputLocked where another run has locked it, ConfigError where this program did not write it.
    """
    log = InFlightLog.open(storage, paths.state)
    if log is None:
        raise _is_locked(paths)
    return log


def lock_replies(storage: Storage, paths: OutputPaths, replies: Appender) -> None:
    """Open and lock the results file as well: by another name (a bind mount) it has another state file.

    Raises OutputLocked where another run has locked it, ConfigError where it has further names.
    """
    with as_output_error(paths.replies):
        paths.take_over_old_names(storage)
        is_locked = replies.open_locked()
    if not is_locked:
        raise _is_locked(paths)
    if replies.has_several_names():
        raise ConfigError(
            f"{paths.replies} has several names (hard links), which compaction would part: copy it, or give "
            f"another {setting_name('out')}"
        )


def _is_locked(paths: OutputPaths) -> OutputLocked:
    return OutputLocked(
        f"another run is writing to {paths.replies}: wait for it, or give another {setting_name('out')}"
    )


def recover(
    storage: Storage,
    paths: OutputPaths,
    index: JobIndex,
    recovery: Recovery,
    replies: Appender,
    log: InFlightLog,
    *,
    sync: bool,
) -> RecoveredState:
    """Load the state file, load and repair the rows, and open the results file, in this order."""
    with as_output_error(paths.state):
        logged = list(log.load())
        check_shard(storage, paths, log, recovery.target.shard)
    spent_beside_rows = log.spent_pico
    with as_output_error(paths.replies):
        replies_report, failures_report = recovery.load_and_repair()
        replies.continue_at_end()
        replied, failed = index.count(REPLIED), index.count(FAILED)
        if sync:
            # A killed run may have left rows, and a new name, that were never synced. This run counts on them. Where
            # there are none, this shows whether the file system can sync at all.
            replies.sync()
        if replied and sync:
            storage.sync_folder(paths.replies)
    with as_output_error(paths.state):
        left = recovery.load_in_flight(log, logged)
    costs = RowCosts()
    costs.add_all(replies_report.costs)
    costs.add_all(failures_report.costs)
    return RecoveredState(
        replied=replied,
        failed=failed,
        possibly_billed=left.count,
        parked=left.parked,
        spent=SpentEarlier(
            rows_pico=costs.pico,
            beside_rows_pico=spent_beside_rows + left.broken_off_pico,
            unknown_rows=costs.unknown,
            unpriced=left.unpriced,
            is_record_lost=log.is_new and bool(replied),
        ),
        replies=replies_report,
        failures=failures_report,
        weaknesses=storage.weaknesses,
    )
