"""Runs a server of the standard library in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer

_POLL_S = 0.005
"""How often the thread looks whether it is to end: the library's own half a second is what each test would wait."""


@contextmanager
def in_thread(server: BaseServer) -> Iterator[None]:
    """Serves until the block ends, and closes the server."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
