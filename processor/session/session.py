"""Runs jobs that a program hands over one by one, and gives it their rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from processor.config.settings import Settings
from processor.core import exit_codes
from processor.core.events import JobFinished, JobSkipped, Listener, RunEvent, RunFinished, Stopping, Transport
from processor.core.models import JSON, Job
from processor.core.text import messages_for
from processor.input.job_formats import ParsedJob
from processor.output.row_json import to_row
from processor.session.answers import Answer, Left, OnAnswer, OpenJob, OpenJobs, RunStopped
from processor.session.handed_over import HandedOverJobs, QueueShare
from processor.session.job_parsing import parse_object
from processor.session.opening import SessionCallbacks, SessionOptions, SessionParts, open_parts
from processor.session.result_stream import ResultStream
from processor.session.selection import WrittenRow

CLOSED = "the session is closed"


class Session:
    """Sends jobs as a run does, and returns their rows: limits, retries, outages and budget are one for all of them.

        async with processor.Session(settings) as session:
            row = await session.result({"prompt": "Hello"})
            async for row in session.results(jobs):
                ...

    A job is an object as on a line of a job file, and a row one as in the results file; a failure is a row whose
    ``error`` is not None. Use a session in the event loop in which it was entered.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        journal: str | PathLike[str] | None = None,
        listeners: Sequence[Listener] = (),
        transport: Transport | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """``settings``: None stands for those of ``config.toml`` and the environment, as for ``process``.

        ``journal``: path of a results file, to which rows are appended, and from which jobs are answered that have
        their row there. ``listeners`` get every event. ``transport`` sends the requests in place of HTTP; a key is then
        not required. ``environ`` holds the key; None: the environment and ``.env``.
        """
        self._options = SessionOptions(
            settings=settings,
            journal=None if journal is None else Path(journal),
            listeners=listeners,
            transport=transport,
            environ=environ,
        )
        self._queue = HandedOverJobs()
        self._share = QueueShare()
        self._stack = AsyncExitStack()
        self._parts: SessionParts | None = None
        self._running: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = OpenJobs()
        self._streams: set[ResultStream] = set()
        self._jobs = 0
        self._replied: set[tuple[str, str]] = set()
        """Address and model of all replies."""
        self._left_reason: str | None = None
        """Why the last job with an end went without a row; None where it has one."""
        self._is_closed = False

    @classmethod
    def with_options(cls, options: SessionOptions) -> Self:
        """Return a session that shares its limits, or the folder of its journal, with others."""
        session = cls()
        session._options = options
        return session

    # ------------------------------------------------------------ opening and closing

    async def __aenter__(self) -> Self:
        """Open the journal and the connections. Raises ConfigError, also where another session or run has the journal
        open."""
        if self._running is not None or self._is_closed:
            raise RuntimeError("a session can be entered only once")
        callbacks = SessionCallbacks(
            listener=self._on_event,
            on_job_ended=self._on_job_ended,
            has_replied=lambda endpoint, model: (endpoint, model) in self._replied,
        )
        async with AsyncExitStack() as stack:
            with messages_for("session"):
                self._parts = parts = await open_parts(self._options, self._queue, self._open, callbacks, stack)
                self._loop = asyncio.get_running_loop()
                self._running = asyncio.create_task(parts.scheduler.run(), name="processor.Session")
                self._running.add_done_callback(lambda _: self._leave(self.stopped or CLOSED, self._open.numbers()))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what is in flight, wait for that, and close the journal and the connections.

        Raises OutputError where rows could not be written to the end.
        """
        self._is_closed = True
        self._stack.push_async_callback(self._end_run)
        with messages_for("session"):
            await self._stack.aclose()

    async def _end_run(self) -> None:
        parts, running = self._parts, self._running
        assert parts is not None and running is not None, "it was entered"
        for stream in list(self._streams):
            stream.close(CLOSED)
        if self._open:
            parts.scheduler.stop(CLOSED, exit_code=exit_codes.INTERRUPTED, grace_s=0.0)
            parts.scheduler.abort()
        self._queue.close()
        try:
            await asyncio.shield(running)
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait({running})
            self._leave(CLOSED, self._open.numbers())
        outcome = running.result()
        await parts.sink.close()  # closed by now: raises the error of that
        now = asyncio.get_running_loop().time()
        parts.emit(RunFinished(at=now, exit_code=outcome.exit_code, reason=parts.scheduler.stop_reason))

    # ------------------------------------------------------------ jobs and rows

    async def result(self, job: Mapping[str, Any]) -> JSON:
        """Return the row of the job, which is a reply or a failure. Any number of calls may wait at a time.

        Raises RunStopped where the session does not send it, or stops before its reply. Where the caller is cancelled,
        the job is withdrawn if its request has not been sent; else its row goes to the journal only.
        """
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def on_answer(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        opened = self._hand_over(job, on_answer, self._share)
        try:
            answer = await answered
        except asyncio.CancelledError:
            if opened is not None:
                self._abandon(opened, on_answer)
            raise
        if isinstance(answer, Left):
            raise RunStopped(answer.reason)
        return answer

    async def results(
        self, jobs: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
    ) -> AsyncGenerator[JSON, None]:
        """Yield the rows of many jobs as they finish. ``jobs`` is read as far ahead as requests can be sent.

        Raises RunStopped, after all rows that there are, where jobs went without one; and what ``jobs`` raises.
        """
        stream = ResultStream(self._hand_over, self._abandon, jobs)
        self._streams.add(stream)
        try:
            while (row := await stream.next()) is not None:
                yield row
        finally:
            self._streams.discard(stream)
            stream.close(CLOSED)

    @property
    def stopped(self) -> str | None:
        """Why nothing more is sent; None while something is.

        Where that holds for some models only, it is the reason why the last job was not sent.
        """
        if self._is_closed:
            return CLOSED
        if self._parts is not None and (reason := self._parts.scheduler.stop_reason) is not None:
            return reason
        return self._left_reason

    def _hand_over(self, job: object, on_answer: OnAnswer, share: QueueShare) -> OpenJob | None:
        """Put the job into the queue of the run, or answer it at once and return None."""
        parts = self._parts
        if parts is None:
            raise RuntimeError("enter the session first: async with processor.Session(...) as session")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("use the session in the event loop in which it was entered")
        if self._is_closed:
            on_answer(Left(CLOSED))
            return None
        self._jobs += 1
        with messages_for("session"):
            parsed = parse_object(job, self._jobs, parts.defaults, parts.max_job_bytes)
        selected = parts.selection.select(parsed) if isinstance(parsed, ParsedJob) else parsed
        if isinstance(selected, WrittenRow):
            parts.emit(JobSkipped(reason=selected.reason, custom_id=selected.custom_id, line=self._jobs))
            on_answer(selected.row)
            return None
        if isinstance(selected, OpenJob):
            selected.waiters.append(on_answer)
            return selected
        if (reason := parts.scheduler.stop_reason) is not None:
            on_answer(Left(reason))
            return None
        custom_id = selected.custom_id if isinstance(selected, Job) else None
        opened = OpenJob(number=self._jobs, custom_id=custom_id, fingerprint=selected.fingerprint, waiters=[on_answer])
        self._open.add(opened)
        self._queue.put(selected, share)
        return opened

    def _abandon(self, opened: OpenJob, on_answer: OnAnswer) -> None:
        """Nobody waits for the answer any more: withdraw the job, unless its request has been sent."""
        if on_answer in opened.waiters:
            opened.waiters.remove(on_answer)
        if opened.waiters or opened.number not in self._open or self._parts is None:
            return
        if self._queue.remove(opened.number):
            self._open.remove(opened.number)
        else:
            self._parts.scheduler.withdraw(opened.number)

    # ------------------------------------------------------------ what the run says

    def _on_event(self, event: RunEvent) -> None:
        if isinstance(event, JobFinished):
            result = event.result
            if result.endpoint is not None:
                self._left_reason = None
                if result.failure is None:
                    self._replied.add((result.endpoint, result.asked_model or ""))
            if (opened := self._open.remove(result.line)) is not None:
                opened.answer(to_row(result))
        elif isinstance(event, Stopping):
            self._leave(event.reason, self._queue.remove_all())

    def _on_job_ended(self, job: Job) -> None:
        if job.line not in self._open or self._parts is None:
            return
        reasons = self._parts.endpoints.closed_reasons
        reason = self._parts.scheduler.stop_reason or "; ".join(reasons) or "the job was withdrawn"
        if reasons:
            self._left_reason = reason
        self._leave(reason, [job.line])

    def _leave(self, reason: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            if (opened := self._open.remove(number)) is not None:
                opened.answer(Left(reason))
