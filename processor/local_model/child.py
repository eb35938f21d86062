"""Starts and ends the process that serves a local model."""

from __future__ import annotations

import asyncio
import json
import secrets
from asyncio.subprocess import PIPE, Process
from contextlib import ExitStack, suppress
from dataclasses import field
from pathlib import Path
from urllib.parse import urlsplit

from processor.core import platform
from processor.core.child_processes import not_outliving
from processor.core.errors import reason
from processor.core.fast_dataclass import dataclass
from processor.core.import_path import module_command
from processor.core.models import Target
from processor.core.process_errors import LocalModelFailed
from processor.core.secrets import Secret
from processor.core.text import one_line

END_WITHIN_S = 2.0
"""Time in which the process must end once its input is closed; then it is killed."""
MAX_LOG_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModelSettings:
    path: Path
    """The weights, a GGUF file."""
    parallel: int
    """Requests that are answered at a time."""
    context_tokens: int
    """The most tokens of a prompt and its reply together."""
    key: Secret = field(default_factory=lambda: Secret(secrets.token_urlsafe(32)))


class LocalModelProcess:
    """One process. It has a process group of its own, so that Ctrl-C stops the run and not the model, and it ends with
    this process, however that ends."""

    def __init__(self, settings: LocalModelSettings) -> None:
        self._settings = settings
        self._process: Process | None = None
        self._log = b""
        """The end of what it has logged."""
        self._reader: asyncio.Task[None] | None = None
        self._guard = ExitStack()

    async def start(self, *, port: int = 0) -> Target:
        """Load the model, and return where requests go. ``port`` 0: any free one. Raises LocalModelFailed."""
        settings = self._settings
        try:
            process = await asyncio.create_subprocess_exec(
                *module_command("processor.local_model.server"),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise LocalModelFailed(f"the local model cannot be started: {reason(error)}") from None
        self._process = process
        self._guard.enter_context(not_outliving(process.pid))
        self._reader = asyncio.create_task(self._read_log(process))
        assert process.stdin is not None and process.stdout is not None
        request = {
            "path": str(settings.path.absolute()),
            "key": settings.key.value,
            "port": port,
            "parallel": settings.parallel,
            "context_tokens": settings.context_tokens,
        }
        with suppress(ConnectionError):  # it has ended: the answer is missing
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
        answer = await process.stdout.readline()
        url, why = _parse_answer(answer)
        if url is None:
            await self._end_of_log(process)
            raise LocalModelFailed(f"{settings.path} cannot be served: {why or self._last_words()}")
        return Target(base_url=f"{url}/v1", key=settings.key)

    async def has_ended(self, *, within_s: float) -> bool:
        process = self._process
        if process is None:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await process.wait()
        return process.returncode is not None

    def describe_end(self) -> str:
        """How the process has ended, for a person."""
        code = self._process.returncode if self._process else None
        if code is None:
            return "it does not run"
        ended = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{ended}: {words}" if (words := self._last_words(default="")) else ended

    async def close(self) -> None:
        """End the process, and wait until it has ended."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        if not await self.has_ended(within_s=END_WITHIN_S):
            platform.kill_group(process.pid)
            await process.wait()
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader
        self._guard.close()
        self._process = None

    async def _read_log(self, process: Process) -> None:
        assert process.stderr is not None
        while data := await process.stderr.read(65_536):
            self._log = (self._log + data)[-MAX_LOG_BYTES:]

    async def _end_of_log(self, process: Process) -> None:
        if process.stdin is not None:
            process.stdin.close()
        if self._reader is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_WITHIN_S):
                    await asyncio.shield(self._reader)

    def _last_words(self, default: str = "its process has ended") -> str:
        lines = [line for line in self._log.decode(errors="replace").splitlines() if line.strip()]
        return one_line(lines[-1], max_chars=300) if lines else default


def _parse_answer(line: bytes) -> tuple[str | None, str | None]:
    """The address, or what went wrong; neither where there was no answer."""
    with suppress(ValueError):
        answer = json.loads(line)
        if isinstance(answer, dict):
            url, error = answer.get("url"), answer.get("error")
            return (url if isinstance(url, str) and urlsplit(url).port else None), error
    return None, None
