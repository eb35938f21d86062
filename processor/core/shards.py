"""Divides jobs into parts of about the same size, each of which a run of its own can send."""

from __future__ import annotations

from processor.core.errors import ConfigError
from processor.core.fast_dataclass import dataclass
from processor.core.job_keys import job_key
from processor.core.text import setting_name

MAX_SHARDS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of ``count`` parts of the jobs. Which part a job falls into depends on its name and ``count`` alone, on all
    machines and in all versions of this program."""

    number: int
    """From 1."""
    count: int

    def holds(self, name: str) -> bool:
        """Whether the job falls into this part. ``name``: its id; without one its fingerprint, without a ``-2``."""
        return int.from_bytes(job_key(name)) % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Return the part that ``K/N`` names. Raises ConfigError."""
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) <= MAX_SHARDS:
        return Shard(number=int(number), count=int(count))
    raise ConfigError(
        f"{setting_name('shard')} must be K/N with K from 1 to N, for example 1/4 for the first of four, not {text}"
    )
