"""Reads the size of an image in pixels from the beginning of its data, without decoding it."""

from __future__ import annotations

import binascii
from typing import NamedTuple

_HEAD_CHARS = 4 * 65_536
"""Base64 characters that are decoded. A JPEG may have a preview of 64 KiB before its size."""
_MAX_TYPE_CHARS = 200
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})


class ImageSize(NamedTuple):
    """In pixels."""

    width: int
    height: int


def size_of_data_url(url: str) -> ImageSize | None:
    """Return the size of the image in a ``data:`` URL; None where it is no such URL, or its format is not known."""
    comma = url.find(",", 0, _MAX_TYPE_CHARS)
    if not url.startswith("data:") or comma == -1:
        return None
    return size_of_base64(url[comma + 1 : comma + 1 + _HEAD_CHARS])


def size_of_base64(text: str) -> ImageSize | None:
    """Return the size of the image whose data, or the first part of them, are given in base64."""
    try:
        head = binascii.a2b_base64(text[: min(_HEAD_CHARS, len(text) // 4 * 4)].encode("ascii", "ignore"))
        size = _size(head)
    except (binascii.Error, IndexError):
        return None
    return size if size is not None and size.width > 0 < size.height else None


def _size(head: bytes) -> ImageSize | None:
    """Raises IndexError where the data end too early."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageSize(_big_endian(head, 16, 4), _big_endian(head, 20, 4))
    if head.startswith(b"GIF8"):
        return ImageSize(_little_endian(head, 6, 2), _little_endian(head, 8, 2))
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp_size(head)
    return _jpeg_size(head) if head.startswith(b"\xff\xd8") else None


def _webp_size(head: bytes) -> ImageSize | None:
    """https://developers.google.com/speed/webp/docs/riff_container"""
    kind = head[12:16]
    if kind == b"VP8X":
        return ImageSize(1 + _little_endian(head, 24, 3), 1 + _little_endian(head, 27, 3))
    if kind == b"VP8L":
        bits = _little_endian(head, 21, 4)
        return ImageSize(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"VP8 ":
        return ImageSize(_little_endian(head, 26, 2) & 0x3FFF, _little_endian(head, 28, 2) & 0x3FFF)
    return None


def _jpeg_size(head: bytes) -> ImageSize | None:
    at = 2
    while head[at] == 0xFF:
        marker = head[at + 1]
        if marker in _JPEG_SIZE_MARKERS:
            return ImageSize(_big_endian(head, at + 7, 2), _big_endian(head, at + 5, 2))
        if marker == 0xFF:
            at += 1
        else:
            at += 2 if marker in _JPEG_BARE_MARKERS else 2 + max(_big_endian(head, at + 2, 2), 2)
    return None


def _big_endian(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(_slice(data, at, size), "big")


def _little_endian(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(_slice(data, at, size), "little")


def _slice(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IndexError
    return data[at : at + size]
