"""One HTTP request, from sending it to its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from aiohttp import ClientError, ClientSession, ServerDisconnectedError, StreamReader

from processor.core.errors import RequestError, StatusError, internal_error
from processor.core.events import Delta, FirstToken, RequestListener, ResponseStarted, Sent
from processor.core.gc_pause import in_thread_without_gc
from processor.core.models import Job, Reply
from processor.http.body_reader import BodyReader
from processor.http.compressed_body import CompressedParser
from processor.http.connection_state import Route
from processor.http.error_mapping import error_before_response, error_in_response, tls_expected_error
from processor.http.fast_connection import AnyConnection, Connection, NotHttp, abort, observe
from processor.http.parser_choice import error_parser, reply_parser
from processor.http.redirects import Redirects
from processor.http.request_payload import RequestPayload, post
from processor.http.response_body import ErrorParser, ResponseParser
from processor.http.response_head import with_lower_names
from processor.http.timeouts import ERROR_BODY_WITHIN_S, Deadlines
from processor.http.tls_check import says_tls_expected
from processor.http.transport_context import TransportContext
from processor.protocols import error_from_response, protocol_for, request_id


class HttpRequest:
    """Sends one request, reports its events to ``on_event``, and makes a reply or an error of the response.

    Raises BadRequest where no protocol is known for the job's path: nothing is sent.
    """

    __slots__ = (
        "_body_reader",
        "_connection",
        "_context",
        "_deadlines",
        "_ended",
        "_flush_threshold",
        "_has_first_token",
        "_job",
        "_on_event",
        "_options",
        "_pending_error",
        "_protocol",
        "_redirects",
        "_route",
        "_status",
        "_task",
        "_url",
        "request_id",
        "reused",
    )

    def __init__(
        self, job: Job, route: Route, on_event: RequestListener, context: TransportContext, *, flush_threshold: int
    ) -> None:
        self._job = job
        self._route = route
        self._on_event = on_event
        self._context = context
        self._flush_threshold = flush_threshold
        self._protocol = protocol_for(job.path)
        self._options = route.request_options[job.model]
        self._url = route.url
        self._redirects: Redirects | None = None
        """Once a response has referred to another address."""
        self._connection: AnyConnection | None = None
        self.reused = False
        """It was sent on a connection that had served a request before."""
        self._has_first_token = False
        self._status = 0
        self.request_id: str | None = None
        """The server's, where it gave one."""
        self._deadlines: Deadlines | None = None
        """Once it was sent."""
        self._body_reader: BodyReader | None = None
        self._pending_error: Exception | None = None
        """Of a callback; the task raises it."""
        self._task: asyncio.Task[object] | None = None  # that waits for aiohttp, and not for ``_ended``
        self._ended: asyncio.Future[None] | None = None  # done when the reply is read, and where none will come

    async def reply(self, session: ClientSession) -> Reply:
        """Raises RequestError, and InternalError for an exception of this program in a callback of the connection."""
        try:
            return await self._reply(await self._failure_of_exchange(session))
        except StatusError as error:
            refusal = self._route.refusal_of_option(error, self._protocol, self._job, self._options)
            if refusal is None:
                raise
        finally:
            self._close()
        raise refusal

    async def _failure_of_exchange(self, session: ClientSession) -> RequestError | None:
        failure: RequestError | None = None
        try:
            await self._exchange(session)
        except (ClientError, OSError, NotHttp) as error:
            # Returned, not raised: its context would be aiohttp's error, which holds the key.
            failure = self._failure(error)
        except asyncio.CancelledError:
            if self._pending_error is None:
                raise
        if self._pending_error is not None:
            raise self._pending_error
        return failure

    async def _exchange(self, session: ClientSession) -> None:
        self._ended = ended = self._context.loop.create_future()
        prepared = self._route.prepared_post(session, self._url)
        if prepared is None:
            await self._exchange_in_steps(session)
        else:
            await prepared.send(self._encoded_body(), self._on_sent, self._keep_error)
            # Wake up once, at the end of the reply: its head and its body are read in callbacks of the connection.
            await ended
            if self._body_reader is not None and self._pending_error is None:
                await self._body_reader.wait()
        if self._redirects is not None and self._redirects.target is not None:
            self._url = self._redirects.follow()
            self._leave_connection()
            await self._exchange(session)

    async def _exchange_in_steps(self, session: ClientSession) -> None:
        self._task, route = asyncio.current_task(), self._route
        response = await post(
            session,
            self._url,
            RequestPayload(self._encoded_body(), self._on_sent, self._keep_error),
            route.headers,
            route.proxy,
        )
        try:
            if self._pending_error is not None:
                return
            if self._connection is None:  # aiohttp has taken bytes for the response that came before the request
                raise ServerDisconnectedError
            reader = self._body_reader or self._start_body(response.status, response.headers, response.content)
            if reader is not None:
                await reader.wait()
        finally:
            if response.connection is not None:  # its response has not ended: it cannot be used again
                response.close()

    def _encoded_body(self) -> bytes:
        """The body as it is sent. No variable may hold it while the reply is read, which can take long: what orjson
        returns may take eight times its length."""
        return self._protocol.encode(self._job, self._options)

    # ------------------------------------------------------------ callbacks of the connection

    def _on_sent(self, connection: AnyConnection) -> None:
        if self._ended is None:
            raise ServerDisconnectedError  # the request has ended: it must not be sent
        at = self._context.loop.time()
        self._connection = connection
        self.reused = observe(connection, self)
        if self._deadlines is not None:
            self._deadlines.stop()
        self._deadlines = Deadlines(self._context.deadline_timer, at, self._abort)
        if self._redirects is None:
            self._on_event(Sent(at, streamed=self._protocol.is_streamed(self._job, self._options)))

    def on_headers(self, status: int, headers: Mapping[str, str], content: StreamReader) -> None:
        if self._body_reader is not None:
            return
        try:
            if self._start_body(status, headers, content) is None:
                self.on_no_response()
        except Exception as error:  # noqa: BLE001
            self._keep_error(error)

    def on_no_response(self, error: Exception | None = None) -> None:
        """Wake the task: there is no body to be read."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None) if error is None else self._ended.set_exception(error)

    def on_data(self) -> None:
        """Ignored: the body has not begun."""

    def on_failure(self, error: Exception) -> None:
        """Wake the task, without help from aiohttp, which the error may come from."""
        self._keep_error(internal_error(error, "a callback of the connection"))
        if self._task is not None:
            self._task.cancel()

    def _keep_error(self, error: Exception) -> None:
        self._pending_error = self._pending_error or error
        self.on_no_response()

    def _start_body(self, status: int, raw_headers: Mapping[str, str], content: StreamReader) -> BodyReader | None:
        """None where the request is to be sent to another address."""
        if 300 <= status < 400 and self._should_follow(status, raw_headers.get("Location")):
            return None
        assert self._deadlines is not None and self._ended is not None
        self._status = status
        headers = with_lower_names(raw_headers)
        self.request_id = request_id(headers)
        self._on_event(ResponseStarted(status, headers, self._context.loop.time()))
        if 200 <= status < 300:
            parser = reply_parser(
                self._protocol, self._job, self._context.settings, self._flush_threshold, headers, self._set_parser
            )
        else:
            parser = error_parser(headers, partial(self._status_error, headers))
            self._deadlines.cap(ERROR_BODY_WITHIN_S)
        connection = self._connection if isinstance(self._connection, Connection) else None
        self._body_reader = BodyReader(
            content, parser, self._deadlines, connection, self._on_progress, self.on_failure, self._ended
        )
        if connection is not None:
            connection.observer = self._body_reader
        return self._body_reader

    def _should_follow(self, status: int, location: str | None) -> bool:
        if self._redirects is None:
            self._redirects = Redirects(self._route, self._url)
        return self._redirects.should_follow(status, location)

    def _set_parser(self, parser: ResponseParser) -> None:
        assert self._deadlines is not None and self._body_reader is not None
        if isinstance(self._body_reader.parser, CompressedParser):
            self._body_reader.parser.inner = parser
        else:
            self._body_reader.parser = parser
        if isinstance(parser, ErrorParser):
            self._deadlines.cap(ERROR_BODY_WITHIN_S)

    def _on_progress(self) -> None:
        """The parser may have read events."""
        reader, echo = self._body_reader, self._context.settings.echo
        if reader is None or (accumulator := reader.parser.accumulator) is None:
            return
        if not self._has_first_token and accumulator.has_content:
            self._has_first_token = True
            self._on_event(FirstToken(at := self._context.loop.time()))
            if not (echo or accumulator.saw_end_marker):  # else no read follows that could be delayed
                reader.delay_reads(self._route.reply_timing[self._job.model], self._context.batching, at)
        if echo and (text := accumulator.pop_text()):
            self._on_event(Delta(text))

    def _status_error(self, headers: Mapping[str, str], data: bytes) -> RequestError:
        error = error_from_response(self._status, headers, data, now_wall=self._context.wall_clock())
        return tls_expected_error(self._route.host_port) if says_tls_expected(error) else error

    # ------------------------------------------------------------ the end

    def _abort(self) -> None:
        """A deadline has passed: abort the connection, so that the task which waits for it gets an error."""
        # After the end of the response another request may use the connection.
        if self._connection is not None and not (self._body_reader and self._body_reader.is_at_end):
            abort(self._connection)

    async def _reply(self, failure: RequestError | None) -> Reply:
        """A complete reply is kept even if the connection broke afterwards."""
        parser = self._body_reader.parser if self._body_reader is not None else None
        if failure is not None and (parser is None or not parser.is_complete):
            raise failure
        assert parser is not None
        is_large = parser.is_large
        body = await in_thread_without_gc(parser.result) if is_large else parser.result()
        altered = tuple(sorted(parser.altered)) if parser.altered else ()
        return Reply(
            status_code=self._status, request_id=self.request_id, body=body, altered=altered, is_large=is_large
        )

    def _close(self) -> None:
        if self._deadlines is not None:
            self._deadlines.stop()
        self._leave_connection()
        if self._body_reader is not None:
            self._body_reader.close()
        if self._ended is not None and not self._ended.cancel() and not self._ended.cancelled():
            self._ended.exception()  # marks it as retrieved, or asyncio logs that it never was
        # These refer back to this object: without the cycles, replies are freed without the garbage collector.
        self._deadlines = self._body_reader = self._task = self._ended = None

    def _leave_connection(self) -> None:
        connection, self._connection = self._connection, None
        # Where its response has ended, another request may have taken over the connection.
        if isinstance(connection, Connection) and connection.observer in (self, self._body_reader):
            connection.leave()

    def _failure(self, error: Exception) -> RequestError:
        if self._deadlines is not None and self._deadlines.expired:
            return self._deadlines.error()
        if self._body_reader is not None:
            return error_in_response(error, self._route.host_port)
        return error_before_response(
            error,
            self._route.host_port,
            # A connection that closed before anything was sent came from the pool.
            reused=self.reused or self._connection is None,
            connect_timeout_s=self._context.settings.timeouts.connect_timeout_s,
        )
