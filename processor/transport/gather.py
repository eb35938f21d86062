"""The read loop of every response."""

from __future__ import annotations

from aiohttp import StreamReader

from processor.transport.intakes import Intake
from processor.transport.patience import Patience

_END_WITHIN_S = 0.1
"""How long the end of a response is waited for once its reply is whole: with it the connection can be used again."""


async def gather(content: StreamReader, intake: Intake, patience: Patience) -> None:
    """Read until the intake has enough, or the response ends.

    Raises what aiohttp raises where the response breaks off, and RequestError where its bytes make no sense.
    """
    while not intake.enough:
        data = await content.readany()
        if not data:
            intake.finish()
            return
        patience.heard()
        intake.take(data)
    if not content.is_eof():
        patience.within(_END_WITHIN_S)
        while await content.readany():
            pass
