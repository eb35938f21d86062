"""Computes what a reply from a batch cost: by the server's word, else by the tariff and the batch factor."""

from __future__ import annotations

from decimal import Decimal

from processor.core.models import Reply, Usage
from processor.cost.tariff import Tariff
from processor.protocols.billed_usage import billed_usage, reported_cost_usd

SERVED_BY = "batch"


def cost_of_reply(
    tariff: Tariff | None, factor: float | None, reply: Reply, usage: Usage, submitted_at_unix_s: float
) -> float | None:
    """Return the cost in US dollars; None where it is not known. ``usage``: the tokens that are billed.

    ``factor``: what is charged in a batch, as a share of the price otherwise; None: not known.
    """
    if (reported := reported_cost_usd(reply.body)) is not None:
        return reported
    if tariff is None or factor is None:
        return None
    cost = tariff.cost_usd(billed_usage(reply.body, usage, served_by=SERVED_BY), submitted_at_unix_s)
    return None if cost is None else float(cost * Decimal(repr(factor)))
