"""Costs by model and endpoint."""

from __future__ import annotations

from processor.stats.cost_stats import CostStats
from processor.stats.reply_stats import MAX_LABELS


def test_costs_are_summed_by_model_and_endpoint() -> None:
    costs = CostStats()
    costs.add_row("a", "east", 0.1, is_reply=True)
    costs.add_row("a", "east", 0.2, is_reply=True)
    costs.add_row("a", "west", None, is_reply=True)
    costs.add_row("b", "west", None, is_reply=False)
    costs.add_row(None, None, 5.0, is_reply=False)
    costs.add_unconfirmed("b", "west", 0.05)
    costs.add_unconfirmed("b", "west", None)
    assert costs.places == [("a", "east"), ("b", "west"), ("a", "west")]
    assert [costs.cost_usd(place) for place in costs.places] == [0.3, None, None]
    assert costs.unconfirmed_usd == 0.05
    assert costs.as_json()[2]["replies_of_unknown_cost"] == 1


def test_nothing_unconfirmed_is_not_zero() -> None:
    assert CostStats().unconfirmed_usd is None


def test_memory_does_not_grow_with_the_names_of_models() -> None:
    costs = CostStats()
    for number in range(MAX_LABELS + 10):
        costs.add_row(f"model-{number}", "east", 1.0, is_reply=True)
    assert len(costs.places) == MAX_LABELS + 1
    assert costs.cost_usd(("other", "other")) == 10.0
