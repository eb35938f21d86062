"""A server on loopback that sends exactly the bytes of a test's script."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Writes the response to one request."""


@asynccontextmanager
async def serve_scripts(*scripts: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Answer each request with the next script, whatever the request is. Yields the server's URL."""
    left = list(scripts)
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while left:
                await reader.readuntil(b"\r\n\r\n")
                await left.pop(0)(writer)
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"http{'s' if tls else ''}://localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # the transports close in a later iteration of the loop


def self_signed_certificate(folder: Path) -> Path:
    """A PEM file with a key and a certificate for localhost."""
    key, certificate, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files], check=True, capture_output=True
    )
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
