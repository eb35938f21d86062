"""Compressed bodies: what is announced, what was really done, and bodies that expand without end."""

from __future__ import annotations

import gzip
import importlib
import tracemalloc
import zlib
from typing import Any

import pytest

from processor.core.compression import ZSTD_MODULE
from processor.core.errors import ProtocolError, RequestError, StreamTruncated
from processor.http import content_coding
from processor.http.content_coding import PIECE_BYTES, ContentDecoder, accepted_codings, can_be_decoded, codings_in
from tests.support.packages import package

pytestmark = pytest.mark.sampled

TEXT = b"".join(b'data: {"choices": [{"delta": {"content": "%d"}}]}\n\n' % number for number in range(2500))


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def decoded(header: str, data: bytes, size: int = 1 << 20) -> bytes:
    """The body of a response with this `Content-Encoding` that comes ``size`` bytes at a time."""
    decoder, pieces = ContentDecoder(codings_in(header)), []
    for start in range(0, len(data), size):
        decoder.put(data[start : start + size])
        while piece := decoder.next_piece():
            pieces.append(piece)
    return b"".join((*pieces, *decoder.finish()))


CASES: dict[str, tuple[str, bytes, bytes]] = {
    "gzip": ("gzip", gzip.compress(TEXT), TEXT),
    "x-gzip": (" X-GZIP", gzip.compress(TEXT), TEXT),
    "members": ("gzip", b"".join(gzip.compress(TEXT[start : start + 99]) for start in range(0, 9900, 99)), TEXT[:9900]),
    "padding": ("gzip", gzip.compress(TEXT) + bytes(20), TEXT),
    "deflate": ("deflate", zlib.compress(TEXT), TEXT),
    "raw deflate": ("deflate", raw_deflate(TEXT), TEXT),
    "gzip as deflate": ("deflate", gzip.compress(TEXT), TEXT),
    "deflate as gzip": ("gzip", zlib.compress(TEXT), TEXT),
    "twice": ("gzip, deflate", zlib.compress(gzip.compress(TEXT)), TEXT),
    "twice, once done": ("gzip, gzip", gzip.compress(TEXT), TEXT),
    "identity": ("identity, gzip", gzip.compress(TEXT), TEXT),
    "plain": ("gzip", TEXT, TEXT),
    "plain deflate": ("deflate", b'{"a": 1}', b'{"a": 1}'),
    "plain short": ("gzip", b"{}", b"{}"),
    "plain with mark": ("gzip", b"\xef\xbb\xbf" + TEXT, b"\xef\xbb\xbf" + TEXT),
    "empty": ("gzip", b"", b""),
    "empty gzip": ("gzip", gzip.compress(b""), b""),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", CASES)
def test_body_is_decoded_as_it_was_coded_whatever_was_announced(name: str, size: int) -> None:
    header, data, expected = CASES[name]
    assert decoded(header, data, size) == expected


@pytest.mark.parametrize(("coding", "module"), [("br", "brotli"), ("zstd", ZSTD_MODULE)])
def test_optional_codings_are_decoded_where_a_decoder_is_installed(coding: str, module: str) -> None:
    compress = package(module).compress
    coded = compress(TEXT)
    for size in (1, 1000, 1 << 20):
        assert decoded(coding, coded, size) == TEXT
    assert decoded(coding, TEXT) == TEXT
    assert decoded(f"gzip, {coding}", compress(gzip.compress(TEXT))) == TEXT
    with pytest.raises(RequestError):
        decoded(coding, coded[:-5])


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_missing_decoder_is_named_with_the_remedy(coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert decoded(coding, TEXT) == TEXT, "announced, and not done"
    with pytest.raises(ProtocolError, match=f"compressed with {coding}.* no decoder is installed .pip install"):
        decoded(coding, b"\x0b\x02\x80" + bytes(20))


class OldBrotli:
    """The interface of its versions before 1.2."""

    error = ValueError

    class Decompressor:
        def process(self, data: bytes) -> bytes:
            return data


@pytest.mark.parametrize("is_installed", [False, True])
def test_only_codings_that_can_be_decoded_are_asked_for(is_installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Any:
        if is_installed and name == "brotli":
            return OldBrotli
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", find)
    assert accepted_codings.__wrapped__() == "gzip, deflate"
    with pytest.raises(ProtocolError, match=r"no decoder is installed .pip install 'Brotli>=1.2'"):
        decoded("br", b"\x0b\x02\x80" + bytes(20))


def test_codings_that_are_asked_for_can_be_decoded() -> None:
    assert all(map(can_be_decoded, accepted_codings().split(", ")))


@pytest.mark.parametrize("header", ["compress", "zip", "gzip, sdch", ", ".join(["gzip"] * 5)])
def test_unknown_and_endless_codings_are_refused(header: str) -> None:
    with pytest.raises(ProtocolError, match="compressed"):
        decoded(header, b"\x1f\x9d" + bytes(20))


@pytest.mark.parametrize("cut", [9, 10, 100, 1000, -1, -8])
def test_compressed_body_that_is_cut_off_is_truncated(cut: int) -> None:
    with pytest.raises(StreamTruncated, match="cut off"):
        decoded("gzip", gzip.compress(TEXT)[:cut])


def test_damaged_body_is_a_protocol_error() -> None:
    data = bytearray(gzip.compress(TEXT))
    data[50:90] = bytes(40)
    with pytest.raises(ProtocolError, match="decompressed"):
        decoded("gzip", bytes(data))


@pytest.mark.parametrize("times", [1, 2])
def test_expansion_is_bounded_however_far_a_body_expands(times: int) -> None:
    data = bytes(20 * 2**20)
    for _ in range(times):
        data = gzip.compress(data, 6)
    decoder = ContentDecoder(("gzip",) * times)
    tracemalloc.start()
    decoder.put(data)
    total = 0
    while piece := decoder.next_piece():
        assert len(piece) <= PIECE_BYTES
        total += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 20 * 2**20
    assert peak < 2**20
    assert content_coding.PIECE_BYTES == 65_536
