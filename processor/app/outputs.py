"""Opens the output of a run: standard output, a results file, or results that are published in an object store."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from processor.app.plan import Plan
from processor.core.errors import ConfigError, OutputError
from processor.core.events import Listener, Notice
from processor.core.text import setting_name
from processor.output.index_entry import RunTarget
from processor.output.opening import OutputLocked
from processor.output.results_file import ResultsFile
from processor.output.sink import Sink
from processor.output.stdout_sink import StdoutSink
from processor.remote.addresses import is_writable, shown_address

if TYPE_CHECKING:
    from processor.publishing.work_folder import WorkFolder


def with_local_out(plan: Plan) -> Plan:
    """Return a plan whose results are a file of the work folder, where they are to be published; else the same plan.

    Creates nothing. Raises ConfigError.
    """
    if plan.published_at is not None or not is_writable(plan.out):
        return plan
    from processor.publishing.work_folder import WorkFolder, default_work_folder

    address = shown_address(plan.out)
    if plan.in_batches:
        raise ConfigError(
            f"{setting_name('in_batches')} keeps a file of its batches on this machine: give "
            f"{setting_name('out', 'FILE')}, and then "
            f"process export FILE --out {address}"
        )
    folder = plan.work_dir or default_work_folder(address, os.environ)
    return replace(plan, out=str(WorkFolder(folder, address).paths.replies), published_at=address)


def with_work_folder(plan: Plan) -> Plan:
    """Return the plan of ``with_local_out``, and create its work folder. Raises ConfigError."""
    plan = with_local_out(plan)
    if plan.published_at is not None:
        _work_folder(plan, plan.published_at).create()
    return plan


def _work_folder(plan: Plan, address: str) -> WorkFolder:
    from processor.publishing.work_folder import WorkFolder

    return WorkFolder(Path(plan.out).parent, address)


def open_results_file(plan: Plan, target: RunTarget) -> ResultsFile:
    """Open the results file, lock it and repair it after a crash. Raises ConfigError where that fails."""
    try:
        return open_results_file_at(Path(plan.out), plan, target)
    except OutputLocked as error:
        raise ConfigError(str(error)) from None


def open_results_file_at(path: Path, plan: Plan, target: RunTarget) -> ResultsFile:
    """Do the same with the file of this path. Raises OutputLocked where another run or session has it open."""
    output = plan.settings.output
    try:
        return ResultsFile.open(
            path,
            simulated=plan.simulate,
            target=target,
            fsync=output.fsync,
            fsync_interval_s=output.fsync_interval_s,
            run_in_thread=asyncio.to_thread,
        )
    except OutputLocked:
        raise
    except OutputError as error:
        raise ConfigError(str(error)) from None


async def open_sink(plan: Plan, target: RunTarget, emit: Listener, stack: AsyncExitStack) -> Sink:
    """Open the output, which ``stack`` closes. Raises ConfigError where it cannot be used, or another run uses it."""
    if plan.out == "-":
        sink: Sink = StdoutSink()
    elif plan.published_at is None:
        sink = open_results_file(plan, target)
    else:
        sink = await _open_published(plan, plan.published_at, target, emit, stack)
    stack.push_async_exit(sink)
    return sink


async def _open_published(plan: Plan, address: str, target: RunTarget, emit: Listener, stack: AsyncExitStack) -> Sink:
    from processor.publishing.lease import LeaseTerms
    from processor.publishing.publication import PublishingTerms, opened_publication
    from processor.publishing.published_results import PublishedResults
    from processor.publishing.work_folder import cache_folder, remove_unused
    from processor.remote.object_folder import RemoteFolder

    loop = asyncio.get_running_loop()

    def say(text: str) -> None:
        """Emit a notice: called in another thread."""
        loop.call_soon_threadsafe(lambda: emit(Notice(at=loop.time(), text=text)))

    output = plan.settings.output
    publication = await stack.enter_async_context(
        opened_publication(
            RemoteFolder(address),
            _work_folder(plan, address),
            PublishingTerms(interval_s=output.publish_interval_s, give_up_s=plan.settings.grace_s),
            LeaseTerms(term_s=output.lease_s, say=say),
            emit=emit,
        )
    )
    if plan.work_dir is None:
        await asyncio.to_thread(remove_unused, cache_folder(os.environ))
    results = open_results_file(plan, target)
    published = PublishedResults(results, publication)
    try:
        await publication.begin(results.sync)
    except ConfigError:
        await published.close(nothing_sent=True)
        raise
    return published
