"""One request on the wire, from sending to its reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from aiohttp import ClientError, ClientSession, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawResponseMessage

from processor.core.errors import OptionRefused, RequestError, StatusError
from processor.core.events import Delta, FirstToken, RequestListener, ResponseStarted, Sent
from processor.core.models import Job, Reply
from processor.http.body import OutgoingBody
from processor.http.body_reader import BodyReader, ReadBatcher
from processor.http.connection_state import Route
from processor.http.error_mapping import before_response, inside_response
from processor.http.fast_connector import Connection
from processor.http.read_batching import ReadBatching
from processor.http.response_body import ErrorParser, JsonParser, ResponseParser, SseParser, page_error
from processor.http.settings import TransportSettings
from processor.http.timeouts import Deadlines
from processor.protocols import Accumulator, error_from_response, protocol_for, request_id

_ERROR_BODY_WITHIN_S = 10.0
_EVENT_STREAM = "text/event-stream"
_INFORMATIONAL = {*range(100, 200)} - {101}
"""Statuses of responses that another one follows."""


class HttpRequest:
    """Serves one request: tells what happens to it, and makes a reply or an error of what comes back.

    Raises Rejected where no protocol is known for the job's path: nothing is sent.
    """

    __slots__ = (
        "_bulk_bytes",
        "_connection",
        "_fault",
        "_has_token",
        "_intake",
        "_job",
        "_options",
        "_patience",
        "_pauses",
        "_protocol",
        "_reading",
        "_route",
        "_settings",
        "_status",
        "_taker",
        "_tell",
        "_wall",
        "request_id",
        "reused",
    )

    def __init__(
        self,
        job: Job,
        route: Route,
        tell: RequestListener,
        settings: TransportSettings,
        *,
        pauses: ReadBatching,
        bulk_bytes: int,
        wall: Callable[[], float],
    ) -> None:
        self._job = job
        self._route = route
        self._tell = tell
        self._settings = settings
        self._pauses = pauses
        self._bulk_bytes = bulk_bytes
        self._wall = wall
        self._protocol = protocol_for(job.path)
        self._options = route.request_options[job.model]
        self._connection: BaseProtocol | None = None
        self.reused = False
        """It went out on a connection that had served before."""
        self._has_token = False
        self._status = 0
        self.request_id: str | None = None
        """The server's, where it gave one."""
        self._patience = Deadlines(settings.timeouts, pauses.loop, self._give_up)
        self._intake: ResponseParser | None = None
        self._reading: ReadBatcher | None = None
        self._taker: BodyReader | None = None
        self._fault: Exception | None = None
        """Came up while the connection told something: it is for the task."""

    async def reply(self, session: ClientSession) -> Reply:
        """Raises RequestError."""
        failure: RequestError | None = None
        try:
            try:
                await self._exchange(session)
            except (ClientError, OSError) as error:
                # Not raised here: beside it there would be aiohttp's, which holds the key.
                failure = self._failure(error)
            return self._reply(failure)
        finally:
            self._end()

    async def _exchange(self, session: ClientSession) -> None:
        response = await session.post(
            self._route.url,
            data=OutgoingBody(self._payload(), self._leaves),  # held by nobody once it is sent
            headers=self._route.headers,
            proxy=self._route.proxy,
            allow_redirects=False,
        )
        try:
            # A stream may take long, and there are many: nobody asks for these any more.
            response._raw_headers = ()
            if self._fault is not None:
                raise self._fault
            await (self._taker or self._begin(response.status, response.headers, response.content)).end()
        finally:
            if response.connection is not None:  # not all has come: it is worth nothing to others
                response.close()

    def _payload(self) -> bytes:
        return self._protocol.encode(self._job, self._options)

    # ------------------------------------------------------------ what the connection tells

    def _leaves(self, connection: BaseProtocol) -> None:
        at = self._pauses.loop.time()
        self._connection = connection
        if isinstance(connection, Connection):
            self.reused, connection.used = connection.used, True
            connection.listener = self
        self._patience.start(at)
        self._tell(Sent(at))

    def begins(self, head: RawResponseMessage, content: StreamReader) -> None:
        if self._taker is not None or head.code in _INFORMATIONAL:
            return
        try:
            self._begin(head.code, head.headers, content)
        except Exception as error:  # noqa: BLE001
            self._fault = error

    def look(self) -> None:
        """Nothing has begun yet."""

    def _begin(self, status: int, named: Mapping[str, str], content: StreamReader) -> BodyReader:
        self._status = status
        headers = {name.lower(): value for name, value in named.items()}
        self.request_id = request_id(headers)
        self._tell(ResponseStarted(status, headers, self._pauses.loop.time()))
        self._intake = self._open_intake(headers)
        if isinstance(self._intake, ErrorParser):
            self._patience.cap(_ERROR_BODY_WITHIN_S)
        self._reading = ReadBatcher(self._route.rhythms[self._job.model], self._pauses, self._connection)
        self._taker = BodyReader(content, self._intake, self._patience, self._reading)
        if isinstance(self._connection, Connection):
            self._connection.listener = self._taker
            self._taker.look()
        return self._taker

    def _open_intake(self, headers: Mapping[str, str]) -> ResponseParser:
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if not 200 <= self._status < 300:
            return ErrorParser(partial(self._refused, headers))
        if content_type in ("text/html", "application/xhtml+xml"):
            return ErrorParser(page_error(content_type))
        in_one_piece = not self._protocol.is_streamed(self._job, self._options) and content_type != _EVENT_STREAM
        if in_one_piece or content_type == "application/json" or content_type.endswith("+json"):
            return JsonParser(self._protocol.parse_json, max_bytes=self._settings.max_reply_bytes)
        return SseParser(
            self._protocol.accumulator(self._job),
            self._grown,
            end_marker=self._protocol.end_marker,
            max_bytes=self._settings.max_reply_bytes,
            content_type=content_type,
            live=self._settings.echo,
            bulk_bytes=self._bulk_bytes,
        )

    def _grown(self, fold: Accumulator) -> None:
        if not self._has_token and fold.has_content:
            self._has_token = True
            self._tell(FirstToken(at := self._pauses.loop.time()))
            if self._reading is not None and not self._settings.echo:
                self._reading.begin(at)
        if self._settings.echo and (text := fold.pop_text()):
            self._tell(Delta(text))

    def _refused(self, headers: Mapping[str, str], data: bytes) -> StatusError:
        error = error_from_response(self._status, headers, data, now_wall=self._wall())
        adapted = self._protocol.adapt(error, self._job, self._options)
        if adapted is None:
            return error
        self._route.request_options[self._job.model] = adapted
        return OptionRefused(str(error), status=error.status, body=error.body, error_code=error.error_code)

    # ------------------------------------------------------------ how it ends

    def _give_up(self) -> None:
        """It has taken too long: what waits for the connection hears that it is lost."""
        connection, taker = self._connection, self._taker
        # One that has brought its whole response may be another's already.
        if connection is not None and connection.transport is not None and not (taker and taker.is_at_end):
            connection.transport.abort()

    def _reply(self, failure: RequestError | None) -> Reply:
        """What has come, if it is whole, whatever broke off behind it."""
        intake = self._intake
        if failure is not None and (intake is None or not intake.complete):
            raise failure
        assert intake is not None
        return Reply(status_code=self._status, request_id=self.request_id, body=intake.body())

    def _end(self) -> None:
        self._patience.stop()
        connection, taker = self._connection, self._taker
        # It may have gone out with the next request already.
        if isinstance(connection, Connection) and connection.listener in (self, taker):
            connection.listener = None
        if taker is not None:
            taker.close()
        # They hold this, too: a circle for each reply, and all that hangs on it, would wait to be swept up.
        del self._patience
        self._intake = self._taker = None

    def _failure(self, error: Exception) -> RequestError:
        if self._patience.expired:
            return self._patience.error()
        if self._intake is not None:
            return inside_response(error, self._route.where)
        return before_response(
            error,
            self._route.where,
            # A connection that closed before anything went out was none to begin with.
            reused=self.reused or self._connection is None,
            connect_timeout_s=self._settings.timeouts.connect_timeout_s,
        )
