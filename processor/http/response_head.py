"""Mends the head of a response that aiohttp's parser would refuse, and lowers the names of headers. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping

_CONTENT_LENGTH = re.compile(rb"(?i)\r\n(?:content-length:[^\r\n]*\r\n)+")


def without_length_beside_chunks(head: bytes) -> bytes | None:
    """The head of a response without its `Content-Length`, where it also says `Transfer-Encoding: chunked`; else None.

    The chunks count then, and the connection is not used again. aiohttp's parser refuses such a response.
    https://www.rfc-editor.org/rfc/rfc9112#section-6.3
    """
    lowered = head.lower()
    if b"\r\ntransfer-encoding:" not in lowered or b"\r\ncontent-length:" not in lowered:
        return None
    return _CONTENT_LENGTH.sub(b"\r\n", head)


def with_lower_names(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with their names in lower case. Of several with one name the last counts."""
    # ``items`` has all of them; ``keys`` has each name once since multidict 7.
    return {name.lower(): value for name, value in headers.items()}
