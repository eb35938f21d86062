"""The size of images, and how many tokens they count by the rule of each model family."""

from __future__ import annotations

import base64
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.tokens.image_size import size_of_base64, size_of_data_url
from processor.tokens.images import count_image


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\0\0\0"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + pack("<HH", width, height) + b"\xf7\0\0"


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + pack(">H", len(content) + 2) + content


def jpeg(width: int, height: int, *, preview: int = 0, frame: int = 0xC0) -> bytes:
    """An image with a preview of so many bytes, which holds a size of its own."""
    inner = pack(">BHHB", 8, 11, 13, 3) + bytes(9)
    head = b"\xff\xd8" + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
    if preview:
        head += segment(0xE1, (b"Exif\0\0\xff\xd8" + segment(0xC0, inner)).ljust(preview, b"\0"))
    return head + b"\xff" + segment(0xC4, bytes(20)) + segment(frame, pack(">BHHB", 8, height, width, 3) + bytes(9))


def webp(kind: bytes, content: bytes) -> bytes:
    return b"RIFF" + pack("<I", 100) + b"WEBP" + kind + pack("<I", len(content)) + content


def webp_lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", b"\x30\x01\0\x9d\x01\x2a" + pack("<HH", width | 0x4000, height))


def webp_lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + pack("<I", (width - 1) | (height - 1) << 14 | 1 << 28))


def webp_extended(width: int, height: int) -> bytes:
    return webp(b"VP8X", bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"))


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def image(width: int, height: int, detail: str | None = "high") -> dict[str, Any]:
    return {"url": data_url(png(width, height))} | ({"detail": detail} if detail else {})


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("size", [(640, 480), (1, 1), (4000, 3000), (1023, 16000)])
@pytest.mark.parametrize("make", [png, gif, jpeg, webp_lossy, webp_lossless, webp_extended])
def test_size_is_read_from_the_head_of_an_image(make: Any, size: tuple[int, int]) -> None:
    assert size_of_data_url(data_url(make(*size) + bytes(300_000))) == size
    assert size_of_base64(base64.b64encode(make(*size)).decode()) == size


@pytest.mark.parametrize("frame", [0xC1, 0xC2, 0xCF])
def test_size_of_a_jpeg_is_not_that_of_its_preview(frame: int) -> None:
    assert size_of_data_url(data_url(jpeg(640, 480, preview=60_000, frame=frame))) == (640, 480)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "data:image/png;base64,",
        "data:image/png;base64",
        "data:image/png;base64,%%%%",
        "data:,é",
        data_url(png(640, 480)[:20]),
        data_url(png(0, 480)),
        data_url(b"\xff\xd8\xff"),
        data_url(b"\xff\xd8\xff\xda\0\2rest"),
        data_url(b"RIFF\0\0\0\0WEBPVP9 "),
        data_url(b"BM\0\0\0\0"),
        "",
    ],
)
def test_size_of_anything_else_is_not_known(url: str) -> None:
    assert size_of_data_url(url) is None


