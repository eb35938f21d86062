"""Which batches may be submitted, by the provider's limits and by the room that is learned from refusals."""

from __future__ import annotations

from processor.batch.sizes import BatchLimits, BatchSize, EnqueuedRoom

LIMITS = BatchLimits(jobs=2, bytes=100, inputs=10)


def test_batch_is_allowed_up_to_each_limit() -> None:
    size = BatchSize(jobs=2, bytes=100, tokens=7, inputs=10)
    assert LIMITS.allow(size, 7)
    for further in (BatchSize(jobs=1), BatchSize(bytes=1), BatchSize(inputs=1), BatchSize(tokens=1)):
        assert not LIMITS.allow(size + further, 7)
    assert LIMITS.allow(size + BatchSize(tokens=1), None)


def test_room_is_unlimited_until_a_refusal() -> None:
    room = EnqueuedRoom(None)
    assert room.limit("m") is None
    assert room.has_room("m", 10**9, 10**9)


def test_refusal_beside_other_batches_leaves_what_was_enqueued() -> None:
    room = EnqueuedRoom(None)
    assert room.refused("m", 500, BatchSize(jobs=3, tokens=300))
    assert not room.has_room("m", 500, 1)
    assert room.has_room("m", 200, 300)
    assert room.has_room("other", 500, 300)


def test_refusal_of_a_batch_alone_halves_the_next_until_one_job_is_too_much() -> None:
    room = EnqueuedRoom(None)
    assert room.refused("m", 0, BatchSize(jobs=3, tokens=100))
    assert room.limit("m") == 50
    assert room.has_room("m", 0, 60)  # alone it is always tried
    assert not room.refused("m", 0, BatchSize(jobs=1, tokens=50))


def test_configured_limit_counts_from_the_start() -> None:
    room = EnqueuedRoom(100)
    assert room.has_room("m", 60, 40)
    assert not room.has_room("m", 60, 41)
    room.refused("m", 0, BatchSize(jobs=3, tokens=60))
    assert room.limit("m") == 30
