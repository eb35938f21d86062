"""Counts the tokens of an image in a request, by the rule of the model's family.

OpenAI publishes two rules: https://platform.openai.com/docs/guides/images-vision#calculating-costs. A model that sees
**tiles** is charged a base and so much for each tile of 512 pixels, one that sees **patches** for each patch of 32
pixels. Google and Anthropic publish rules for their own APIs: https://ai.google.dev/gemini-api/docs/tokens and
https://docs.anthropic.com/en/docs/build-with-claude/vision.
"""

from __future__ import annotations

import math
from typing import Any

from processor.core.fast_dataclass import dataclass
from processor.tokens.image_size import ImageSize, size_of_base64, size_of_data_url

_USUAL_SIZE = ImageSize(1024, 1024)
"""Assumed where the size is not known, as for an image behind a URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTokens:
    tokens: int
    is_exact: bool
    """The rule is published, replies confirm it, and all that it needs is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Scaled to fit 2048 x 2048, then to a short side of 768. Low detail: the base alone."""

    base: int
    tile: int
    is_confirmed: bool = True

    def count(self, size: ImageSize | None, detail: Any) -> ImageTokens:
        if detail == "low":
            return ImageTokens(tokens=self.base, is_exact=self.is_confirmed)
        width, height = size or _USUAL_SIZE
        scale = min(1.0, 2048 / max(width, height))
        scale *= min(1.0, 768 / (min(width, height) * scale))
        tiles = _parts(width * scale, 512) * _parts(height * scale, 512)
        is_exact = self.is_confirmed and size is not None and detail == "high"
        return ImageTokens(tokens=self.base + tiles * self.tile, is_exact=is_exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patches:
    """Scaled down to ``most`` patches at most; each counts as ``multiplier`` tokens. The detail plays no part."""

    multiplier: float
    is_confirmed: bool = True
    most: int = 1536

    def count(self, size: ImageSize | None, detail: Any) -> ImageTokens:
        width, height = size or _USUAL_SIZE
        patches = _parts(width, 32) * _parts(height, 32)
        # How a larger image is rounded after scaling is published, but replies differ from it.
        is_exact = self.is_confirmed and size is not None and patches <= self.most
        return ImageTokens(tokens=math.ceil(min(patches, self.most) * self.multiplier), is_exact=is_exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """So many pixels a token, after scaling to a long side of ``longest`` pixels; ``most`` tokens at most."""

    pixels: int
    longest: int
    most: int

    def count(self, size: ImageSize | None, detail: Any) -> ImageTokens:
        width, height = size or _USUAL_SIZE
        scale = min(1.0, self.longest / max(width, height))
        tokens = math.ceil(width * scale * height * scale / self.pixels)
        return ImageTokens(tokens=min(tokens, self.most), is_exact=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """``tokens`` for a small image, and for each crop of 768 pixels of a larger one."""

    tokens: int = 258
    small: int = 384

    def count(self, size: ImageSize | None, detail: Any) -> ImageTokens:
        width, height = size or _USUAL_SIZE
        is_small = max(width, height) <= self.small
        crops = 1 if is_small else _parts(width, 768) * _parts(height, 768)
        return ImageTokens(tokens=crops * self.tokens, is_exact=False)


_RULES: dict[str, Tiles | Patches | Area | Crops] = {
    "gpt-4o-mini": Tiles(base=2833, tile=5667),
    "gpt-4o": Tiles(base=85, tile=170),
    "chatgpt-4o": Tiles(base=85, tile=170),
    "gpt-4-turbo": Tiles(base=85, tile=170),
    "gpt-4.1-mini": Patches(multiplier=1.62),
    "gpt-4.1-nano": Patches(multiplier=2.46),
    "gpt-4.1": Tiles(base=85, tile=170),
    "gpt-4.5": Tiles(base=85, tile=170),
    "o1": Tiles(base=75, tile=150, is_confirmed=False),
    "o3": Tiles(base=75, tile=150),
    "o4-mini": Patches(multiplier=1.72),
    "gpt-5-mini": Patches(multiplier=1.62, is_confirmed=False),
    "gpt-5-nano": Patches(multiplier=2.46, is_confirmed=False),
    "gpt-5.1": Tiles(base=70, tile=140, is_confirmed=False),
    "gpt-5.": Patches(multiplier=1.2, is_confirmed=False),
    "gpt-5": Tiles(base=70, tile=140, is_confirmed=False),
    "computer-use-preview": Tiles(base=65, tile=129, is_confirmed=False),
    "claude": Area(pixels=750, longest=1568, most=1600),
    "gemini": Crops(),
}
"""By the beginning of the model's name: the first that fits holds."""
_UNKNOWN_MODEL = Tiles(base=85, tile=170, is_confirmed=False)


def count_image(image: Any, base_model: str) -> ImageTokens:
    """Count an image as it stands in a request: a URL, an object with a ``url`` and a ``detail``, or with ``data``."""
    rule = next((rule for name, rule in _RULES.items() if base_model.startswith(name)), _UNKNOWN_MODEL)
    fields = image if isinstance(image, dict) else {"url": image}
    return rule.count(_size_of(fields), fields.get("detail"))


def _size_of(image: dict[str, Any]) -> ImageSize | None:
    url, data = image.get("url"), image.get("data")
    if isinstance(url, str):
        return size_of_data_url(url)
    return size_of_base64(data) if isinstance(data, str) else None


def _parts(length: float, part: int) -> int:
    """How many parts cover a length. Scaling leaves a residue of floating point, which is no pixel."""
    return max(math.ceil(int(length + 1e-6) / part), 1)
