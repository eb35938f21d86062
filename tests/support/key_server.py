"""A server that takes some keys, and a command that prints another key each time."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.odd_server import Answer, OddServer, reply_to

SECRET = "-printed-key-of-nobody"
"""The end of each key: it must stand in no output and in no file."""

PRINTER = f"""
import pathlib, sys
path = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else "count")
count = int(path.read_text()) + 1 if path.exists() else 1
path.write_text(str(count))
last = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
print("logged in")
if count > last:
    print("cannot log in", file=sys.stderr)
    raise SystemExit(7)
if len(sys.argv) > 2:
    count = min(count, int(sys.argv[2]))
print(str(count) + {SECRET!r})
"""
"""Prints another key each time: 1-..., 2-..., up to the key of the second argument. Fails after as many as the first
argument says. The third names the file in which it counts."""


class KeyServer(OddServer):
    """Takes the keys whose numbers are in ``accepted``."""

    def __init__(self) -> None:
        self.accepted = {1}
        self.answer: Callable[[dict[str, object]], Answer] = reply_to
        super().__init__(lambda request: self.answer(request), accepts=self.accepts)  # noqa: PLW0108 - it changes

    def accepts(self, headers: dict[str, str]) -> bool:
        return headers.get("authorization") in {f"Bearer {number}{SECRET}" for number in self.accepted}

    def keys(self) -> list[str]:
        return [headers["authorization"].removeprefix("Bearer ").removesuffix(SECRET) for headers in self.headers]
