"""Servers of the command-line tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import KEY, Server, Shell


@pytest.fixture
def start_server(shell: Shell) -> Iterator[Callable[[SimulatorSettings], Server]]:
    """Starts a server, and makes it the one that the shell's runs chat_job, with a key."""
    servers = []

    def serve(settings: SimulatorSettings) -> Server:
        server = Server(settings)
        servers.append(server)
        shell.environ |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": KEY}
        return server

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
def server(start_server: Callable[[SimulatorSettings], Server]) -> Server:
    """A server that answers at once."""
    return start_server(INSTANT)
