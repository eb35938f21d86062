"""Builds tiktoken's encodings from the rank files in this package: without network, cache folder or environment.

Patterns and special tokens are those of ``tiktoken_ext/openai_public.py`` (MIT, see ``ranks/NOTICE``), whose own
functions would download the ranks. A test compares both.
"""

from __future__ import annotations

import lzma
import threading
from binascii import a2b_base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from processor.core.fast_dataclass import dataclass

if TYPE_CHECKING:
    from tiktoken import Encoding

RANKS_FOLDER = Path(__file__).with_name("ranks")

END_OF_TEXT = "<|endoftext|>"
END_OF_PROMPT = "<|endofprompt|>"

_R50K_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
_CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
_O200K_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# One build at a time: two threads that want the same encoding share it.
_LOAD_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingFile:
    """An encoding, and the file that holds its ranks.

    ``packed``: the name of the packed file, whose first ``size`` bytes are the rank file of this encoding. ``pattern``
    splits a text into the parts that are encoded one by one. ``special_tokens`` by name.
    """

    encoding: str
    packed: str
    size: int
    pattern: str
    special_tokens: dict[str, int]

    def unpack(self) -> bytes:
        """The rank file: a line for each token, its bytes in base64 and its rank."""
        return lzma.decompress((RANKS_FOLDER / f"{self.packed}.tiktoken.xz").read_bytes())[: self.size]

    def ranks(self) -> dict[bytes, int]:
        words = self.unpack().split()
        return dict(zip(map(a2b_base64, words[::2]), map(int, words[1::2]), strict=True))


ENCODING_FILES = {
    file.encoding: file
    for file in (
        EncodingFile(
            encoding="o200k_base",
            packed="o200k_base",
            size=3_613_922,
            pattern=_O200K_PATTERN,
            special_tokens={END_OF_TEXT: 199_999, END_OF_PROMPT: 200_018},
        ),
        EncodingFile(
            encoding="cl100k_base",
            packed="cl100k_base",
            size=1_681_126,
            pattern=_CL100K_PATTERN,
            special_tokens={
                END_OF_TEXT: 100_257,
                "<|fim_prefix|>": 100_258,
                "<|fim_middle|>": 100_259,
                "<|fim_suffix|>": 100_260,
                END_OF_PROMPT: 100_276,
            },
        ),
        EncodingFile(
            encoding="p50k_base",
            packed="p50k_base",
            size=836_186,
            pattern=_R50K_PATTERN,
            special_tokens={END_OF_TEXT: 50_256},
        ),
        # p50k_base only adds tokens, at the end of the file.
        EncodingFile(
            encoding="r50k_base",
            packed="p50k_base",
            size=835_554,
            pattern=_R50K_PATTERN,
            special_tokens={END_OF_TEXT: 50_256},
        ),
    )
}


def load(encoding: str) -> Encoding:
    """Builds one of ENCODING_FILES, once. The first call takes 0.1 to 0.4 s: make it in a thread."""
    with _LOAD_LOCK:
        return _build(encoding)


@cache
def _build(encoding: str) -> Encoding:
    from tiktoken import Encoding

    file = ENCODING_FILES[encoding]
    ranks = file.ranks()
    built = Encoding(encoding, pat_str=file.pattern, mergeable_ranks=ranks, special_tokens=dict(file.special_tokens))
    # tiktoken has copied them. It keeps the dictionary, of up to 25 MB, only for pickling an encoding.
    ranks.clear()
    return built
