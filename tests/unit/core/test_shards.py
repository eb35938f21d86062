"""Jobs are divided into shards by their names alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import ConfigError
from processor.core.shards import Shard, parse_shard


@given(st.text(), st.integers(1, 50))
def test_every_name_falls_into_exactly_one_shard(name: str, count: int) -> None:
    assert sum(Shard(number=number, count=count).holds(name) for number in range(1, count + 1)) == 1


def test_shards_are_of_about_the_same_size() -> None:
    sizes = Counter(
        number for job in range(8000) for number in range(1, 9) if Shard(number=number, count=8).holds(f"job-{job}")
    )
    assert all(850 < size < 1150 for size in sizes.values())


def test_names_keep_their_shards_in_later_versions() -> None:
    """Runs of several versions may share the jobs of one file."""
    shards = [Shard(number=number, count=7) for number in range(1, 8)]
    numbers = {name: next(shard.number for shard in shards if shard.holds(name)) for name in ("", "a", "é", "1")}
    assert numbers == {"": 4, "a": 4, "é": 6, "1": 6}


def test_shard_is_parsed_as_it_is_written() -> None:
    assert parse_shard("2/5") == Shard(number=2, count=5)
    assert str(parse_shard("2/5")) == "2/5"
    with pytest.raises(ConfigError, match="not 6/5"):
        parse_shard("6/5")
