"""What aiohttp raises → this program's errors, in one place."""

from __future__ import annotations

import errno
import os
from ssl import SSLCertVerificationError

import orjson
from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientHttpProxyError,
    ClientProxyConnectionError,
    ClientResponseError,
    ConnectionTimeoutError,
    InvalidURL,
    ServerDisconnectedError,
)

from processor.core.errors import (
    ConnectError,
    ConnectionLost,
    ProtocolError,
    RequestError,
    StatusError,
    StreamTruncated,
)
from processor.core.text import one_line


def before_response(error: Exception, where: str, *, reused: bool, connect_timeout_s: float) -> RequestError:
    """``where`` is host:port. ``reused``: the connection had served a request before."""
    if isinstance(error, ConnectionTimeoutError):
        return ConnectError(f"no connection to {where} within {connect_timeout_s:g} s")
    if isinstance(error, ClientHttpProxyError):
        return ConnectError(f"the proxy does not connect to {where}: HTTP {error.status} {one_line(error.message)}")
    if isinstance(error, ClientConnectorCertificateError):
        return ConnectError(f"the certificate of {where} is not trusted: {_reason(error.certificate_error)}")
    if isinstance(error, ClientConnectorError):
        return ConnectError(_not_connected(error, where))
    if isinstance(error, InvalidURL):
        return ConnectError(f"{where} is no address: {one_line(error.description or '')}")
    if isinstance(error, ClientResponseError):
        return ProtocolError(f"{where} does not speak HTTP as it should: {one_line(error.message)}")
    begun = isinstance(error, ServerDisconnectedError) and not isinstance(error.message, str)
    return ConnectionLost(f"{where} closed the connection without an answer", reused=reused and not begun)


def inside_response(error: Exception, where: str) -> StreamTruncated:
    return StreamTruncated(f"the connection to {where} broke in the middle of the reply: {_reason(error)}")


def without_key(error: RequestError, key: str) -> None:
    """Take the key out of what a server said: some repeat the one they refuse."""
    error.__context__ = None  # a decoder's error holds the bytes it failed at
    error.args = tuple(arg.replace(key, "•••") if isinstance(arg, str) else arg for arg in error.args)
    if isinstance(error, StatusError) and error.body is not None:
        error.body = orjson.loads(orjson.dumps(error.body).replace(key.encode(), "•••".encode()))


def _not_connected(error: ClientConnectorError, where: str) -> str:
    reason = _reason(error.os_error)
    if isinstance(error, ClientConnectorDNSError):
        return f"the host of {where} is not found: {reason}"
    if isinstance(error, ClientProxyConnectionError):
        return f"cannot connect to the proxy for {where}: {reason}"
    if isinstance(error, ClientConnectorSSLError):
        return f"no TLS connection to {where}: {reason}"
    return f"cannot connect to {where}: {reason}"


def _reason(error: Exception) -> str:
    """One line that says why."""
    if isinstance(error, SSLCertVerificationError):
        return one_line(error.verify_message)
    if isinstance(error, OSError) and type(error.errno) is int and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return one_line(getattr(error, "strerror", None) or str(error)) or type(error).__name__
