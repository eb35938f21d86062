"""The errors of this package, as one tree.

    ProcessorError
      ConfigError                     bad usage or settings: nothing was sent (exit 2)
      InputError                      the job file cannot be read further: stops the run (exit 3, or 2 before a send)
      InvalidJob                      this line of the job file becomes a failed row
      OutputError                     the results cannot be written: stops the run (exit 3, or 2 before a send)
      InternalError                   this program is at fault: stops the run (exit 70), and nothing is sent again
      RequestError                    one attempt failed
        TransportError                the connection failed
          ConnectError                no connection could be made: nothing was sent
            AddressError              nor will one be before an address, a certificate or a proxy is changed
          ConnectionLost              it broke before the response began
          StreamTruncated             it broke, or ended, in the middle of a reply
          StreamStalled               silence after the first byte
          Timeout                     the first byte, or the whole reply, took too long
          WorkerLost                  the process that had sent it, on this or another machine, is lost: send again
        StatusError                   the server answered with an error
          Throttled                   429: wait
          ServerError                 408, 409, 5xx, ...: the server failed
          Redirected                  3xx: the address of the endpoint is wrong
          KeyRenewed                  the key was refused, and there is a new one by now: send again with that
          OptionRefused               an option that this program added is unknown there: send again without it
          BadRequest                  400, 404, 413, 422, ...: the request is at fault
            NotFound                  this job's mistake, or that of all jobs that name the same
              ModelNotFound           the server has no such model
              UrlNotFound             it has nothing at this address
          AccessDenied                401, 402, 403, quota and spend: the key or its account is at fault
        EndpointUnusable              no request to the endpoint can succeed any more
          KeyCommandFailed            the command that prints the key failed: nothing was sent
          LocalModelFailed            the process of the local model does not run, and is not started again
          WorkersUnusable             no worker process can send requests
        LocalModelRestarted           it died, and runs again: send again
        ProtocolError                 the response made no sense
          ReplyTooLarge               more than ``max_reply_bytes``

What follows from an error is decided by its type: retry or failed row in ``retry``, parked job or end of the run in
``health``. Each class carries the ``code`` that stands in a failed row. All can be pickled, to be sent from one process
to another. Those of processes that this program starts are in ``core.process_errors``.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from processor.core.durations import plausible_wait_s

E = TypeVar("E", bound="ProcessorError")

Scope = Literal["model", "endpoint"]
"""What a refusal holds for."""


class ProcessorError(Exception):
    """Root of all errors that this package raises on purpose.

    Two errors are equal that have the same type, message and attributes; causes and tracebacks are not compared.
    """

    code: str = "error"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash((type(self), self.args))

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException's own calls the class with the message alone, which fails where an argument is required.
        return _restore, (type(self), self.args, vars(self))


def _restore(cls: type[E], args: tuple[Any, ...], attributes: dict[str, Any]) -> E:
    error = cls.__new__(cls, *args)
    error.__dict__.update(attributes)
    return error


class ConfigError(ProcessorError):
    code = "config"


class InputError(ProcessorError):
    code = "input"


class InvalidJob(ProcessorError):
    """A line of the job file that is no job. Its ``code`` and the message go into the failed row."""

    def __init__(self, message: str, *, code: str = "invalid_job") -> None:
        super().__init__(message)
        self.code = code


class OutputError(ProcessorError):
    code = "output"


class InternalError(ProcessorError):
    """This program is at fault, not the network or the server: the run ends, and nothing is sent again."""

    code = "internal"


def internal_error(error: Exception, where: str) -> ProcessorError:
    """The error to raise for an exception in a callback: an error of this package stays as it is."""
    if isinstance(error, ProcessorError):
        return error
    return InternalError(f"{type(error).__name__} in {where}: {error}")


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


class AddressError(ConnectError):
    """The base URL, the certificate or the proxy is wrong: no request reaches the endpoint until that is changed."""


class ConnectionLost(TransportError):
    """The connection died before the first byte of a response.

    ``reused``: it had served a request before, so that the server may have closed it before it read this one. The
    request is then sent again at once, on a new connection.
    """

    code = "connection_lost"

    def __init__(self, message: str, *, reused: bool = False, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.reused = reused


class StreamTruncated(TransportError):
    """A reply broke off. ``ended_by_server``: the response came to a clean end, but without its end marker."""

    code = "stream_truncated"

    def __init__(self, message: str, *, ended_by_server: bool = False, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.ended_by_server = ended_by_server


class StreamStalled(TransportError):
    code = "stream_stalled"


class Timeout(TransportError):
    code = "timeout"


class StatusError(RequestError):
    """The server answered with an error, by status or inside a stream.

    ``body`` is the decoded JSON answer (None where it was no JSON), ``error_code`` the server's own code or type for
    the error. ``retry_after_s``: the wait that the server asked for; None where it asked for none, or for no plausible
    one.
    """

    code = "server_error"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        body: object = None,
        error_code: str | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.status = status
        self.body = body
        self.error_code = error_code
        self.retry_after_s = plausible_wait_s(retry_after_s)


class Throttled(StatusError):
    code = "rate_limited"


class ServerError(StatusError):
    code = "server_error"


class OptionRefused(StatusError):
    """The server refused an option that this program had added. Later requests are sent without it.

    It does not count against the job, which is sent again at once under a new permit.
    """

    code = "option_refused"


class KeyRenewed(StatusError):
    """The server refused the key, and a command has printed another one since it was sent.

    It does not count against the job, which is sent again at once under a new permit.
    """

    code = "key_renewed"


class BadRequest(StatusError):
    code = "rejected"


class NotFound(BadRequest):
    """The server has no such model or address. The job is at fault, or the settings of the run are."""


class ModelNotFound(NotFound):
    """The server has no such model, or none for this key."""


class UrlNotFound(NotFound):
    """The address does not exist, or speaks another API."""


class Redirected(StatusError):
    """The server refers to another address, where the key must not be sent: no request to this one can succeed."""

    code = "rejected"


class AccessDenied(StatusError):
    """The key or its account was refused: all jobs of one model, or of the whole endpoint, or perhaps only this one.

    ``scope``: what the refusal is known to hold for; None where it may concern this job alone (402 and 403 without a
    code of the account). ``retry_after_s`` is when a spent quota comes back.
    """

    code = "refused"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        scope: Scope | None = None,
        body: object = None,
        error_code: str | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(
            message,
            status=status,
            body=body,
            error_code=error_code,
            retry_after_s=retry_after_s,
            request_id=request_id,
        )
        self.scope: Scope | None = "endpoint" if scope is None and status == 401 else scope


class EndpointUnusable(RequestError):
    """No request to the endpoint can succeed any more."""


class KeyCommandFailed(EndpointUnusable):
    """The command that prints the key has failed."""

    code = "key_command_failed"


class ProtocolError(RequestError):
    code = "protocol_error"


class ReplyTooLarge(ProtocolError):
    code = "reply_too_large"


def reason(error: OSError) -> str:
    """The operating system's reason for an error, to stand inside a sentence."""
    return (text := error.strerror or str(error))[:1].lower() + text[1:]
