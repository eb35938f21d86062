"""Everything that can go wrong, as one tree.

    ProcessorError
      ConfigError                     nothing was sent (exit 2)
      InputError                      the job file cannot be read further: stops the run (exit 3, or 2 as below)
      OutputError                     the results cannot be written: stops the run (exit 3, or 2 before the first send)
      RequestError                    one attempt failed
        TransportError                the connection's fault
          ConnectError                no connection could be made: nothing was sent
          ConnectionLost              it broke before the response began
          StreamTruncated             it broke, or ended, in the middle of a reply
          StreamStalled               silence after the first byte
          RequestTimeout              the first byte, or the whole reply, took too long
        StatusError                   the server said no
          RateLimited                 429: wait
          ServerError                 408, 409, 5xx: the server's fault
            StreamOptionsUnknown      it does not know `stream_options`: again at once, without them
          Rejected                    400, 404, 413, 422, ...: the job's own fault
            NotFound                  or the run's: what was asked for is not there
              ModelUnknown            the server has no such model
              AddressUnknown          it has nothing at this address
          Refused                     401, 402, 403, quota and spend: the key's fault
        ProtocolError                 the server's events made no sense
          ReplyTooLarge               more than ``max_reply_bytes``

What follows from an error (retry, failed row, end of the run) is decided by its type, in ``retrying``.
Each class carries the ``code`` that stands in a failed row. A line of the job file that is no job is none of these:
it is data (``reading.source.BadLine``), and the run goes on.
"""

from __future__ import annotations

from typing import ClassVar


class ProcessorError(Exception):
    """Root of all errors this package raises on purpose."""

    code: ClassVar[str] = "error"


class ConfigError(ProcessorError):
    code = "config"


class InputError(ProcessorError):
    code = "input"


class OutputError(ProcessorError):
    code = "output"


class RequestError(ProcessorError):
    """One attempt failed. ``request_id`` is the server's, where it gave one."""

    code = "request_failed"

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class TransportError(RequestError):
    code = "connection_failed"


class ConnectError(TransportError):
    code = "connect_failed"


class ConnectionLost(TransportError):
    """The connection died before the first byte of a response.

    ``reused``: it came from the pool, so that the server may have closed it before this request was
    read. Such a request is sent again at once, on a fresh connection.
    """

    code = "connection_lost"

    def __init__(self, message: str, *, reused: bool = False, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.reused = reused


class StreamTruncated(TransportError):
    code = "stream_truncated"


class StreamStalled(TransportError):
    code = "stream_stalled"


class Timeout(TransportError):
    code = "timeout"


class StatusError(RequestError):
    """The server answered with an error, by status or inside a stream.

    ``body`` is the decoded answer (or None where it was no JSON), ``kind`` the server's own code or type for it.
    """

    code = "server_error"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        body: object = None,
        kind: str | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.status = status
        self.body = body
        self.kind = kind
        self.retry_after_s = retry_after_s


class Throttled(StatusError):
    code = "rate_limited"


class ServerError(StatusError):
    code = "server_error"


class OptionRefused(ServerError):
    """The server refused `stream_options`, which this program had added. It is sent none from now on.

    No failure of the job: it is sent again at once, under a new permit.
    """

    code = "stream_options_unknown"


class BadRequest(StatusError):
    code = "rejected"


class NotFound(BadRequest):
    """What the request was addressed to is not there: one job's mistake, or that of all that name the same."""


class ModelNotFound(NotFound):
    """The server has no such model, or none for this key."""


class UrlNotFound(NotFound):
    """No API answers there, or not this one."""


class AccessDenied(StatusError):
    code = "refused"


class ProtocolError(RequestError):
    code = "protocol_error"


class ReplyTooLarge(ProtocolError):
    code = "reply_too_large"


def reason(error: OSError) -> str:
    """What the operating system objects to, as it reads in the middle of a sentence."""
    return (error.strerror or str(error)).lower()
