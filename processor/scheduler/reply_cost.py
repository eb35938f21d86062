"""Computes what a reply cost: by the server's word, else by the tariff of its model at its address."""

from __future__ import annotations

from processor.core.models import Reply, Usage
from processor.cost.price_list import PriceList
from processor.endpoints.endpoint import EndpointPermit
from processor.protocols.billed_usage import billed_usage, reported_cost_usd


async def cost_of_reply(
    prices: PriceList,
    permit: EndpointPermit,
    reply: Reply,
    usage: Usage,
    sent_at_unix_s: float,
) -> float | None:
    """Return the cost in US dollars; None where it is not known. ``usage``: the tokens that are billed."""
    if (reported := reported_cost_usd(reply.body)) is not None:
        return reported
    tariff = await prices.tariff(permit.endpoint.target.base_url, permit.job.model)
    if tariff is None:
        return None
    cost = tariff.cost_usd(billed_usage(reply.body, usage), sent_at_unix_s)
    return None if cost is None else float(cost)
