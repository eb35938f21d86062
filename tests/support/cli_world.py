"""What these tests do: run the program as a person does, against a server that knows what it was asked."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processor.simulator.http_server import serve
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import SimulatorSettings

ROOT = Path(__file__).parents[2]

KEY = "not-a-key"

ROW_KEYS = [
    "id",
    "custom_id",
    "response",
    "error",
    "usage",
    "usage_source",
    "attempts",
    "timing",
    "cost_usd",
    "line",
]


@dataclass(frozen=True, slots=True)
class Ended:
    """How the program ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong, where nothing else is said."""
        (line,) = self.err.splitlines()
        assert line.startswith("error: "), line
        return line.removeprefix("error: ")

    def said(self, label: str) -> str:
        """The text of the last row of the opening or the summary with this label."""
        texts = [line.removeprefix(label).strip() for line in self.err.splitlines() if line.startswith(f"{label} ")]
        return texts[-1]


def unmeasured(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what has coverage measured: it would write a file of its own where there is no room, and load much."""
    return {name: value for name, value in environ.items() if not name.startswith(("COV", "COVERAGE"))}


class Shell:
    """A working folder and an environment, in which the program is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        """Everything any run has written to its streams."""
        self._started: list[subprocess.Popen[bytes]] = []
        foreign = ("OPENAI_", "AZURE_", "GROQ_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.environ |= {"PYTHONPATH": str(ROOT), "COLUMNS": "80", "TERM": "xterm", "PYTHONWARNINGS": "error"}

    def __call__(
        self, *args: str, stdin: bytes = b"", timeout_s: float = 60, room_bytes: int | None = None, **environ: str
    ) -> Ended:
        process = self.start(*args, stdin=subprocess.PIPE, room_bytes=room_bytes, **environ)
        return self.end(process, stdin, timeout_s=timeout_s)

    def start(
        self, *args: str, stdin: int = subprocess.DEVNULL, room_bytes: int | None = None, **environ: str
    ) -> subprocess.Popen[bytes]:
        """``room_bytes``: no file of its may be larger, as on a disk without more room."""
        limited = [] if room_bytes is None else ["sh", "-c", f'ulimit -f {room_bytes // 512} && exec "$@"', "sh"]
        process = subprocess.Popen(
            [*limited, sys.executable, "-m", "processor", *args],
            cwd=self.folder,
            env=unmeasured({**self.environ, **environ}) if room_bytes else {**self.environ, **environ},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._started.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes], stdin: bytes | None = None, *, timeout_s: float = 60) -> Ended:
        """Wait until it has ended by itself."""
        try:
            out, err = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        ended = Ended(process.returncode, (out or b"").decode(), (err or b"").decode())
        self.said += [ended.out, ended.err]
        return ended

    def close(self) -> None:
        """End what a failed test has left running."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                self.end(process)

    def write(self, name: str, *entries: Any) -> str:
        """A file of JSON lines."""
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def rows(self, name: str) -> list[dict[str, Any]]:
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text == "" or text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def files(self) -> Mapping[str, tuple[bytes, int]]:
        """Contents and time of the last change."""
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in self.folder.iterdir()}


class Server:
    """The simulated provider on a port of this machine, in a thread of its own."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.asked: list[dict[str, Any]] = []
        """What came, in order: see ``SimulatedProvider``."""
        self.provider = SimulatedProvider(settings, on_request=self.asked.append)
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._is_up.wait(10)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await serve(self.provider)
        self.base_url = server.base_url
        self._is_up.set()
        await self._end.wait()
        await server.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


def ask(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "model": "gpt-4o-mini", "prompt": f"Say {name}.", "max_tokens": 20, **more}


def asks(number: int) -> Sequence[dict[str, Any]]:
    return [ask(f"job-{at}") for at in range(number)]


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
