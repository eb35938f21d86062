"""The limit, used to the last percent, and never exceeded: judged by the referee, not by the client."""

from __future__ import annotations

from itertools import pairwise

import pytest
from limits_campaign import Campaign, campaign, even_s, mixed

from processor.events import Notice
from processor.limits.settings import LaneLimits
from processor.simulator.limits import Kind, Referee

HONEST: tuple[Kind, ...] = ("sliding", "minute", "second")
BOUNDS = ("requests", "tokens", "huge")


def least_s(asked: Campaign) -> float:
    """The promise: 1.02 times what the limit allows, 3 s, and one header's latency (they come 25 % early or late)."""
    return 1.02 * asked.referee.ideal_s(asked.costs) + 3 + 1.25 * asked.header_s


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("header_s", [0.2, 2.0])
@pytest.mark.parametrize("kind", HONEST)
def test_the_limit_is_used_to_the_last_percent_without_a_refusal(kind: Kind, header_s: float, bound: str) -> None:
    asked = campaign(300, kind, bound, header_s=header_s)
    told = asked.play()
    assert told.refused == 0
    assert told.last_at <= least_s(asked)


@pytest.mark.parametrize("bound", ["requests", "tokens"])
@pytest.mark.parametrize("kind", HONEST)
def test_late_headers_cost_no_refusal_and_it_is_never_slower_than_even_pacing(kind: Kind, bound: str) -> None:
    asked = campaign(300, kind, bound, header_s=15.0)
    told = asked.play()
    assert told.refused == 0
    assert told.last_at <= max(even_s(asked) * 1.005, least_s(asked))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("header_s", [0.2, 2.0, 15.0])
def test_a_server_that_promises_more_than_it_grants_refuses_one_in_a_hundred_at_most(
    header_s: float, bound: str
) -> None:
    asked = campaign(300, "quantised", bound, header_s=header_s)
    told = asked.play()
    assert told.refused <= 0.01 * told.attempts
    assert told.last_at <= least_s(asked)


@pytest.mark.parametrize("bound", ["requests", "tokens"])
@pytest.mark.parametrize("kind", ["sliding", "minute"])
def test_sixty_a_minute_are_used_too(kind: Kind, bound: str) -> None:
    asked = campaign(60, kind, bound, header_s=0.2)
    told = asked.play()
    assert told.refused == 0
    assert told.last_at <= least_s(asked)


@pytest.mark.parametrize("bound", ["requests", "tokens"])
def test_a_bucket_of_one_request_that_may_arrive_late_is_never_asked_too_soon(bound: str) -> None:
    """Refilled once a second and full with one: 100 ms of jitter cost a tenth, for any client without refusals."""
    asked = campaign(60, "second", bound, header_s=0.2)
    told = asked.play()
    assert told.refused == 0
    assert told.last_at <= 1.12 * asked.referee.ideal_s(asked.costs)


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["requests", "tokens"])
@pytest.mark.parametrize("header_s", [0.2, 2.0])
@pytest.mark.parametrize("kind", HONEST)
def test_three_thousand_a_minute_are_used_too(kind: Kind, header_s: float, bound: str) -> None:
    asked = campaign(3000, kind, bound, header_s=header_s)
    told = asked.play()
    assert told.refused == 0
    assert told.last_at <= least_s(asked)


@pytest.mark.parametrize("kind", HONEST)
def test_limits_that_nobody_configured_are_learned(kind: Kind) -> None:
    asked = campaign(300, kind, "requests", header_s=0.2, known=False)
    told = asked.play()
    assert told.refused == 0
    assert told.last_at <= least_s(asked)


@pytest.mark.parametrize("bound", ["requests", "tokens"])
def test_where_the_server_says_nothing_no_window_holds_more_and_nearly_all_is_used(bound: str) -> None:
    asked = campaign(300, "silent", bound, header_s=0.2, minutes=20)
    told = asked.play()
    assert told.refused == 0
    assert told.last_at <= even_s(asked) / 0.99


