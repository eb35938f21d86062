"""Publishes the rows of a run while it is at work: the tasks beside the sink."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace

from processor.core.errors import ConfigError, OutputError, reason
from processor.core.events import Listener, Notice
from processor.core.fast_dataclass import dataclass
from processor.core.models import RunInThread
from processor.core.text import setting_name
from processor.publishing.lease import Lease, LeaseLost, LeaseTerms, acquire_lease
from processor.publishing.publisher import Publisher
from processor.publishing.work_folder import WorkFolder
from processor.remote.object_folder import ObjectFolder

SyncRows = Callable[[], Awaitable[None]]
"""Returns when the rows written so far survive a loss of power. Raises OutputError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingTerms:
    """When rows are published."""

    interval_s: float = 60.0
    """From the end of one publication to the next one."""
    first_retry_s: float = 1.0
    """After a failure it is tried again after so long, then after twice as long, up to the interval."""
    give_up_s: float = 30.0
    """At the end of a run: after so many seconds of failures the rest is left to the next run."""


class Publication:
    """Renews the lease, and publishes rows at an interval. Made by ``opened_publication``."""

    def __init__(
        self,
        publisher: Publisher,
        lease: Lease,
        terms: PublishingTerms,
        emit: Listener,
        run_in_thread: RunInThread,
    ) -> None:
        self._publisher = publisher
        self._lease = lease
        self._terms = terms
        self._emit = emit
        self._run_in_thread = run_in_thread
        self._failures = 0
        """In a row."""
        self._last_error: OSError | None = None
        self._lost: LeaseLost | None = None
        self._has_rest = False
        """At the end of the run not all rows could be published."""
        self._stopping = asyncio.Event()
        self._publishing: asyncio.Task[None] | None = None
        self._renewing = asyncio.create_task(self._renew_repeatedly())

    def raise_if_lost(self) -> None:
        """Raise LeaseLost where another machine has taken over: this run must send nothing more."""
        if self._lost is not None:
            raise LeaseLost(str(self._lost))

    async def prepare(self) -> None:
        """Bring the local files and the parts to the same state. Raises ConfigError."""
        with _as_config_error(self._publisher.address):
            await self._run_in_thread(self._publisher.prepare)

    async def begin(self, sync: SyncRows) -> None:
        """Publish the rows of the results files, which were opened, from now on. Raises ConfigError."""
        with _as_config_error(self._publisher.address):
            await self._run_in_thread(self._publisher.begin)
        self._publishing = asyncio.create_task(self._publish_repeatedly(sync))

    async def finish(self, sync: SyncRows) -> bool:
        """Publish what is left, before compaction. Return whether all rows are published; if not, a notice says so."""
        self._stopping.set()
        if self._publishing is not None:
            await self._publishing
        if not await self._publish_until_it_works(sync):
            self._has_rest = True
            await self._report_rest()
        return not self._has_rest

    async def finish_errors(self) -> bool:
        """Publish what compaction has changed in the errors file. Return as ``finish`` does."""
        try:
            await self._run_in_thread(self._publisher.publish_dropped_errors)
            return True
        except (OSError, LeaseLost) as error:
            self._has_rest = True
            self._notify(
                f"the errors file has lost rows that still stand at {self._publisher.address}: {_why(error)}; the "
                "same command drops them there"
            )
            return False

    async def close(self) -> None:
        """Stop the tasks and release the lease, unless rows of this machine are to be published first."""
        for task in (self._renewing, self._publishing):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if not self._has_rest and self._lost is None:
            with suppress(OSError):  # it expires
                await self._run_in_thread(self._lease.release)

    # ------------------------------------------------------------ tasks

    async def _renew_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(self._lease.renewal_interval_s)
            try:
                await self._run_in_thread(self._lease.renew)
            except LeaseLost as error:
                self._lose(error)
                return
            except OSError:
                continue  # publishing meets the same error, and reports it

    async def _publish_repeatedly(self, sync: SyncRows) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._wait_s())
            if self._stopping.is_set() or self._lost is not None:
                return
            await self._try_to_publish(sync)

    def _wait_s(self) -> float:
        """How long until the next publication, or until the last one is tried again."""
        if not self._failures:
            return self._terms.interval_s
        return min(self._terms.first_retry_s * 2.0 ** min(self._failures - 1, 30), self._terms.interval_s)

    async def _publish_until_it_works(self, sync: SyncRows) -> bool:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._terms.give_up_s
        while self._lost is None:
            if await self._try_to_publish(sync):
                return True
            if loop.time() + self._wait_s() >= give_up_at:
                return False
            await asyncio.sleep(self._wait_s())
        return False

    async def _try_to_publish(self, sync: SyncRows) -> bool:
        """Publish the rows there are. Return whether that worked. The first failure in a row makes a notice."""
        try:
            with suppress(OutputError):  # the run ends for it, and what stands in the file is published
                await sync()
            await self._run_in_thread(self._publisher.publish)
        except LeaseLost as error:
            self._lose(error)
            return False
        except OSError as error:
            self._note_failure(error)
            return False
        if self._failures:
            self._notify(f"rows are published to {self._publisher.address} again", is_warning=False)
        self._failures = 0
        return True

    # ------------------------------------------------------------ notices

    def _note_failure(self, error: OSError) -> None:
        self._failures += 1
        self._last_error = error
        if self._failures == 1:
            self._notify(
                f"cannot publish to {self._publisher.address}: {_why(error)}; this is tried again, and the rows are "
                f"kept in {self._publisher.folder}"
            )

    def _lose(self, error: LeaseLost) -> None:
        if self._lost is None:
            self._lost = error
            self._notify(f"{error}; this run stops")

    async def _report_rest(self) -> None:
        try:
            rows = await self._run_in_thread(self._publisher.count_unpublished_rows)
        except OSError as error:
            self._last_error, rows = self._last_error or error, 0
        if not rows and self._last_error is None:
            return  # they were published before another machine took over
        count = f"{rows:,} {'row is' if rows == 1 else 'rows are'}" if rows else "the last rows may be"
        why = f": {_why(self._last_error)}" if self._last_error and self._lost is None else ""
        self._notify(
            f"{count} not published to {self._publisher.address}{why}; they are kept in {self._publisher.folder}, and "
            "the same command publishes them from this machine"
        )

    def _notify(self, text: str, *, is_warning: bool = True) -> None:
        self._emit(Notice(at=asyncio.get_running_loop().time(), text=text, is_warning=is_warning))


