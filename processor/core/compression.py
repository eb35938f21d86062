"""Compressed files: which coding a file has, and what reads and writes it. gzip and zstd.

zstd is read by Python's own module, before 3.14 by its backport: python-zstandard takes a file that was cut for a whole
one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, BinaryIO, Literal, Protocol

Coding = Literal["gzip", "zstd"]

SUFFIXES: dict[str, Coding] = {".gz": "gzip", ".zst": "zstd"}
"""By the end of a file's name: how a file of that name is compressed."""
ZSTD_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"

MAGIC_BYTES = 4
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_ENDS = b"\x2a\x4d\x18"
"""What follows the first byte, 0x50 to 0x5F, of a frame without data, with which the files of some tools begin.
https://www.rfc-editor.org/rfc/rfc8878#section-3.1.2"""


class NotInstalled(Exception):
    """A package is missing. The message says which, and how to install it."""


def coding_of(head: bytes) -> Coding | None:
    """Return how a file is compressed, by its first MAGIC_BYTES; None where it is not."""
    if head.startswith(_GZIP_MAGIC):
        return "gzip"
    is_skippable = head[:1] != b"" and 0x50 <= head[0] <= 0x5F and head[1:4] == _SKIPPABLE_ENDS
    return "zstd" if head.startswith(_ZSTD_MAGIC) or is_skippable else None


def coding_of_name(name: str) -> Coding | None:
    """Return how a file of this name is to be compressed; None where it is not."""
    return next((coding for suffix, coding in SUFFIXES.items() if name.lower().endswith(suffix)), None)


def without_suffix(name: str) -> str:
    """Return the name of the file that is not compressed."""
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


class Reader(Protocol):
    """What the bytes of a file are read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to about ``size`` bytes; none at the end. Raises OSError."""
        ...

    def rewind(self) -> None:
        """Begin again. Raises OSError."""
        ...


class PlainReader:
    """The bytes as they stand in a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read = file.read

    def rewind(self) -> None:
        self._file.seek(0)


class DecompressingReader:
    """Reads a compressed file from its beginning, a bounded piece at a time. Members that follow each other are one.

    All its errors are OSErrors.
    """

    def __init__(self, file: BinaryIO, coding: Coding) -> None:
        """Raises NotInstalled."""
        self._coding = coding
        self._file = file
        self._open, self._error = _reader_and_error(coding)
        self._stream = self._open(file)

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; none at the end. Raises OSError where the file is cut or damaged."""
        try:
            return bytes(self._stream.read(size))
        except EOFError:
            raise OSError(f"the {self._coding} file ends too early: it was cut, or is still being written") from None
        except self._error as error:
            raise OSError(f"the {self._coding} file is damaged: {error}") from None

    def rewind(self) -> None:
        """Begin again."""
        self._file.seek(0)
        self._stream = self._open(self._file)


def open_compressed(file: BinaryIO, coding: Coding) -> BinaryIO:
    """Return a file that compresses what is written to it. Closing it does not close ``file``. Raises NotInstalled."""
    if coding == "gzip":
        import gzip

        # Without a time and a name in it, equal rows make equal files.
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)  # type: ignore[return-value]
    module = _zstd_module()
    options = {module.CompressionParameter.checksum_flag: 1}
    return module.ZstdFile(file, "wb", options=options)  # type: ignore[no-any-return]


@cache
def _reader_and_error(coding: Coding) -> tuple[Callable[[BinaryIO], Any], tuple[type[Exception], ...]]:
    if coding == "gzip":
        import gzip
        import zlib

        return lambda file: gzip.GzipFile(fileobj=file, mode="rb"), (gzip.BadGzipFile, zlib.error)
    module = _zstd_module()
    return module.ZstdFile, (module.ZstdError,)


def _zstd_module() -> Any:
    try:
        return importlib.import_module(ZSTD_MODULE)
    except ImportError:
        raise NotInstalled("zstd needs a package: pip install 'processor[compression]'") from None