@given(st.sampled_from([png, gif, jpeg, webp_lossy, webp_lossless, webp_extended]), st.integers(0, 60), st.binary())
def test_broken_image_has_a_size_or_none(make: Any, place: int, noise: bytes) -> None:
    size = size_of_data_url(data_url(make(640, 480)[:place] + noise))
    assert size is None or (size.width > 0 and size.height > 0)


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("gpt-4o", (1024, 1024), 765),
        ("gpt-4o", (2048, 4096), 1105),
        ("gpt-4o", (4096, 2048), 1105),
        ("gpt-4o", (512, 512), 255),
        ("gpt-4o", (513, 512), 425),
        ("gpt-4o", (128, 64), 255),
        ("gpt-4o", (2000, 1500), 765),
        ("gpt-4o-2024-08-06", (1920, 1080), 1105),
        ("gpt-4o-mini", (512, 512), 8500),
        ("gpt-4.1", (1800, 2400), 765),
        ("gpt-4-turbo-2024-04-09", (128, 64), 255),
        ("o3-2025-04-16", (128, 64), 225),
        ("gpt-4.1-mini", (128, 64), 13),
        ("gpt-4.1-nano", (128, 64), 20),
        ("o4-mini", (128, 64), 14),
        ("gpt-4.1-mini", (1024, 1024), 1659),
        ("gpt-4.1-mini", (2048, 768), 2489),
    ],
)
def test_image_of_known_size_is_counted_exactly_where_the_rule_is_confirmed(
    model: str, size: tuple[int, int], tokens: int
) -> None:
    counted = count_image(image(*size), model)
    assert (counted.tokens, counted.is_exact) == (tokens, True)


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("gpt-5", (1024, 1024), 630),
        ("gpt-5.1-chat", (512, 512), 210),
        ("gpt-5.4", (1024, 1024), 1229),
        ("gpt-5-mini", (256, 256), 104),
        ("o1", (1024, 1024), 675),
        ("gpt-4.1-mini", (1800, 2400), 2489),
        ("claude-sonnet-4-5", (1000, 750), 1000),
        ("claude-3-haiku", (4000, 3000), 1600),
        ("gemini-2.5-flash", (384, 200), 258),
        ("gemini-2.5-flash", (1536, 768), 516),
        ("qwen2.5-vl", (1024, 1024), 765),
        ("", (1024, 1024), 765),
    ],
)
def test_image_is_an_estimate_where_the_rule_is_not_confirmed(model: str, size: tuple[int, int], tokens: int) -> None:
    counted = count_image(image(*size), model)
    assert (counted.tokens, counted.is_exact) == (tokens, False)


@pytest.mark.parametrize(
    ("model", "tokens", "is_exact"),
    [("gpt-4o", 85, True), ("gpt-4o-mini", 2833, True), ("o3", 75, True), ("gpt-5", 70, False), ("llama", 85, False)],
)
def test_low_detail_of_a_model_that_sees_tiles_is_the_base_for_any_size(
    model: str, tokens: int, is_exact: bool
) -> None:
    for given_image in (image(4096, 8192, "low"), {"url": "https://example.com/a.png", "detail": "low"}):
        counted = count_image(given_image, model)
        assert (counted.tokens, counted.is_exact) == (tokens, is_exact)


@pytest.mark.parametrize("detail", [None, "auto", "original", 5])
def test_detail_that_the_model_chooses_is_counted_as_high_and_an_estimate(detail: Any) -> None:
    counted = count_image({"url": data_url(png(512, 512)), "detail": detail}, "gpt-4o")
    assert (counted.tokens, counted.is_exact) == (255, False)


@pytest.mark.parametrize(
    ("given_image", "model", "tokens"),
    [
        ({"url": "https://example.com/a.png", "detail": "high"}, "gpt-4o", 765),
        ("https://example.com/a.png", "gpt-4o-mini", 25501),
        ({"url": "https://example.com/a.png"}, "gpt-4.1-mini", 1659),
        ({"url": 5}, "gpt-4o", 765),
        (None, "gpt-4o", 765),
        ([], "gpt-4o", 765),
    ],
)
def test_image_of_unknown_size_counts_as_one_of_usual_size(given_image: Any, model: str, tokens: int) -> None:
    counted = count_image(given_image, model)
    assert (counted.tokens, counted.is_exact) == (tokens, False)


@given(st.integers(1, 30_000), st.integers(1, 30_000), st.sampled_from(["gpt-4o", "gpt-4.1-mini", "gemini", "claude"]))
def test_count_does_not_depend_on_how_an_image_is_turned(width: int, height: int, model: str) -> None:
    assert count_image(image(width, height), model) == count_image(image(height, width), model)
    assert count_image(image(width, height), model).tokens > 0
