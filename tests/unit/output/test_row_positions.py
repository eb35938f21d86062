"""Row positions are found again by the keys of jobs, in few bytes."""

from __future__ import annotations

import sys
from random import Random

from processor.output.row_positions import RowPosition, RowPositions


def test_rows_are_found_from_the_latest_to_the_earliest() -> None:
    positions = RowPositions()
    rows = [RowPosition(False, 0), RowPosition(True, 1 << 46), RowPosition(False, (1 << 47) - 1)]
    for row in rows:
        positions.add(b"key-of-it", row)
    positions.add(b"KEY-of-it", RowPosition(False, 5))
    assert list(positions.find(b"key-of-it")) == rows[::-1]
    assert list(positions.find(b"another--")) == []


def test_every_row_of_many_is_found_and_hardly_any_of_another_job() -> None:
    random, positions = Random(1), RowPositions()
    keys = [random.randbytes(9) for _ in range(20_000)]
    for number, key in enumerate(keys):
        positions.add(key, RowPosition(False, number))
    found = [list(positions.find(key)) for key in keys]
    assert all(RowPosition(False, number) in found[number] for number in range(len(keys)))
    assert sum(map(len, found)) < len(keys) + 5


def test_a_row_of_a_million_takes_12_bytes_beside_the_18_of_the_job_index() -> None:
    """A chain then has 30 rows."""
    positions = RowPositions()
    for number in range(30):
        positions.add(b"ab" + bytes(7), RowPosition(False, number * 2000))
    (chain,) = (chain for chain in positions._chains if chain)
    assert (sys.getsizeof(chain) + 8) / 30 < 12