@pytest.mark.parametrize("kind", ["sliding", "minute", "second"])
def test_eighteen_hundred_jobs_at_six_hundred_a_minute(kind: Kind) -> None:
    told = Campaign(referee=Referee(600, None, kind=kind), costs=[1] * 1800, limits=LaneLimits(rpm=600)).play()
    assert told.refused == 0
    if kind == "sliding":
        assert told.referee.log.fullest_window("requests") <= 600


@pytest.mark.parametrize("kind", ["sliding", "minute"])
def test_a_limit_below_the_servers_is_a_ceiling_without_bursts(kind: Kind) -> None:
    asked = Campaign(referee=Referee(1000, None, kind=kind), costs=[1] * 1500, limits=LaneLimits(rpm=300))
    told = asked.play()
    assert told.refused == 0
    assert told.referee.log.fullest_window("requests") <= 300
    assert told.referee.log.fullest_window("requests", 1.0) <= 7
    assert told.last_at <= 1.01 * even_s(asked)


def test_a_limit_above_the_servers_gives_way_with_one_notice() -> None:
    asked = Campaign(referee=Referee(300, None, kind="minute"), costs=[1] * 1500, limits=LaneLimits(rpm=900))
    told = asked.play()
    assert told.refused <= 0.01 * told.attempts
    assert len([event for event in told.events if isinstance(event, Notice)]) == 1


@pytest.mark.parametrize("kind", HONEST)
def test_another_program_that_takes_half_is_made_room_for_within_two_windows(kind: Kind) -> None:
    others = [(n * 0.4, 1) for n in range(1500)]
    asked = campaign(300, kind, "requests", header_s=0.2)
    asked.others = others
    told = asked.play()
    assert told.refused < 0.01 * told.attempts
    assert told.rate(120, 400) >= 0.85 * 150


@pytest.mark.parametrize("kind", HONEST)
def test_a_limit_that_is_halved_in_the_middle_is_kept(kind: Kind) -> None:
    asked = campaign(300, kind, "requests", header_s=0.2)
    asked.at = [(100.0, lambda referee: referee.set_limits(100.0, rpm=150))]
    told = asked.play()
    assert told.refused < 0.01 * told.attempts
    assert told.rate(220, 400) >= 0.9 * 150


def test_a_limit_that_is_doubled_in_the_middle_is_used() -> None:
    asked = campaign(300, "minute", "requests", header_s=0.2, minutes=8, known=False)
    asked.at = [(100.0, lambda referee: referee.set_limits(100.0, rpm=600))]
    told = asked.play()
    assert told.refused < 0.01 * told.attempts
    assert told.rate(160, 220) >= 0.9 * 600


@pytest.mark.parametrize("charged", [0.6, 1.3])
def test_what_the_server_really_charges_is_learned(charged: float) -> None:
    asked = campaign(300, "minute", "tokens", header_s=0.2)
    asked.charged = charged
    told = asked.play()
    assert told.refused <= 0.01 * told.attempts
    ideal_s = asked.referee.ideal_s([round(cost * charged) for cost in asked.costs])
    assert told.last_at <= 1.1 * ideal_s + 5


def test_first_in_is_first_out_whatever_the_sizes() -> None:
    asked = Campaign(referee=Referee(None, 45_000), costs=mixed(600, huge_up_to=22_000), limits=LaneLimits(tpm=45_000))
    told = asked.play()
    assert told.refused == 0
    assert all(one < other for one, other in pairwise(told.admitted_order))


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "azure"])
def test_every_dialect_of_headers_is_understood(dialect: str) -> None:
    asked = campaign(300, "minute", "requests", header_s=0.2, known=False, minutes=3)
    asked.dialect = dialect  # type: ignore[assignment]
    told = asked.play()
    assert told.refused == 0
    assert told.last_at <= least_s(asked)
