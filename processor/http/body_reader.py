"""Reads the body of one response into a parser, from the socket callback where the connection supports that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import ClientError, StreamReader

from processor.core.errors import RequestError
from processor.core.gc_pause import in_thread_without_gc
from processor.http.fast_connection import Connection
from processor.http.read_batching import ReadBatching, ReplyTiming
from processor.http.response_body import ResponseParser
from processor.http.timeouts import Deadlines

_END_WITHIN_S = 0.1
"""The longest wait for the end of a response whose reply is complete: after it the connection can be used again."""


class ReadBatcher:
    """Delays the reads of one response, after its first token, where that batches several segments."""

    __slots__ = (
        "_batching",
        "_connection",
        "_delayed",
        "_delayed_until",
        "_first_token_at",
        "_may_delay",
        "_reads",
        "_timing",
    )

    def __init__(
        self, timing: ReplyTiming, batching: ReadBatching, connection: Connection | None, first_token_at: float
    ) -> None:
        """``connection`` is None where its reads cannot be delayed."""
        self._timing = timing
        self._batching = batching
        self._connection = connection
        self._may_delay = timing.next_may_be_delayed()
        self._first_token_at = first_token_at
        self._reads = 0
        self._delayed_until = 0.0
        self._delayed = False
        """At least one read was delayed."""

    def after_read(self) -> None:
        """The bytes of a read are parsed, and more will come."""
        self._reads += 1
        if not self._may_delay or (now := self._batching.loop.time()) < self._delayed_until:
            return
        delay_s = self._timing.delay_s(now - self._first_token_at)
        if delay_s and (socket_fd := self._socket_fd()) is not None:
            self._delayed = True
            self._delayed_until = now + delay_s
            self._batching.delay(socket_fd, self._delayed_until)

    def on_end(self) -> None:
        """The reply is complete."""
        now = self._batching.loop.time()
        self._timing.record(now - self._first_token_at, None if self._delayed else self._reads)
        if now < self._delayed_until and (socket_fd := self._socket_fd()) is not None:
            self._batching.resume(socket_fd)

    def _socket_fd(self) -> int | None:
        return None if self._connection is None else self._connection.open_socket_fd


class BodyReader:
    """Feeds the parser until it is done or the response ends. Observes the connection, where there is one that can be
    observed.

    Work that would hold up the event loop is done in a thread; nothing is read meanwhile.
    """

    __slots__ = (
        "_connection",
        "_content",
        "_deadlines",
        "_is_reading",
        "_on_progress",
        "_thread",
        "batcher",
        "finished",
        "on_failure",
        "parser",
    )

    def __init__(
        self,
        content: StreamReader,
        parser: ResponseParser,
        deadlines: Deadlines,
        connection: Connection | None,
        on_progress: Callable[[], None],
        on_failure: Callable[[Exception], None],
        finished: asyncio.Future[None],
    ) -> None:
        """``on_progress`` is called when the parser may have read events. ``finished`` is done when the parser is."""
        self._content = content
        self._on_progress = on_progress
        self._thread: asyncio.Task[None] | None = None
        """Waits for the work in a thread."""
        self.parser = parser
        self._deadlines = deadlines
        self._connection = connection
        self.batcher: ReadBatcher | None = None
        """Once ``delay_reads`` was called."""
        self._is_reading = False
        self.on_failure = on_failure
        """Takes an error that is this program's fault."""
        self.finished = finished

    def on_headers(self, status: int, headers: Mapping[str, str], content: StreamReader) -> None:
        """Ignored: a further response belongs to no request."""

    def on_no_response(self, error: Exception) -> None:
        """Ignored: the response has begun."""

    def on_data(self) -> None:
        """Parse the bytes that have come, if any."""
        if self._is_reading:  # reading may resume the connection, which calls this again
            return
        self._is_reading = True
        try:
            self._read()
        except Exception as error:  # noqa: BLE001
            self._fail(error)
        finally:
            self._is_reading = self._thread is not None

    def delay_reads(self, timing: ReplyTiming, batching: ReadBatching, first_token_at: float) -> None:
        """The first token has come: those that follow may be read later."""
        self.batcher = ReadBatcher(timing, batching, self._connection, first_token_at)

    def consume(self, data: bytes) -> None:
        """Parse these bytes. Empty: the response has ended."""
        if data:
            self._deadlines.on_bytes()
            if not self.parser.feed(data):
                if self.batcher is not None:
                    self.batcher.after_read()
                return
        else:
            self.parser.close()
        self._after_parsing(is_at_end=not data)

    def _after_parsing(self, *, is_at_end: bool) -> None:
        self._on_progress()
        if is_at_end or self.parser.is_done:
            self.finished.set_result(None)
        elif self.parser.has_backlog:
            self._thread = asyncio.create_task(self._work_off())
        elif self.batcher is not None:
            self.batcher.after_read()

    async def _work_off(self) -> None:
        """Do the parser's work in a thread, then read on."""
        try:
            self._pause_reading()
            while self.parser.has_backlog and not self.parser.is_done:
                await in_thread_without_gc(self.parser.work_off)
            self._thread = None
            self._after_parsing(is_at_end=False)
        except Exception as error:  # noqa: BLE001
            self._thread = None
            self._fail(error)
        finally:
            self._is_reading = False
            self._resume_reading()
        if self._connection is not None:
            self.on_data()

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, ClientError | OSError | RequestError):
            self.on_failure(error)
        elif not self.finished.done():
            self.finished.set_exception(error)  # for the task in ``wait``

    def _read(self) -> None:
        content, finished = self._content, self.finished
        while self._thread is None and (data := content.read_nowait()):
            if not finished.done():  # bytes behind the end of the reply are dropped
                self.consume(data)
        if self._thread is None and content.is_eof() and not finished.done():
            self.consume(b"")

    async def wait(self) -> None:
        """Wait until the parser is done.

        Raises what aiohttp raises where the response breaks off, and RequestError where its bytes make no sense.
        """
        content = self._content
        if self._connection is not None:
            await self.finished
        else:
            while not self.finished.done():
                self.consume(await content.readany())
                if self._thread is not None:
                    await self._thread
            self.finished.result()
        if self.batcher is not None:
            self.batcher.on_end()
        if not content.is_eof() and content.exception() is None:
            self._deadlines.cap(_END_WITHIN_S)
            await content.wait_eof()

    @property
    def is_at_end(self) -> bool:
        """All bytes of the response have come."""
        return self._content.is_eof()

    def close(self) -> None:
        """Read no more: the request has ended, perhaps before its reply was read."""
        if self._thread is not None:
            self._thread.cancel()

    def _pause_reading(self) -> None:
        """Leave what comes to the kernel, so that it does not pile up here."""
        if (transport := self._open_transport()) is not None:
            transport.pause_reading()

    def _resume_reading(self) -> None:
        if (transport := self._open_transport()) is not None:
            transport.resume_reading()

    def _open_transport(self) -> asyncio.Transport | None:
        transport = None if self._connection is None else self._connection.transport
        return None if transport is None or transport.is_closing() else transport
