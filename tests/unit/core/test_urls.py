from __future__ import annotations

import pytest

from processor.core.urls import is_loopback


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_localhost_and_loopback_addresses_are_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "llm.localhost", "localhost.example.org", "0.0.0.0", "192.168.0.1", "::2", "api.openai.com", "127.1"]
)
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)
