"""Messages are taken in groups, by time: soon after the first one, and not too often."""

from __future__ import annotations

import asyncio

import pytest

from processor.cluster.grouping import FIRST_MESSAGE_WAITS_S, MessageGroups, group_interval_s
from processor.simulator.virtual_clock import run


async def groups_of(messages_at: list[float], *, interval_s: float, until_s: float) -> list[tuple[float, int]]:
    """When groups were taken, and how many messages they had."""
    loop = asyncio.get_running_loop()
    groups: MessageGroups[float] = MessageGroups(interval_s)
    for at in messages_at:
        loop.call_at(at, groups.add, at)
    taken = []
    while loop.time() < until_s:
        if group := await groups.take(within_s=until_s - loop.time()):
            taken.append((loop.time(), len(group)))
    return taken


def test_first_message_waits_a_moment_for_others() -> None:
    taken = run(groups_of([1.0, 1.001, 1.004, 2.0], interval_s=0.02, until_s=3.0))
    assert [count for _, count in taken] == [3, 1]
    assert [at for at, _ in taken] == pytest.approx(
        [1.0 + FIRST_MESSAGE_WAITS_S, 2.0 + FIRST_MESSAGE_WAITS_S], abs=1e-4
    )


@pytest.mark.parametrize(("workers", "most_a_second"), [(1, 50), (2, 50), (4, 25), (100, 20)])
def test_groups_are_no_more_than_the_interval_allows(workers: int, most_a_second: int) -> None:
    messages = [number / 1000 for number in range(2000)]
    taken = run(groups_of(messages, interval_s=group_interval_s(workers), until_s=3.0))
    assert sum(count for _, count in taken) == 2000
    assert 0.9 * 2 * most_a_second < len(taken) <= 2 * most_a_second + 1


def test_no_message_gives_no_group_in_time() -> None:
    assert run(groups_of([], interval_s=0.02, until_s=1.0)) == []
