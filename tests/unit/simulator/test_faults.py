from __future__ import annotations

from collections import Counter

import pytest

from processor.simulator.faults import FAILURES, NO_FAULTS, QUIRKS, Faults


def drawn(faults: Faults, seed: int, requests: int, tries: int = 0) -> Counter[str]:
    counts: Counter[str] = Counter()
    for number in range(requests):
        one = faults.draw(seed, b"request %d" % number, tries)
        counts.update(one.quirks)
        counts[one.failure or "none"] += 1
    return counts


def test_faults_occur_at_their_rates() -> None:
    counts = drawn(Faults.parse("all=0.05, cut=0.2"), 1, 20_000)
    for name in (*FAILURES, *QUIRKS):
        expected = 4000 if name == "cut" else 1000
        assert counts[name] == pytest.approx(expected, rel=0.15), name
    assert counts["none"] == pytest.approx(20_000 * 0.45, rel=0.05)


def test_same_attempt_of_the_same_request_draws_the_same_faults() -> None:
    faults = Faults.parse("all=0.1")
    first, again = (faults.draw(3, b"request", 2) for _ in range(2))
    assert (first.failure, first.quirks, first.rng.random()) == (again.failure, again.quirks, again.rng.random())


def test_other_attempt_request_or_seed_draws_other_faults() -> None:
    faults = Faults.parse("all=0.1")

    def failures(seed: int = 1, name: bytes = b"request", tries: int = 1) -> list[str | None]:
        return [faults.draw(seed + n * 7, name, tries).failure for n in range(20)]

    assert failures() != failures(tries=2)
    assert failures() != failures(name=b"another")
    assert failures() != failures(seed=2)


def test_without_rates_no_fault_is_drawn() -> None:
    assert Faults().draw(1, b"request", 0) is NO_FAULTS
    assert Faults.parse("").rates == {}


def test_fault_with_rate_one_always_occurs() -> None:
    assert drawn(Faults.parse("cut=1,crlf=1"), 0, 50) == {"cut": 50, "crlf": 50}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("cuts=0.1", "unknown fault 'cuts'"),
        ("cut", "name=rate"),
        ("cut=often", "name=rate"),
        ("cut=1.5", "between 0 and 1"),
        ("cut=-0.1", "between 0 and 1"),
        ("cut=nan", "between 0 and 1"),
        ("all=0.2", "add up to more than 1"),
    ],
)
def test_invalid_rates_raise_value_error(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Faults.parse(text)