@asynccontextmanager
async def opened_publication(
    folder: ObjectFolder,
    work_folder: WorkFolder,
    terms: PublishingTerms,
    lease_terms: LeaseTerms,
    *,
    emit: Listener,
    run_in_thread: RunInThread = asyncio.to_thread,
) -> AsyncIterator[Publication]:
    """Lock the work folder, take the lease, and bring the local files and the parts to the same state.

    The holder of the lease is that of the work folder, in the place of the one in ``lease_terms``. Raises ConfigError
    where another run is at work, or the store or the folder cannot be used.
    """
    with work_folder.locked():
        with _as_config_error(folder.name):
            record = work_folder.load_record()
            work_folder.save_record(record)  # a killed run finds its lease again by the holder that stands there
            lease_terms = replace(lease_terms, holder=record.holder)
            lease = await run_in_thread(lambda: acquire_lease(folder, lease_terms))
        publisher = Publisher(folder, work_folder, lease, record)
        publication = Publication(publisher, lease, terms, emit, run_in_thread)
        try:
            await publication.prepare()
            yield publication
        finally:
            await publication.close()


@contextmanager
def _as_config_error(address: str) -> Iterator[None]:
    """Raise what keeps a run from starting as a ConfigError."""
    try:
        yield
    except LeaseLost as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(
            f"cannot write results to {address}: {_why(error)}; or give another {setting_name('out')}"
        ) from None


def _why(error: OSError | LeaseLost) -> str:
    return reason(error) if isinstance(error, OSError) else str(error)
