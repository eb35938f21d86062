from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from processor.ratelimit.fair_queue import FairQueue


@dataclass
class Entry:
    number: int
    is_done: bool = False


def served_order(queue: FairQueue[Entry]) -> list[int]:
    """Serve all entries. Returns their numbers in the order in which they were the head."""
    order = []
    while (entry := queue.head()) is not None:
        assert queue.head() is entry, "the head stays the head until it is done"
        order.append(entry.number)
        entry.is_done = True
    return order


def filled_queue(retries: list[bool]) -> tuple[FairQueue[Entry], list[Entry]]:
    queue: FairQueue[Entry] = FairQueue()
    entries = [Entry(number) for number in range(len(retries))]
    for entry, is_retry in zip(entries, retries, strict=True):
        queue.put(entry, is_retry=is_retry)
    return queue, entries


def test_entries_are_served_first_in_first_out() -> None:
    assert served_order(filled_queue([False] * 6)[0]) == [0, 1, 2, 3, 4, 5]


def test_retries_and_new_jobs_take_turns_while_both_wait() -> None:
    assert served_order(filled_queue([False, False, False, False, True, True])[0]) == [4, 0, 5, 1, 2, 3]


def test_later_retry_does_not_replace_the_head() -> None:
    queue, (new, *_) = filled_queue([False, False])
    assert queue.head() is new
    queue.put(Entry(2), is_retry=True)
    assert served_order(queue) == [0, 2, 1]


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.lists(st.tuples(st.integers(0, 11), st.booleans())))
def test_entry_that_stops_waiting_takes_no_turn_from_another(
    retries: list[bool], steps: list[tuple[int, bool]]
) -> None:
    queue, entries = filled_queue(retries)
    order, left = [], set()
    for number, is_served in steps:
        if is_served and (head := queue.head()) is not None:
            order.append(head.number)
            head.is_done = True
        elif number < len(entries) and not entries[number].is_done:
            entries[number].is_done = True
            left.add(number)
        assert queue.waiting == sum(not entry.is_done for entry in entries)
    order += served_order(queue)
    assert sorted([*order, *left]) == list(range(len(entries))), "each entry is served once, unless it left"
    for kind in (True, False):
        same = [number for number in order if retries[number] is kind]
        assert same == sorted(same), "first in, first out"
    assert queue.waiting == 0


@given(st.integers(1, 30), st.integers(1, 30))
def test_neither_retries_nor_new_jobs_starve(new: int, retries: int) -> None:
    order = served_order(filled_queue([False] * new + [True] * retries)[0])
    both = 2 * min(new, retries)
    assert all((order[at] >= new) != (order[at + 1] >= new) for at in range(both - 1))


def test_what_goes_first_overtakes_the_head_which_stays_the_next_of_its_kind() -> None:
    queue, (new, _, retry) = filled_queue([False, False, True])
    assert queue.head() is retry
    retry.is_done = True
    assert queue.head() is new
    queue.put(Entry(3), is_retry=True, goes_first=True)
    queue.put(Entry(4), is_retry=True)
    queue.put(Entry(5), is_retry=True, goes_first=True)
    assert queue.waiting == 5
    assert served_order(queue) == [3, 5, 0, 4, 1]
