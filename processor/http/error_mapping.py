"""Maps the exceptions of aiohttp to the errors of this program."""

from __future__ import annotations

import errno
import os
from http import HTTPStatus
from ssl import SSLCertVerificationError, SSLError

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
    AddressError,
    ConnectError,
    ConnectionLost,
    ProtocolError,
    RequestError,
    StreamTruncated,
)
from processor.core.text import one_line, setting_name
from processor.http.fast_connection import NotHttp

_PROXY_LOGIN = "put the proxy's user and password into HTTPS_PROXY (http://user:password@proxy:port)"
_PROXY_REMEDY = "check HTTPS_PROXY, or name the host in NO_PROXY"
_OTHER_HOST = frozenset({62, 64})
"""OpenSSL's codes for a certificate of another host name or IP address. https://docs.openssl.org/master/man1/verify"""
_OTHER_TIME = frozenset({9, 10})
"""Its codes for a certificate that is not valid yet, or no longer."""


def error_before_response(error: Exception, host_port: str, *, reused: bool, connect_timeout_s: float) -> RequestError:
    """The error of a request whose response has not begun. ``reused``: its connection had served a request before."""
    if isinstance(error, ConnectionTimeoutError):
        return ConnectError(f"no connection to {host_port} within {connect_timeout_s:g} s")
    if isinstance(error, ClientHttpProxyError):
        status = f"HTTP {error.status} {one_line(error.message)}"
        remedy = _PROXY_LOGIN if error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED else _PROXY_REMEDY
        return AddressError(f"the proxy does not connect to {host_port}: {status}; {remedy}")
    if isinstance(error, ClientConnectorCertificateError):
        return AddressError(_untrusted(error.certificate_error, host_port))
    if isinstance(error, ClientProxyConnectionError):
        reason = _reason(error.os_error)
        return AddressError(f"cannot connect to the proxy for {host_port}: {reason}; {_PROXY_REMEDY}")
    if isinstance(error, ClientConnectorSSLError):
        reason = _reason(error.os_error)
        return AddressError(f"no TLS connection to {host_port}: {reason}; if the server has no TLS, use http://")
    if isinstance(error, ClientConnectorError):
        return ConnectError(_not_connected(error, host_port))
    if isinstance(error, InvalidURL):
        return AddressError(f"{host_port} is not a valid address: {one_line(error.description or '')}")
    if isinstance(error, ClientResponseError | NotHttp):
        return ProtocolError(f"{host_port} sent no valid HTTP response: {one_line(error.message)}")
    # aiohttp's message is then the part of the response's head that has come.
    response_begun = isinstance(error, ServerDisconnectedError) and not isinstance(error.message, str)
    return ConnectionLost(f"{host_port} closed the connection without a response", reused=reused and not response_begun)


def tls_expected_error(host_port: str) -> AddressError:
    return AddressError(f"{host_port} expects TLS: use https://")


def error_in_response(error: Exception, host_port: str) -> StreamTruncated:
    """The error of a response that broke off."""
    return StreamTruncated(f"the connection to {host_port} broke in the middle of the reply: {_reason(error)}")


def _not_connected(error: ClientConnectorError, host_port: str) -> str:
    reason = _reason(error.os_error)
    if isinstance(error, ClientConnectorDNSError):
        return f"the host of {host_port} is not found: {reason}"
    return f"cannot connect to {host_port}: {reason}"


def _untrusted(error: Exception, host_port: str) -> str:
    reason = _reason(error).rstrip(".")
    remedy = f"trust its CA with {setting_name('ca_file')}"
    if isinstance(error, SSLCertVerificationError) and error.verify_code in _OTHER_HOST:
        remedy = "is the base URL right?"
    elif isinstance(error, SSLCertVerificationError) and error.verify_code in _OTHER_TIME:
        remedy = "is this machine's clock right?"
    return f"the certificate of {host_port} is not trusted: {reason}; {remedy}"


def _reason(error: Exception) -> str:
    """The reason in one line."""
    if isinstance(error, SSLCertVerificationError):
        return one_line(error.verify_message)
    if isinstance(error, SSLError) and error.reason:  # its number is OpenSSL's, and no errno
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and type(error.errno) is int and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return one_line(getattr(error, "strerror", None) or str(error)) or type(error).__name__
