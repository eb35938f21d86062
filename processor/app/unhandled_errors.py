"""What asyncio reports of errors that nothing awaits: as asyncio itself does, but without secrets.

The error of a request that was abandoned may hold the headers that were sent.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

from processor.core.secrets import mask_text

logger = logging.getLogger("asyncio")


def log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception handler of an event loop."""
    lines = [str(context.get("message", "unhandled error in the event loop"))]
    error = context.get("exception")
    if isinstance(error, BaseException):
        lines += traceback.format_exception(error)
    logger.error("%s", mask_text("\n".join(line.rstrip("\n") for line in lines)))
