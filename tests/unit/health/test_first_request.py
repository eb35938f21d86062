"""The first request of a limit group: it is sent alone before the others may follow."""

from __future__ import annotations

from processor.health.first_request import FirstRequest

ALONE_S = 2.0


def test_other_requests_wait_for_at_most_the_timeout_after_the_first_one() -> None:
    first = FirstRequest(ALONE_S)
    first.start(10.0)
    first.start(11.0)
    assert first.alone_until(10.5) == 10.0 + ALONE_S
    assert first.alone_until(10.0 + ALONE_S) is None


def test_response_lets_all_others_follow() -> None:
    first = FirstRequest(ALONE_S)
    first.start(10.0)
    first.allow_all()
    first.start(11.0)
    assert first.alone_until(11.0) is None
