"""`process simulate`: runs the simulated provider as an HTTP server until Ctrl-C."""

from __future__ import annotations

import asyncio
import errno
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from processor.core import platform
from processor.core.errors import ConfigError, reason
from processor.simulator.batch_settings import BatchSettings, split_faults
from processor.simulator.faults import Faults
from processor.simulator.http_server import serve
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import SimulatorSettings


def parse_settings(*, faults: str, models: str | None, batch_s: float = 20.0, **options: Any) -> SimulatorSettings:
    """Build the settings from flags: `faults` in the syntax of `Faults.parse`, `models` separated by commas.

    Raises ConfigError.
    """
    names = None if models is None else tuple(name.strip() for name in models.split(","))
    try:
        faults, batches = split_faults(faults, BatchSettings(duration_s=batch_s))
        return SimulatorSettings(faults=Faults.parse(faults), models=names, batches=batches, **options)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def run(settings: SimulatorSettings, host: str, port: int, *, print_line: Callable[[str], None]) -> int:
    """Serve until SIGINT or SIGTERM, after one line with the address. Returns the exit code; raises ConfigError."""
    return asyncio.run(_run(settings, host, port, print_line))


async def _run(settings: SimulatorSettings, host: str, port: int, print_line: Callable[[str], None]) -> int:
    stopped = asyncio.Event()
    with platform.signal_handlers({signal.SIGINT: stopped.set, signal.SIGTERM: stopped.set}):
        try:
            server = await serve(SimulatedProvider(replace(settings, epoch_s=time.time())), host, port)
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"cannot listen on {host}, port {port}: {error}") from None
        except OSError as error:
            raise ConfigError(_bind_error_message(error, host, port)) from None
        print_line(f"simulating at {server.base_url}: process JOBS --base-url {server.base_url}  (Ctrl-C ends it)")
        await stopped.wait()
        await server.close()
    return 0


def _bind_error_message(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken: give another --port, or 0 for any free one"
    return f"cannot listen on {host}, port {port}: {reason(error)}"
