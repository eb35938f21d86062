"""Servers of object stores on this machine: moto for S3, azurite for Azure. Tests are skipped where one is missing."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.packages import package

BUCKET = "bucket"
AZURITE = os.environ.get("AZURITE", "azurite-blob")
"""The program of azurite: ``npm install azurite``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStore:
    """A running server, with a bucket of the name BUCKET."""

    scheme: str
    environ: dict[str, str]
    """With these variables the libraries find the server."""

    def file_system(self) -> Any:
        """Return fsspec's file system of the server. Call it where ``environ`` is set."""
        import fsspec

        return fsspec.filesystem(self.scheme, skip_instance_cache=True)

    def make_bucket(self) -> None:
        with suppress(FileExistsError):  # moto keeps its buckets from one server to the next
            self.file_system().mkdir(BUCKET)

    def address(self, name: str) -> str:
        return f"{self.scheme}://{BUCKET}/{name}"


@contextmanager
def _environ(values: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield


@contextmanager
def moto_server() -> Iterator[ObjectStore]:
    """Start moto's S3 server in a thread."""
    package("s3fs")
    moto = package("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request takes longer than the request
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environ = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with _environ(environ):
        store = ObjectStore(scheme="s3", environ=environ)
        store.make_bucket()
        yield store
    server.stop()


@contextmanager
def azurite_server() -> Iterator[ObjectStore]:
    """Start azurite in a process."""
    pytest.importorskip("adlfs")
    program = shutil.which(AZURITE)
    if program is None:
        pytest.skip("azurite is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    account, secret = "account", base64.b64encode(os.urandom(32)).decode()
    options = ["--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    process = subprocess.Popen(
        [program, *options, "--blobHost", "127.0.0.1", "--blobPort", str(port)],
        env={**os.environ, "AZURITE_ACCOUNTS": f"{account}:{secret}"},
    )
    try:
        _wait_for(port)
        values = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": account,
            "AccountKey": secret,
            "BlobEndpoint": f"http://127.0.0.1:{port}/{account}",
        }
        connection = ";".join(f"{name}={value}" for name, value in values.items())
        environ = {"AZURE_STORAGE_CONNECTION_STRING": connection}
        with _environ(environ):
            store = ObjectStore(scheme="az", environ=environ)
            store.make_bucket()
            yield store
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("azurite did not start")
