"""Runs the program at a terminal of its own, where there are pseudo-terminals."""

from __future__ import annotations

import codecs
import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.terminal import Screen


class PtyProgram:
    """A program at a terminal of its own, and the screen of that terminal."""

    def __init__(
        self, args: Sequence[str], *, folder: Path, environ: Mapping[str, str], columns: int = 80, height: int = 24
    ) -> None:
        self.screen = Screen(columns, height)
        self.output = ""
        """All that the program has written."""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._terminal, inner = os.openpty()
        self._set_size(columns, height)
        # The first terminal that a new session opens becomes its controlling one, so that Ctrl-C reaches it.
        opened_there = ("sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(inner))
        self._process = subprocess.Popen([*opened_there, *args], cwd=folder, env=dict(environ), start_new_session=True)
        self._inner = inner
        """Kept open: without it nothing could be read after the program has ended."""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def resize(self, columns: int, height: int) -> None:
        self._read()
        self.screen.resize(columns, height)
        self._set_size(columns, height)

    def wait_for(self, condition: Callable[[Screen], bool], *, within_s: float = 30.0) -> None:
        """Raises AssertionError where the screen does not show it in time."""
        end = time.monotonic() + within_s
        while not condition(self.screen):
            assert time.monotonic() < end, "\n".join(self.screen.visible)
            self._read(0.05)

    def end(self, *, within_s: float = 30.0) -> int:
        """Wait for the end and return the exit code."""
        end = time.monotonic() + within_s
        try:
            while self._process.poll() is None:
                assert time.monotonic() < end, "the program did not end"
                self._read(0.05)
            self._read()
        finally:
            self.close()
        return self._process.returncode

    def close(self) -> None:
        """Kill the program if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._terminal >= 0:
            os.close(self._terminal)
            os.close(self._inner)
            self._terminal = -1

    def _set_size(self, columns: int, height: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, columns, 0, 0))

    def _read(self, wait_s: float = 0.0) -> None:
        """Read what has come, and wait for some if there is none."""
        while select.select([self._terminal], [], [], wait_s)[0]:
            text = self._decoder.decode(os.read(self._terminal, 1 << 16))
            self.output += text
            self.screen.feed(text)
            wait_s = 0.0
