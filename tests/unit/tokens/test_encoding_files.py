"""Encodings built from the packed rank files: those of tiktoken, without network and without traces."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.tokens import encoding_files
from processor.tokens.encoding_files import ENCODING_FILES, EncodingFile

SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "p50k_base": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    "r50k_base": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
}
"""The hashes of the rank files that tiktoken itself expects."""

TEXT = "Hello, world! I'll say: naïve café, 12345 Ünïcödé 你好 😀\r\n\n\tdef f(x):  return x**2   <|endoftext|>"
COUNTS = {"o200k_base": 39, "cl100k_base": 43, "p50k_base": 48, "r50k_base": 49}


@pytest.mark.parametrize("file", ENCODING_FILES.values(), ids=list(ENCODING_FILES))
def test_each_packed_file_has_the_size_and_hash_that_tiktoken_expects(file: EncodingFile) -> None:
    data = file.unpack()
    assert len(data) == file.size
    assert sha256(data).hexdigest() == SHA256[file.encoding]


@pytest.fixture(scope="module")
def tiktokens_own() -> Iterator[Callable[[str], dict[str, Any]]]:
    """Returns the arguments that the installed tiktoken builds an encoding with, read from the packed rank files."""
    from tiktoken_ext import openai_public

    hashes = {digest: name for name, digest in SHA256.items()}

    def packed_ranks(url: str, expected_hash: str) -> dict[bytes, int]:
        return ENCODING_FILES[hashes[expected_hash]].ranks()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", packed_ranks)
        yield lambda name: openai_public.ENCODING_CONSTRUCTORS[name]()


@pytest.mark.parametrize("name", ENCODING_FILES)
def test_pattern_and_special_tokens_are_those_of_the_installed_tiktoken(
    name: str, tiktokens_own: Callable[[str], dict[str, Any]]
) -> None:
    own = tiktokens_own(name)
    file = ENCODING_FILES[name]
    assert (own["pat_str"], own["special_tokens"]) == (file.pattern, file.special_tokens)
    built = encoding_files.load(name)
    assert (built.name, built.n_vocab) == (
        name,
        max(*own["mergeable_ranks"].values(), *file.special_tokens.values()) + 1,
    )


@pytest.mark.parametrize("name", ENCODING_FILES)
@given(text=st.text(max_size=200))
def test_texts_are_encoded_as_by_the_installed_tiktoken(
    name: str, tiktokens_own: Callable[[str], dict[str, Any]], text: str
) -> None:
    if name not in _REFERENCES:
        from tiktoken import Encoding

        _REFERENCES[name] = Encoding(**tiktokens_own(name))
    text = text.encode("utf-8", "replace").decode()
    assert encoding_files.load(name).encode_ordinary(text) == _REFERENCES[name].encode_ordinary(text)


_REFERENCES: dict[str, Any] = {}


@pytest.mark.parametrize("name", ENCODING_FILES)
def test_counts_stay_what_they_were(name: str) -> None:
    assert len(encoding_files.load(name).encode_ordinary(TEXT)) == COUNTS[name]


def test_known_tokens() -> None:
    assert encoding_files.load("r50k_base").encode_ordinary("hello world") == [31373, 995]


def test_concurrent_loads_build_one_encoding() -> None:
    encoding_files._build.cache_clear()
    loaded: list[object] = []
    threads = [threading.Thread(target=lambda: loaded.append(encoding_files.load("r50k_base"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 4
    assert len({id(encoding) for encoding in loaded}) == 1


def test_ranks_are_not_kept_beside_those_in_the_encoding() -> None:
    """In Python they take 100 bytes a token, which streams can use."""
    encoding_files._build.cache_clear()
    tracemalloc.start()
    try:
        encoding_files.load("r50k_base")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10 * 50_257


OFFLINE = """
import asyncio, os, socket, sys

def no_network(*args, **kwargs):
    raise SystemExit(f"the network was asked for: {args}")

socket.getaddrinfo = socket.create_connection = socket.socket.connect = no_network

from processor.tokens.counter import TokenCounter
assert "tiktoken" not in sys.modules

class Unchangeable(dict):
    def __setitem__(self, *args):
        raise SystemExit(f"the environment was changed: {args}")
    __delitem__ = __setitem__

os.environ = Unchangeable(os.environ)

async def main():
    counter = TokenCounter(None, asyncio.to_thread)
    for model in ("gpt-4o", "gpt-3.5-turbo", "text-davinci-003", "ada", "gpt2", "gpt-oss-20b", "nobody's"):
        await counter.load(model)
        assert counter.for_model(model).count_text("hello world") == 2, model

asyncio.run(main())
assert "requests" not in sys.modules
"""


@pytest.mark.process
def test_every_encoding_loads_without_network_home_or_a_change_of_the_environment(tmp_path: Path) -> None:
    environment = {
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "TIKTOKEN_CACHE_DIR": str(tmp_path / "cache"),
        "PATH": os.environ["PATH"],
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", OFFLINE], env=environment, cwd=root, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []
