"""Splitting chunks into lines: independent of the chunks, and with bounded memory."""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from processor.input.line_splitter import BYTE_ORDER_MARK, Line, LineSplitter, count_nonblank_lines

TEXTS = st.lists(st.sampled_from([b"a", b"{}", b"\n", b"\r\n", b"  ", b"\xef\xbb\xbf", b"\xff", b"long" * 9])).map(
    b"".join
)


def lines(*chunks: bytes, max_bytes: int = 1000) -> list[Line]:
    splitter = LineSplitter(max_bytes)
    found = [line for chunk in chunks for line in splitter.feed(chunk)]
    last = splitter.finish()
    return [*found, last] if last else found


def texts(*chunks: bytes) -> list[tuple[int, bytes | None]]:
    return [(line.number, line.data) for line in lines(*chunks)]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


@given(TEXTS, st.lists(st.integers(0, 500)), st.integers(1, 20))
def test_any_chunking_gives_the_same_lines(data: bytes, cuts: list[int], max_bytes: int) -> None:
    assert lines(*cut(data, cuts), max_bytes=max_bytes) == lines(data, max_bytes=max_bytes)


@given(TEXTS)
def test_lines_are_split_at_line_feeds_and_stripped(data: bytes) -> None:
    pieces = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert texts(data) == [(n, piece.strip()) for n, piece in enumerate(pieces, 1) if piece.strip()]


@given(TEXTS, st.lists(st.integers(3, 500)), st.integers(3, 50))
def test_line_count_equals_number_of_lines_read(data: bytes, cuts: list[int], max_bytes: int) -> None:
    first = data.split(b"\n")[0]
    assume(
        not first.startswith(BYTE_ORDER_MARK) or first.removeprefix(BYTE_ORDER_MARK).strip() or len(first) <= max_bytes
    )
    chunks = cut(data, [place for place in cuts if place % (len(data) + 1) >= 3])
    assert count_nonblank_lines(chunks) == len(lines(data, max_bytes=max_bytes))


def test_last_line_may_lack_its_line_feed() -> None:
    assert texts(b"one\ntwo") == [(1, b"one"), (2, b"two")]
    assert texts(b"one\ntwo\n") == [(1, b"one"), (2, b"two")]


def test_blank_lines_are_skipped_but_numbered() -> None:
    assert texts(b"\n\none\n \t \n\ntwo\n\n") == [(3, b"one"), (6, b"two")]


def test_windows_line_ends_are_removed() -> None:
    assert texts(b"one\r\n\r\ntwo\r\n") == [(1, b"one"), (3, b"two")]


def test_byte_order_mark_at_the_start_is_removed() -> None:
    assert texts(b"\xef\xbb\xbf{}\n") == [(1, b"{}")]
    assert texts(b"\xef", b"\xbb", b"\xbf{}\n") == [(1, b"{}")]
    assert texts(b"\xef\xbb\xbf\n{}\n") == [(2, b"{}")]
    assert texts(b"{}\n\xef\xbb\xbf{}") == [(1, b"{}"), (2, b"\xef\xbb\xbf{}")]


def test_empty_file_has_no_lines() -> None:
    assert texts() == texts(b"") == texts(b"\n\n") == texts(b"\xef\xbb\xbf") == []


def test_line_of_exactly_the_maximum_length_is_kept() -> None:
    assert lines(b"12345\n", max_bytes=5) == [Line(1, b"12345")]
    assert lines(b"123456\n", max_bytes=5)[0].data is None


def test_overlong_line_has_digest_and_size_instead_of_data() -> None:
    long = b"x" * 100
    digest = blake2b(long, digest_size=16).hexdigest()
    found = lines(b"a\n" + long[:40], long[40:] + b"\nb\n", max_bytes=10)
    assert found == [Line(1, b"a"), Line(2, None, digest, 100, long), Line(3, b"b")]


def test_overlong_last_line_without_line_feed_is_returned() -> None:
    (line,) = lines(b"x" * 11, max_bytes=10)
    assert (line.number, line.data, line.size) == (1, None, 11)


def test_overlong_blank_line_is_blank() -> None:
    assert lines(b" " * 50, b" " * 50 + b"\nb", max_bytes=10) == [Line(2, b"b")]


def test_overlong_line_is_not_kept_in_memory() -> None:
    splitter = LineSplitter(1000)
    for _ in range(100):
        splitter.feed(b"x" * 600)
        assert len(splitter._tail) <= 1000
    assert splitter.finish() is not None
    assert splitter.finish() is None
