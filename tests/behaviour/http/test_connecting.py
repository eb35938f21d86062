"""Addresses, TLS and proxies: what happens until a connection is made."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from processor.core.errors import AddressError, ConfigError, ConnectError, RequestError
from processor.core.events import RequestEvent
from processor.core.models import Target
from processor.core.secrets import Secret
from processor.http.client import HttpTransport
from tests.support.http_exchange import (
    HELLO_WORLD,
    KEY,
    Record,
    always,
    exchange,
    make_job,
    response,
    serve,
    transport_settings,
)
from tests.support.scripted_server import self_signed_certificate, server_tls


def connect_failure(base_url: str, **settings: Any) -> RequestError:
    async def run() -> RequestError:
        async with HttpTransport(transport_settings(**settings)) as transport:
            events: list[RequestEvent] = []
            with pytest.raises(RequestError) as raised:
                await transport(make_job(), Target(base_url=base_url, key=Secret(KEY)), events.append)
            assert not events
            return raised.value

    return asyncio.run(asyncio.wait_for(run(), 10))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_refused_connection_is_a_connect_error_with_its_address() -> None:
    port = free_port()
    error = connect_failure(f"http://127.0.0.1:{port}/v1")
    assert type(error) is ConnectError
    assert f"127.0.0.1:{port}" in str(error)
    assert "refused" in str(error).lower()


def test_connection_that_timed_out_while_the_process_did_not_run_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name is looked up while the process is stopped for longer than the timeout."""
    monkeypatch.setattr("processor.http.client.MAX_LATENESS_S", 0.1)
    look_up, calls = socket.getaddrinfo, [0]

    def slow(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            time.sleep(0.2)
        return look_up(*arguments, **options)

    async def run() -> Record:
        record = Record()
        async with (
            serve(always(response(HELLO_WORLD)), record) as port,
            HttpTransport(transport_settings(connect_timeout_s=0.1)) as transport,
        ):
            monkeypatch.setattr(socket, "getaddrinfo", slow)
            asyncio.get_running_loop().call_later(0.02, time.sleep, 0.4)
            target = Target(base_url=f"http://localhost:{port}/v1")
            record.replies.append(await transport(make_job(), target, record.events.append))
        return record

    assert asyncio.run(asyncio.wait_for(run(), 10)).text == "Hello world"


def test_unknown_host_is_a_connect_error_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def not_found(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", not_found)
    error = connect_failure("http://no-such-host.invalid/v1")
    assert type(error) is ConnectError
    assert str(error) == "the host of no-such-host.invalid:80 is not found: Name or service not known"


def test_invalid_ip_address_is_a_connect_error() -> None:
    error = connect_failure("http://1.2.3.999/v1")
    assert type(error) is AddressError
    assert str(error).startswith("1.2.3.999:80 is not a valid address")


def test_connect_timeout_is_a_connect_error() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listener.getsockname()[1]
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
    try:
        error = connect_failure(f"http://127.0.0.1:{port}/v1", connect_timeout_s=0.2)
    finally:
        for opened in (listener, *fillers):
            opened.close()
    assert type(error) is ConnectError
    assert "within 0.2 s" in str(error)


def test_tls_to_a_server_without_tls_is_a_connect_error() -> None:
    async def run() -> RequestError:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(response(b"", "400 Bad"))
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        target = Target(base_url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with HttpTransport() as transport:
            with pytest.raises(ConnectError) as raised:
                await transport(make_job(), target, lambda _: None)
        server.close()
        return raised.value

    error = asyncio.run(asyncio.wait_for(run(), 5))
    assert type(error) is AddressError
    assert re.match(r"no TLS connection to 127\.0\.0\.1:\d+: (wrong version number|record layer failure)", str(error))
    assert str(error).endswith("; if the server has no TLS, use http://")


@pytest.mark.process
def test_plain_request_to_a_tls_server_says_so_after_one_request(tmp_path: Path) -> None:
    tls = server_tls(self_signed_certificate(tmp_path))
    record = exchange(response(HELLO_WORLD), base="http://localhost:{port}/v1", tls=tls)
    assert type(record.error) is AddressError
    assert str(record.error).endswith(" expects TLS: use https://")


@pytest.mark.parametrize(
    "body",
    [
        b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>",
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"Bad Request\nThis combination of host and port requires TLS.\n",
        b"<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
    ],
)
def test_words_of_a_server_that_expects_tls_are_understood(body: bytes) -> None:
    error = exchange(response(body, "400 Bad Request", "text/html")).error
    assert type(error) is AddressError
    assert str(error).endswith(" expects TLS: use https://")


@pytest.mark.process
def test_untrusted_certificate_is_a_connect_error_until_its_ca_file_is_given(tmp_path: Path) -> None:
    certificate = self_signed_certificate(tmp_path)
    tls = server_tls(certificate)
    record = exchange(response(HELLO_WORLD), base="https://localhost:{port}/v1", tls=tls)
    assert type(record.error) is AddressError
    assert str(record.error).endswith("; trust its CA with --ca-file")
    assert "certificate" in str(record.error)
    assert "self-signed" in str(record.error)
    assert not record.events
    record = exchange(response(HELLO_WORLD), base="https://localhost:{port}/v1", tls=tls, ca_file=str(certificate))
    assert record.text == "Hello world"
    record = exchange(response(HELLO_WORLD), base="https://127.0.0.1:{port}/v1", tls=tls, ca_file=str(certificate))
    assert type(record.error) is AddressError
    assert str(record.error).endswith("; is the base URL right?")


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_unusable_ca_file_is_a_config_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        exchange(response(HELLO_WORLD), ca_file=str(path))


@pytest.mark.parametrize(
    ("base_url", "key"),
    [
        ("ftp://host/v1", KEY),
        ("no address", KEY),
        ("http://[bad/v1", KEY),
        ("http://user:not-a-key-of-anyone@host/v1", KEY),
        ("ftp://not-a-key-of-anyone@host/v1", KEY),
        ("http://a..b/v1", KEY),
        ("http://xn--/v1", KEY),
        (f"http://{'a' * 70}.com/v1", KEY),
        ("http://host:99999/v1", KEY),
        ("http://", KEY),
        ("http://host", "not\na-key"),
    ],
)
def test_unreachable_target_is_a_config_error_without_the_key(base_url: str, key: str) -> None:
    async def run() -> None:
        async with HttpTransport() as transport:
            await transport(make_job(), Target(base_url=base_url, key=Secret(key)), lambda _: None)

    with pytest.raises(ConfigError) as raised:
        asyncio.run(run())
    assert key not in str(raised.value)


def test_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> Record:
        record = Record()

        async with serve(always(response(HELLO_WORLD)), record) as port, HttpTransport() as transport:
            monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "")
            target = Target(base_url="http://far.example/v1")
            record.replies.append(await transport(make_job(), target, record.events.append))
        return record

    record = asyncio.run(asyncio.wait_for(run(), 5))
    assert record.text == "Hello world"
    assert record.request_heads[0].startswith(b"POST http://far.example/v1/chat/completions HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in record.request_heads[0]


def test_refusing_or_missing_proxy_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(base_url: str, *, exists: bool) -> str:
        refuses = always(response(b"", "407 Proxy Authentication Required", ""))
        port = free_port()
        async with serve(refuses, Record()) as own_port, HttpTransport() as transport:
            for scheme in ("http", "https"):
                monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{own_port if exists else port}")
            monkeypatch.setenv("no_proxy", "")
            with pytest.raises(ConnectError) as raised:
                await transport(make_job(), Target(base_url=base_url, key=Secret(KEY)), lambda _: None)
            return str(raised.value)

    message = asyncio.run(run("https://far.example/v1", exists=True))
    assert message == (
        "the proxy does not connect to far.example:443: HTTP 407 Proxy Authentication Required; put the proxy's user "
        "and password into HTTPS_PROXY (http://user:password@proxy:port)"
    )
    message = asyncio.run(run("http://far.example/v1", exists=False))
    remedy = "check HTTPS_PROXY, or name the host in NO_PROXY"
    assert message == f"cannot connect to the proxy for far.example:80: Connection refused; {remedy}"
