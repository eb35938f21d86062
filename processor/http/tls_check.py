"""Finds out whether a server that closed a plain connection expects TLS.

Few servers say so in words, and a TLS alert is no HTTP response: most just close the connection.
"""

from __future__ import annotations

import asyncio
import ssl
from http import HTTPStatus

from processor.core.errors import StatusError
from processor.core.lazy_pattern import LazyPattern

_WITHIN_S = 2.0

_TLS_EXPECTED = LazyPattern(
    r"(?i)plain HTTP request was sent to HTTPS port"  # nginx
    r"|sent an HTTP request to an HTTPS server"  # Go
    r"|speaking plain HTTP to an SSL-enabled server"  # Apache
    r"|combination of host and port requires TLS"  # Tomcat
)
"""What the others answer, with status 400."""


def says_tls_expected(error: StatusError) -> bool:
    return error.status == HTTPStatus.BAD_REQUEST and _TLS_EXPECTED.search(str(error)) is not None


async def speaks_tls(host: str, port: int) -> bool:
    """Whether a TLS handshake succeeds. Nothing is sent, so that the certificate need not be trusted."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_WITHIN_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
