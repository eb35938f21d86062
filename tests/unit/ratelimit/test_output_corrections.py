"""What a reply has used less than was reserved for it: when headers show it, and what is learned from them."""

from __future__ import annotations

from processor.ratelimit.estimator.send_history import SendHistory
from processor.ratelimit.estimator.server_model import ServerModel


def test_header_from_before_a_correction_shows_no_usage_of_others() -> None:
    """The second request was counted while the first still had its whole reservation."""
    model = ServerModel(1000.0, tolerance=0.3)
    for at in (0.0, 1.0):
        model.facts.on_grant(400.0, at)
        model.on_sent(400.0, at)
    model.observe(600.0, None, sent_at=0.0, cost=400.0, at=0.3, refused=False)
    model.refund(390.0, 0.0, 1.5)
    model.observe(200.0, None, sent_at=1.0, cost=400.0, at=1.6, refused=False)
    assert not model.shared_key
    assert model.available(1.6) >= 500.0


def test_history_tells_what_was_corrected_after_a_time() -> None:
    history = SendHistory(1000.0)
    history.add(0.0, 400.0)
    history.add(5.0, 400.0)
    history.correct(0.0, -100.0, 4.0)
    history.correct(5.0, -50.0, 8.0)
    assert history.lowered_after(3.0) == 100.0
    assert history.lowered_after(5.0) == 50.0
    assert history.lowered_after(9.0) == 0.0
    assert history.lowered_between(3.5, 8.5) == 150.0
