"""Signal handlers for the time before and after a run, which has its own."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

from processor.core import child_processes, exit_codes, platform


def install_early_handlers() -> None:
    """SIGINT, SIGTERM and SIGHUP end the process at once, without a traceback. SIGHUP stays ignored where it was, as
    under ``nohup``. SIGUSR1, fatal by default, is ignored.

    Ending at once is safe: every file is written so that it survives a kill.
    """
    if platform.SIGUSR1 is not None:
        signal.signal(platform.SIGUSR1, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit_now)
    if platform.SIGHUP is not None and not platform.is_ignored(platform.SIGHUP):
        signal.signal(platform.SIGHUP, _exit_now)


def _exit_now(number: int, frame: FrameType | None) -> None:
    child_processes.kill_all()
    with suppress(OSError):
        os.write(2, b"interrupted: run the same command again to resume\n")
    os._exit(exit_codes.INTERRUPTED)
