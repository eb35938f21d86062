"""What the requests of a run have cost, and may have cost, by model and endpoint."""

from __future__ import annotations

from collections import Counter

from processor.core.models import JSON
from processor.core.money import pico_usd, usd
from processor.stats.reply_stats import MAX_LABELS

Place = tuple[str, str]
"""A model, and the name of an endpoint."""

OTHERS: Place = ("other", "other")
"""Stands for the places beyond MAX_LABELS."""


class CostStats:
    """Sums in 1e-12 USD."""

    def __init__(self) -> None:
        self.known_pico: Counter[Place] = Counter()
        self.unconfirmed_pico: Counter[Place] = Counter()
        """At most, for requests without a reply."""
        self.unknown: Counter[Place] = Counter()
        """Replies whose cost is not known."""
        self._places: set[Place] = set()

    def add_row(self, model: str | None, endpoint: str | None, cost_usd: float | None, *, is_reply: bool) -> None:
        """Count what the row of a job that was sent says."""
        if model is None or endpoint is None:
            return
        place = self._place(model, endpoint)
        if cost_usd is not None:
            self.known_pico[place] += pico_usd(cost_usd)
        elif is_reply:
            self.unknown[place] += 1

    def add_unconfirmed(self, model: str, endpoint: str, cost_usd: float | None) -> None:
        """Count what a request without a reply may have cost."""
        if cost_usd is not None:
            self.unconfirmed_pico[self._place(model, endpoint)] += pico_usd(cost_usd)

    @property
    def unconfirmed_usd(self) -> float | None:
        """None: nothing that is known."""
        return usd(self.unconfirmed_pico.total()) if self.unconfirmed_pico else None

    @property
    def places(self) -> list[Place]:
        """In their order of appearance."""
        return list(dict.fromkeys((*self.known_pico, *self.unconfirmed_pico, *self.unknown)))

    def cost_usd(self, place: Place) -> float | None:
        return usd(self.known_pico[place]) if place in self.known_pico else None

    def as_json(self) -> list[JSON]:
        return [
            {
                "model": place[0],
                "endpoint": place[1],
                "cost_usd": self.cost_usd(place),
                "unconfirmed_cost_usd": usd(self.unconfirmed_pico[place]) if place in self.unconfirmed_pico else None,
                "replies_of_unknown_cost": self.unknown[place],
            }
            for place in self.places
        ]

    def _place(self, model: str, endpoint: str) -> Place:
        place = (model, endpoint)
        if place not in self._places:
            if len(self._places) >= MAX_LABELS:
                return OTHERS
            self._places.add(place)
        return place
