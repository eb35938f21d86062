"""What a connection tells the request that was sent on it. For type checkers: nothing imports it while a run starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from aiohttp import StreamReader


class ConnectionObserver(Protocol):
    """Is called from the socket callback. Waking a task for every segment costs more than parsing it, and bytes are
    parsed faster while they are in the cache."""

    def on_headers(self, status: int, headers: Mapping[str, str], content: StreamReader) -> None:
        """The headers of a response have come. Informational ones (status 1xx) are not passed on."""

    def on_no_response(self, error: Exception) -> None:
        """The connection has failed before the head of a response came. Only where it has a ``lease``."""

    def on_data(self) -> None:
        """Bytes have come, or the connection is lost."""

    def on_failure(self, error: Exception) -> None:
        """A callback of the connection has failed through a fault of this program. The connection is closed."""
