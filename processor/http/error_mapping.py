"""Maps the exceptions of aiohttp to the errors of this program."""

from __future__ import annotations

import errno
import os
from ssl import SSLCertVerificationError

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
    StreamTruncated,
)
from processor.core.text import one_line


def error_before_response(error: Exception, host_port: str, *, reused: bool, connect_timeout_s: float) -> RequestError:
    """The error of a request whose response has not begun. ``reused``: its connection had served a request before."""
    if isinstance(error, ConnectionTimeoutError):
        return ConnectError(f"no connection to {host_port} within {connect_timeout_s:g} s")
    if isinstance(error, ClientHttpProxyError):
        return ConnectError(f"the proxy does not connect to {host_port}: HTTP {error.status} {one_line(error.message)}")
    if isinstance(error, ClientConnectorCertificateError):
        return ConnectError(f"the certificate of {host_port} is not trusted: {_reason(error.certificate_error)}")
    if isinstance(error, ClientConnectorError):
        return ConnectError(_not_connected(error, host_port))
    if isinstance(error, InvalidURL):
        return ConnectError(f"{host_port} is not a valid address: {one_line(error.description or '')}")
    if isinstance(error, ClientResponseError):
        return ProtocolError(f"{host_port} sent no valid HTTP response: {one_line(error.message)}")
    # aiohttp's message is then the part of the response's head that has come.
    response_begun = isinstance(error, ServerDisconnectedError) and not isinstance(error.message, str)
    return ConnectionLost(f"{host_port} closed the connection without a response", reused=reused and not response_begun)


def error_in_response(error: Exception, host_port: str) -> StreamTruncated:
    """The error of a response that broke off."""
    return StreamTruncated(f"the connection to {host_port} broke in the middle of the reply: {_reason(error)}")


def _not_connected(error: ClientConnectorError, host_port: str) -> str:
    reason = _reason(error.os_error)
    if isinstance(error, ClientConnectorDNSError):
        return f"the host of {host_port} is not found: {reason}"
    if isinstance(error, ClientProxyConnectionError):
        return f"cannot connect to the proxy for {host_port}: {reason}"
    if isinstance(error, ClientConnectorSSLError):
        return f"no TLS connection to {host_port}: {reason}"
    return f"cannot connect to {host_port}: {reason}"


def _reason(error: Exception) -> str:
    """The reason in one line."""
    if isinstance(error, SSLCertVerificationError):
        return one_line(error.verify_message)
    if isinstance(error, OSError) and type(error.errno) is int and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return one_line(getattr(error, "strerror", None) or str(error)) or type(error).__name__
