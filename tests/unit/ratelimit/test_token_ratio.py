"""What a request is charged, and how a server counts, as headers show it."""

from __future__ import annotations

import pytest

from processor.ratelimit.estimator.external_usage import Interval
from processor.ratelimit.estimator.reported_header import Header
from processor.ratelimit.estimator.send_history import SendHistory
from processor.ratelimit.estimator.token_ratio import TokenRatio
from processor.ratelimit.estimator.window_or_bucket import CounterClassifier, CounterType, Observation

LIMIT, COST = 9000.0, 100.0
RATE = LIMIT / 60


class Learned:
    """A token ratio, and the history of the requests that it learns from."""

    def __init__(self) -> None:
        self.ratio = TokenRatio()
        self.history = SendHistory(LIMIT)

    def send(self, at: float, cost: float = COST) -> None:
        self.history.add(at, cost)
        self.ratio.on_sent(cost, at)

    def answer(
        self,
        at: float,
        remaining: float,
        reset_s: float | None = None,
        *,
        cost: float = COST,
        counter_type: CounterType | None = None,
    ) -> float:
        self.ratio.observe(Header(at, cost, remaining, reset_s, LIMIT), self.history, counter_type)
        return self.ratio.value

    def request(
        self, at: float, remaining: float, reset_s: float | None = None, *, counter_type: CounterType | None = None
    ) -> float:
        self.send(at)
        return self.answer(at, remaining, reset_s, counter_type=counter_type)


@pytest.mark.parametrize("charged", [50.0, 70.0, 150.0, 300.0])
def test_first_request_shows_what_it_was_charged(charged: float) -> None:
    assert Learned().request(0.0, LIMIT - charged) == pytest.approx(charged / COST)


def test_what_others_have_used_before_is_not_taken_for_a_charge() -> None:
    learned = Learned()
    assert learned.request(0.0, LIMIT - 5000.0) == 1.0
    assert learned.request(1.0, LIMIT - 5130.0, counter_type="window") == pytest.approx(1.3)


def test_limit_that_is_announced_late_was_used_before() -> None:
    """Its history holds none of the requests that were sent before its first header."""
    learned = Learned()
    learned.answer(0.0, LIMIT - 250.0, counter_type="window")
    assert learned.request(1.0, LIMIT - 350.0, counter_type="window") == 1.0


def test_single_charge_of_a_server_of_unknown_type_is_taken_for_the_larger() -> None:
    """What others have used before hides the first charge; what the second one is depends on what came back."""
    learned = Learned()
    learned.request(0.0, LIMIT - 1000.0)
    assert learned.request(1.0, LIMIT - 1050.0) >= 1.0


def test_bucket_that_is_full_again_shows_each_charge() -> None:
    learned = Learned()
    for number in range(5):
        learned.request(2.0 * number, LIMIT - 70.0, counter_type="bucket")
    assert learned.ratio.value == pytest.approx(0.7)


def test_type_that_explains_the_charges_alike_is_believed_while_it_is_unknown() -> None:
    """A window gets nothing back within a minute; a bucket would have charged the second request 2.5 times as much."""
    learned = Learned()
    learned.request(0.0, LIMIT - 130.0)
    assert learned.request(1.0, LIMIT - 260.0) == pytest.approx(1.3)


def test_charge_between_requests_that_may_be_counted_together_is_not_learned() -> None:
    learned = Learned()
    learned.send(0.0)
    learned.send(0.1)
    assert learned.answer(0.0, LIMIT - 260.0) == 1.0


@pytest.mark.parametrize(
    ("remaining", "reset_s"),
    [pytest.param(RATE - 70.0, 70.0 / RATE, id="room left"), pytest.param(0.0, 70.0 / RATE, id="in debt")],
)
def test_bucket_of_one_second_shows_its_charge_by_the_reset(remaining: float, reset_s: float) -> None:
    learned = Learned()
    assert learned.request(0.0, remaining, round(reset_s + 0.0005, 3)) == pytest.approx(0.7, abs=0.002)
    assert learned.ratio.is_second_bucket
    assert learned.ratio.full_at(0.0, None) == pytest.approx(70.0 / RATE, abs=0.002)


def test_reset_in_whole_seconds_lowers_no_ratio() -> None:
    """The next whole second: it allows any charge from nothing to 150."""
    assert Learned().request(0.0, 0.0, 1.0) == 1.0


def test_reset_of_a_fixed_minute_is_not_taken_for_a_bucket_of_one_second() -> None:
    """The minute ends soon after the first request, and before it others have used half of it."""
    learned = Learned()
    assert learned.request(0.0, LIMIT / 2, 0.4) == 1.0
    assert not learned.ratio.is_second_bucket


def test_burst_while_a_window_gets_back_much_raises_no_ratio() -> None:
    """What has come back between two headers looks like a fall from the later one to the earlier one."""
    learned = Learned()
    for number in range(40):
        learned.send(number / 1000)
    for number in range(4):
        learned.send(60.1 + number / 1000)
    for number, remaining in enumerate((4000.0, 3900.0, 100.0, 200.0)):
        learned.answer(60.1 + number / 1000, remaining, counter_type="window")
    assert learned.ratio.value == 1.0


def test_large_burst_counts_for_more_than_a_small_one() -> None:
    learned = Learned()
    for start, count, ratio in ((0.0, 40, 1.3), (2.0, 4, 1.6)):
        for number in range(count):
            learned.send(start + number / 1000)
        for number in range(count):
            learned.answer(start + number / 1000, LIMIT - ratio * COST * (number + 1), counter_type="window")
    assert 1.3 < learned.ratio.value < 1.35


# ------------------------------------------------------------ the type, by the reset


@pytest.mark.parametrize(
    ("missing", "reset_s", "counter_type"),
    [
        (1000.0, 60.0, "window"),
        (1000.0, 1000.0 / RATE, "bucket"),
        (1000.0, 7.0, "bucket"),  # rounded up to whole seconds
        (1000.0, 9999 * 3600.0, None),
        (1000.0, 0.0, None),
        (1000.0, None, None),
        (100.0, 1.0, None),
        (LIMIT - 10.0, 60.0, None),
    ],
)
def test_reset_tells_the_type_where_it_can(
    missing: float, reset_s: float | None, counter_type: CounterType | None
) -> None:
    classifier = CounterClassifier(0.3)
    classifier.observe_reset(Header(0.0, COST, LIMIT - missing, reset_s, LIMIT), is_second_bucket=False)
    assert classifier.counter_type == counter_type


def test_reset_changes_no_type_that_is_known() -> None:
    classifier = CounterClassifier(0.3)
    classifier.counter_type = "bucket"
    classifier.observe_reset(Header(0.0, COST, LIMIT - 1000.0, 60.0, LIMIT), is_second_bucket=False)
    assert classifier.counter_type == "bucket"


def test_change_that_late_requests_explain_does_not_overrule_the_reset() -> None:
    """The second header shows less than a bucket could, because requests that were sent before it came late."""
    classifier = CounterClassifier(0.0)
    classifier.observe_reset(Header(0.0, COST, LIMIT - 1000.0, 1000.0 / RATE, LIMIT), is_second_bucket=False)
    for at, remaining, bucket in ((0.0, 8000.0, 8000.0), (30.0, 7900.0, 9000.0)):
        classifier.observe(
            Observation(
                sent_at=at,
                remaining=remaining,
                total_sent=0.0,
                may_be_counted_before=0.0,
                may_be_counted_after=0.0,
                window_prediction=Interval(remaining, remaining),
                bucket_prediction=Interval(bucket, bucket),
            )
        )
    assert classifier.counter_type == "bucket"
