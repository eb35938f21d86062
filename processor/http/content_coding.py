"""Decodes compressed bodies in pieces of bounded size, as a small body may expand to gigabytes. No I/O.

The first bytes decide together with the `Content-Encoding`: some proxies announce a coding that they have not applied.
https://www.rfc-editor.org/rfc/rfc9110#section-8.4
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Protocol

from processor.core.errors import ProtocolError, StreamTruncated

PIECE_BYTES = 64 * 1024
"""The most that is decoded in one step."""
_SLICE_BYTES = 16 * 1024
"""So much is given to a decompressor at once, as zlib copies what follows the end of a member."""
_SNIFFED_BYTES = 8
"""So many bytes that are all text are no compressed body."""
_MAX_CODINGS = 4
GZIP_MAGIC = b"\x1f\x8b"
_TEXT_BYTES = frozenset({*range(32, 127), *b"\t\r\n\xef\xbb\xbf"})
_ALIASES = {"x-gzip": "gzip"}


class Decompressor(Protocol):
    """``is_whole``: the data that was put in has come to its end, or its coding does not mark the end."""

    is_whole: bool
    error: type[Exception]
    """What it raises for damaged data."""

    def put(self, data: bytes) -> None: ...

    def next_piece(self) -> bytes:
        """About ``PIECE_BYTES`` at most; empty where more data is needed."""


class _Zlib:
    """gzip, of which there may be several members, and deflate."""

    error: type[Exception] = zlib.error

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._object = zlib.decompressobj(window_bits)
        self._pending = b""
        self._was_full = False
        self.is_whole = False

    def put(self, data: bytes) -> None:
        self._pending += data

    def next_piece(self) -> bytes:
        while self._pending or self._was_full:
            if self._object.eof:
                if not self._pending.startswith(GZIP_MAGIC[:1]):
                    self._pending = b""  # padding behind the last member
                    return b""
                self._object = zlib.decompressobj(self._window_bits)
            piece = self._object.decompress(self._pending, PIECE_BYTES)
            self._was_full = len(piece) == PIECE_BYTES
            self.is_whole = self._object.eof
            self._pending = self._object.unused_data if self._object.eof else self._object.unconsumed_tail
            if piece:
                return piece
        return b""


class _Brotli:
    def __init__(self, module: Any) -> None:
        self.error = module.error
        self._object = module.Decompressor()
        self._pending: list[bytes] = []
        self.is_whole = False

    def put(self, data: bytes) -> None:
        self._pending.append(data)

    def next_piece(self) -> bytes:
        # First what it still holds of the data before: only an empty piece shows that there is none.
        while not self.is_whole:
            piece: bytes = self._object.process(b"", output_buffer_limit=PIECE_BYTES)
            self.is_whole = self._object.is_finished()
            if piece:
                return piece
            if not self._pending:
                break
            piece = self._object.process(self._pending.pop(0), output_buffer_limit=PIECE_BYTES)
            self.is_whole = self._object.is_finished()
            if piece:
                return piece
        return b""


class _Zstd:
    def __init__(self, module: Any) -> None:
        self.error = module.ZstdError
        self._make = module.ZstdDecompressor
        self._object = self._make()
        self._pending = b""
        self.is_whole = False

    def put(self, data: bytes) -> None:
        self._pending += data

    def next_piece(self) -> bytes:
        while self._pending or not (self._object.needs_input or self._object.eof):
            if self._object.eof:
                self._object = self._make()
            piece: bytes = self._object.decompress(self._pending, max_length=PIECE_BYTES)
            self.is_whole = self._object.eof
            self._pending = self._object.unused_data if self._object.eof else b""
            if piece:
                return piece
        return b""


def codings_in(header: str) -> tuple[str, ...]:
    """The codings in a `Content-Encoding`, in the order in which they were applied."""
    names = (name.strip().lower() for name in header.split(","))
    return tuple(_ALIASES.get(name, name) for name in names if name not in ("", "identity"))


def is_plain(data: bytes) -> bool:
    """Whether this is text, which no coding begins with."""
    return _TEXT_BYTES.issuperset(data[:_SNIFFED_BYTES])


@cache
def accepted_codings() -> str:
    """The `Accept-Encoding` of requests: only what can be decoded."""
    return ", ".join(filter(can_be_decoded, ("gzip", "deflate", "br", "zstd")))


def can_be_decoded(coding: str) -> bool:
    """Whether a decoder is installed."""
    try:
        _decompressor_maker(coding)
    except ProtocolError:
        return False
    return True


class ContentDecoder:
    """Undoes the codings of a `Content-Encoding`."""

    def __init__(self, codings: tuple[str, ...]) -> None:
        """Raises ProtocolError where there are too many."""
        if len(codings) > _MAX_CODINGS:
            raise ProtocolError(f"the reply is compressed {len(codings)} times over")
        self._stages = [_Stage(coding) for coding in reversed(codings)]
        self._input: list[bytes] = []
        """Not decoded yet; the next slice comes last."""

    def put(self, data: bytes) -> None:
        slices = [data[start : start + _SLICE_BYTES] for start in range(0, len(data), _SLICE_BYTES)]
        self._input = slices[::-1] + self._input

    def next_piece(self) -> bytes:
        """The next decoded bytes; empty where more are needed. Raises ProtocolError, also where no decoder is installed
        for what has come."""
        while not (piece := self._from_stage(len(self._stages) - 1)) and self._input:
            self._stages[0].put(self._input.pop())
        return piece

    def finish(self) -> Iterator[bytes]:
        """The last pieces, where the body has ended. Raises ProtocolError, StreamTruncated."""
        for stage in self._stages:
            stage.end()
            while piece := self.next_piece():
                yield piece
            if not stage.is_whole:
                raise StreamTruncated(f"the compressed reply ({stage.coding}) is cut off")

    def _from_stage(self, number: int) -> bytes:
        stage = self._stages[number]
        while not (piece := stage.next_piece()) and number and (data := self._from_stage(number - 1)):
            stage.put(data)
        return piece


class _Stage:
    """One coding. Data that is not coded passes through."""

    def __init__(self, coding: str) -> None:
        self.coding = coding
        self._head = b""
        self._plain: list[bytes] | None = None
        self._decompressor: Decompressor | None = None

    @property
    def is_whole(self) -> bool:
        return self._decompressor is None or self._decompressor.is_whole

    def put(self, data: bytes) -> None:
        if self._decompressor is not None:
            self._decompressor.put(data)
        elif self._plain is not None:
            self._plain.append(data)
        else:
            self._head += data
            if len(self._head) >= _SNIFFED_BYTES:
                self.end()

    def end(self) -> None:
        """Decide by the bytes that have come, where that has not been done yet."""
        if self._head:
            head, self._head = self._head, b""
            if is_plain(head):
                self._plain = [head]
            else:
                self._decompressor = _decompressor_maker(self.coding)(head)
                self._decompressor.put(head)

    def next_piece(self) -> bytes:
        if self._plain is not None:
            return self._plain.pop(0) if self._plain else b""
        if self._decompressor is None:
            return b""
        try:
            return self._decompressor.next_piece()
        except self._decompressor.error as error:
            raise ProtocolError(f"the reply cannot be decompressed ({self.coding}): {error}") from None


def _decompressor_maker(coding: str) -> Callable[[bytes], Decompressor]:
    """Makes a decompressor for data that begins with these bytes."""
    if coding in ("gzip", "deflate"):
        return _make_zlib
    if coding == "br":
        module = _installed("brotlicffi", "brotli", coding=coding, package="'Brotli>=1.2'")
        return lambda head: _Brotli(module)
    if coding == "zstd":
        standard = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        module = _installed(standard, coding=coding, package="backports.zstd")
        return lambda head: _Zstd(module)
    raise ProtocolError(f"the reply is compressed with {coding!r:.40}, which this program cannot read")


def _make_zlib(head: bytes) -> Decompressor:
    """Servers mean two formats by `deflate`: with zlib's header, as the standard says, or without it."""
    if head.startswith(GZIP_MAGIC):
        return _Zlib(16 + zlib.MAX_WBITS)
    has_header = head[0] & 0x0F == 8 and int.from_bytes(head[:2]) % 31 == 0
    return _Zlib(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _installed(*names: str, coding: str, package: str) -> Any:
    import importlib

    for name in names:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if coding != "br" or _bounds_its_output(module):
            return module
    raise ProtocolError(
        f"the reply is compressed with {coding}, which was not asked for and for which no decoder is installed "
        f"(pip install {package})"
    )


def _bounds_its_output(brotli: Any) -> bool:
    """Older versions decode all they get in one step, whatever that takes."""
    try:
        brotli.Decompressor().process(b"", output_buffer_limit=PIECE_BYTES)
    except TypeError:
        return False
    return True
