"""Calls of an actor of Ray, and what its errors mean. Does not import Ray: it takes the module."""

from __future__ import annotations

from typing import Any

from processor.core.errors import InternalError, ProcessorError
from processor.core.text import one_line

MAX_ERROR_CHARS = 300


async def call_actor(ray: Any, actor: Any, method: str, *args: object, lost: type[ProcessorError], name: str) -> Any:
    """Return the answer of an actor, which is called ``name`` in messages.

    Raises ``lost`` where the actor cannot be reached, and what this program's own code in the actor raises.
    """
    try:
        return await getattr(actor, method).remote(*args)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ProcessorError):
            raise error.cause from None
        raise InternalError(f"{name} failed: {reason_of(error)}") from None
    except ray.exceptions.RayError as error:
        raise lost(reason_of(error)) from None


def reason_of(error: BaseException) -> str:
    """The last line of an error of Ray: those before it repeat what it is about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1], MAX_ERROR_CHARS) if lines else type(error).__name__
