"""Reading a response: what comes is taken in at once, and gathered where that pays."""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawResponseMessage

from processor.http.fast_connector import Connection
from processor.http.read_batching import ReadBatching
from processor.http.response_body import ResponseParser
from processor.http.rhythm import ReplyTiming
from processor.http.timeouts import Deadlines

_END_WITHIN_S = 0.1
"""How long the end of a response is waited for once its reply is whole: with it the connection can be used again."""


class ReadBatcher:
    """One response's reads, paused where several segments can be gathered that way.

    Never before ``begin``: until the first token has come, all is read as it comes.
    """

    __slots__ = (
        "_began_at",
        "_may_pause",
        "_paused",
        "_paused_until",
        "_pauses",
        "_reads",
        "_rhythm",
        "connection",
        "loop",
    )

    def __init__(self, rhythm: ReplyTiming, pauses: ReadBatching, connection: BaseProtocol | None) -> None:
        self._rhythm = rhythm
        self._pauses = pauses
        self.connection = connection
        self.loop = pauses.loop
        self._may_pause = rhythm.opens()
        self._began_at: float | None = None
        self._reads = 0
        self._paused_until = 0.0
        self._paused = False

    def begin(self, at: float) -> None:
        """The first token has come."""
        self._began_at = at

    def took(self) -> None:
        """What has been read is taken in, and more will come."""
        if self._began_at is None:
            return
        self._reads += 1
        if not self._may_pause or (now := self.loop.time()) < self._paused_until:
            return
        pause_s = self._rhythm.pause_s(now - self._began_at)
        if pause_s and (number := self._number()) is not None:
            self._paused = True
            self._paused_until = now + pause_s
            self._pauses.pause(number, self._paused_until)

    def end(self) -> None:
        """The reply is whole."""
        now = self.loop.time()
        if self._began_at is not None:
            self._rhythm.learn(now - self._began_at, None if self._paused else self._reads)
        if now < self._paused_until and (number := self._number()) is not None:
            self._pauses.end(number)

    def _number(self) -> int | None:
        """Of the socket. That of a closing connection may be another's already."""
        connection = self.connection
        if not isinstance(connection, Connection) or connection.transport is None:
            return None
        return None if connection.transport.is_closing() else connection.number


class BodyReader:
    """Hands what has come to the intake, until that has enough or the response ends. Listens to the connection, where
    that can be listened to."""

    __slots__ = ("_content", "_intake", "_looking", "_patience", "_reading", "done")

    def __init__(
        self, content: StreamReader, intake: ResponseParser, patience: Deadlines, reading: ReadBatcher
    ) -> None:
        self._content = content
        self._intake = intake
        self._patience = patience
        self._reading = reading
        self._looking = False
        self.done: asyncio.Future[None] = reading.loop.create_future()

    def begins(self, head: RawResponseMessage, content: StreamReader) -> None:
        """This one has begun."""

    def look(self) -> None:
        """Take in what is there, if anything."""
        if self._looking:  # reading may resume the connection, which tells again
            return
        self._looking = True
        try:
            self._look()
        except Exception as error:  # noqa: BLE001
            if not self.done.done():
                self.done.set_exception(error)  # for the task that waits
        finally:
            self._looking = False

    def take(self, data: bytes) -> None:
        """Empty: it has ended."""
        if data:
            self._patience.on_bytes()
            self._intake.take(data)
        else:
            self._intake.finish()
        if not data or self._intake.enough:
            self.done.set_result(None)
        else:
            self._reading.took()

    def _look(self) -> None:
        content, done = self._content, self.done
        while data := content.read_nowait():
            if not done.done():  # else it is behind the end, and nothing to anybody
                self.take(data)
        if content.is_eof() and not done.done():
            self.take(b"")

    async def end(self) -> None:
        """Wait until all is taken.

        Raises what aiohttp raises where the response breaks off, and RequestError where its bytes make no sense.
        """
        content = self._content
        if isinstance(self._reading.connection, Connection):
            await self.done
        else:
            while not self.done.done():
                self.take(await content.readany())
        self._reading.end()
        if not content.is_eof() and content.exception() is None:
            self._patience.cap(_END_WITHIN_S)
            await content.wait_eof()

    @property
    def is_at_end(self) -> bool:
        """Whether all of the response has come."""
        return self._content.is_eof()

    def close(self) -> None:
        """Nobody waits for it any more."""
        if not self.done.cancel() and not self.done.cancelled():
            self.done.exception()  # or asyncio complains that nobody asked
