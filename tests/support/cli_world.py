"""Runs the program as a user does, against a simulated provider that records its requests."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processor.core.compression import ZSTD_MODULE
from processor.simulator.http_server import serve
from processor.simulator.provider import SimulatedProvider
from processor.simulator.response_script import ScriptedResponse
from processor.simulator.settings import SimulatorSettings

ROOT = Path(__file__).parents[2]

KEY = "not-a-key-of-anyone"

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
class ProgramResult:
    """The exit code of the program and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The text of the error line, if it is the only line on stderr."""
        (line,) = self.err.splitlines()
        assert line.startswith("error: "), line
        return line.removeprefix("error: ")

    def row(self, label: str) -> str:
        """The text of the last row with this label in the banner or the summary."""
        texts = [line.removeprefix(label).strip() for line in self.err.splitlines() if line.startswith(f"{label} ")]
        return texts[-1]


def without_coverage(environ: Mapping[str, str]) -> dict[str, str]:
    """Removes the variables that start coverage, which would write files and import modules of its own."""
    return {name: value for name, value in environ.items() if not name.startswith(("COV", "COVERAGE"))}


class Shell:
    """A working folder and an environment to run the program in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs: list[str] = []
        """Everything that a run has written to its streams."""
        self._started: list[subprocess.Popen[bytes]] = []
        foreign = ("OPENAI_", "AZURE_", "GROQ_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.environ |= {"PYTHONPATH": str(ROOT), "COLUMNS": "80", "TERM": "xterm", "PYTHONWARNINGS": "error"}
        self.environ["XDG_CONFIG_HOME"] = str(folder / "own-settings")

    def __call__(
        self, *args: str, stdin: bytes = b"", timeout_s: float = 60, max_file_bytes: int | None = None, **environ: str
    ) -> ProgramResult:
        process = self.start(*args, stdin=subprocess.PIPE, max_file_bytes=max_file_bytes, **environ)
        return self.end(process, stdin, timeout_s=timeout_s)

    def start(
        self, *args: str, stdin: int = subprocess.DEVNULL, max_file_bytes: int | None = None, **environ: str
    ) -> subprocess.Popen[bytes]:
        """Starts the program. ``max_file_bytes`` limits the size of each file it writes, as on a full disk."""
        limited = (
            [] if max_file_bytes is None else ["sh", "-c", f'ulimit -f {max_file_bytes // 512} && exec "$@"', "sh"]
        )
        process = subprocess.Popen(
            [*limited, sys.executable, "-m", "processor", *args],
            cwd=self.folder,
            env=without_coverage({**self.environ, **environ}) if max_file_bytes else {**self.environ, **environ},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._started.append(process)
        return process

    def end(
        self, process: subprocess.Popen[bytes], stdin: bytes | None = None, *, timeout_s: float = 60
    ) -> ProgramResult:
        """Waits until the program ends, and kills it after ``timeout_s``."""
        try:
            out, err = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        result = ProgramResult(process.returncode, (out or b"").decode(), (err or b"").decode())
        self.outputs += [result.out, result.err]
        return result

    def close(self) -> None:
        """Kills what a failed test has left running."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                self.end(process)

    def write(self, name: str, *entries: Any) -> str:
        """Writes a file of JSON lines and returns its name."""
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a file that nothing writes to: every line must be whole."""
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text == "" or text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def row_count(self, name: str) -> int:
        """How many whole rows a file has that may be written to, or may not exist yet."""
        path = self.folder / name
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def files(self) -> Mapping[str, tuple[bytes, int]]:
        """Contents and modification time of each file, by name."""
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in self.folder.iterdir()}


class _HurriedProvider(SimulatedProvider):
    """A provider whose clock can run faster than the server's."""

    seconds_per_s = 1.0
    _read_at = 0.0
    """On the server's clock: when the provider's was read last."""
    _at = 0.0

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, at: float, *, query: str = ""
    ) -> ScriptedResponse:
        self._at += (at - self._read_at) * self.seconds_per_s
        self._read_at = at
        return super().handle(method, path, headers, body, self._at, query=query)


class Server:
    """The simulated provider on a loopback port, in a thread of its own."""

    def __init__(self, settings: SimulatorSettings, *, count_tokens: Callable[[str], int] | None = None) -> None:
        """``count_tokens``: of a prompt; see ``SimulatedProvider``."""
        self.requests: list[dict[str, Any]] = []
        """The requests in order; see ``SimulatedProvider``."""
        self.provider = _HurriedProvider(settings, on_request=self.requests.append, count_tokens=count_tokens)
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

    def hurry(self) -> None:
        """An hour of the provider passes in two seconds from now on: its batches end."""
        self.provider.seconds_per_s = 1800.0

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


def wait_until(condition: Callable[[], object], *, within_s: float = 60.0) -> None:
    """Raises AssertionError where the condition does not hold in time."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"the condition did not hold within {within_s:g} s"
        time.sleep(0.02)


def chat_job(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "model": "gpt-4o-mini", "prompt": f"Say {name}.", "max_tokens": 20, **more}


def chat_jobs(number: int) -> Sequence[dict[str, Any]]:
    return [chat_job(f"job-{at}") for at in range(number)]


def zstd_compress(data: bytes) -> bytes:
    """As the program zstd does: with a checksum."""
    zstd = importlib.import_module(ZSTD_MODULE)
    compressed: bytes = zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})
    return compressed


def free_port() -> int:
    """A loopback port without a listener."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
