"""Runs the transport's tests on the fast connections, and, as slow tests, on aiohttp's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from processor.http.fast_connector import create_session

ON_BOTH = frozenset(
    {
        "test_broken_connections",
        "test_connecting",
        "test_connection_pool",
        "test_error_responses",
        "test_memory_of_streams",
        "test_replies",
        "test_simulated_provider",
        "test_timeouts",
    }
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH:
        own = pytest.param(False, marks=pytest.mark.slow, id="aiohttp's connections")
        metafunc.fixturenames.append("fast_connections")
        metafunc.parametrize("fast_connections", [pytest.param(True, id="fast"), own], indirect=True)


@pytest.fixture
def fast_connections(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether the fast connections are used; otherwise aiohttp's own are."""
    is_fast: bool = request.param
    if not is_fast:
        monkeypatch.setattr(
            "processor.http.client.create_session", lambda **options: create_session(**{**options, "fast": False})
        )
    yield is_fast
