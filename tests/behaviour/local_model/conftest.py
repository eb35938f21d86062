"""A real model on a real server, for all tests of this folder. Where there is none they are skipped, but not on CI."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.model_weights import WeightsNotFound, weights

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def model() -> Iterator[str]:
    """The server's base URL."""
    yield from serve()


@pytest.fixture(scope="session")
def embedding_model() -> Iterator[str]:
    """The base URL of a server of embeddings."""
    yield from serve("embeddings")


def serve(*more: str) -> Iterator[str]:
    try:
        path = weights()
    except WeightsNotFound as error:
        _unavailable(str(error))
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "support" / "model_server.py"), str(path), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdin
        assert server.stdout
        address = server.stdout.readline().strip()
        if not address:
            _unavailable("the model's server does not start: is xllamacpp installed?")
        yield f"{address}/v1"
        server.stdin.close()


def _unavailable(why: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture
def command(tmp_path: Path, model: str) -> list[str]:
    """The program, with this server to ask; to be run in ``tmp_path``, with ``environ``."""
    return [sys.executable, "-m", "processor", "--base-url", model]


@pytest.fixture
def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "OPENAI_API_KEY": "not-a-key"}
