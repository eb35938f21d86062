"""Estimates the tokens of audio in requests and replies from its length.

OpenAI charges a token for each 100 ms that it hears and for each 50 ms that it speaks:
https://platform.openai.com/docs/guides/realtime-costs. The length follows from the amount of data and the format.
"""

from __future__ import annotations

import binascii
import math
from typing import Any

HEARD_TOKENS_PER_S = 10
SPOKEN_TOKENS_PER_S = 20
UNKNOWN_AUDIO_TOKENS = 300
"""Half a minute of speech, where there are no data."""

_BYTES_PER_S = {"wav": 48_000, "pcm16": 48_000, "pcm": 48_000, "flac": 24_000, "opus": 4_000, "ogg": 4_000}
"""At 24 kHz and 16 bits, uncompressed; usual bit rates for speech where compressed."""
_OTHER_BYTES_PER_S = 16_000
"""128 kbit/s: MP3 and AAC."""
_WAV_HEAD_CHARS = 60
_WAV_BYTES_PER_S = slice(28, 32)
"""Where the head of a WAV file says how many bytes a second has."""


def count_audio(audio: Any, tokens_per_s: int, audio_format: Any = None) -> int:
    """Count an object with base64 ``data`` and perhaps a ``format``."""
    data = audio.get("data") if isinstance(audio, dict) else None
    if not isinstance(data, str) or not data:
        return UNKNOWN_AUDIO_TOKENS
    size_bytes = len(data) * 3 // 4
    return math.ceil(size_bytes / _bytes_per_s(data, audio.get("format") or audio_format) * tokens_per_s)


def _bytes_per_s(data: str, audio_format: Any) -> int:
    try:
        head = binascii.a2b_base64(data[:_WAV_HEAD_CHARS].encode("ascii", "ignore"))
    except binascii.Error:
        head = b""
    if head[:4] == b"RIFF" and head[8:16] == b"WAVEfmt " and (rate := int.from_bytes(head[_WAV_BYTES_PER_S], "little")):
        return rate
    return _BYTES_PER_S.get(audio_format, _OTHER_BYTES_PER_S) if isinstance(audio_format, str) else _OTHER_BYTES_PER_S
