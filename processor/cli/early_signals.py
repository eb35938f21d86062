"""Signals from the first moment of the process to the last, while no run listens to them itself."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

from processor.core import exit_codes


def install_early_handlers() -> None:
    """SIGUSR1 kills whoever does not expect it; Ctrl-C and SIGTERM end the process at once, without a traceback.

    Nothing is lost thereby: whatever is written to is written so that it survives a kill.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"interrupted: run the same command again to go on\n")
    os._exit(exit_codes.INTERRUPTED)
