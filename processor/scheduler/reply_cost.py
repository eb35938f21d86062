"""Computes what a reply cost: by the server's word, else by the tariff of its model at its address."""

from __future__ import annotations

from processor.core.models import Reply, Usage
from processor.cost.price_list import PriceList
from processor.endpoints.endpoint import EndpointPermit
from processor.protocols import protocol_for
from processor.protocols.billed_usage import billed_usage, reported_cost_usd
from processor.tokens.rules import TokenCount


async def cost_of_reply(
    prices: PriceList,
    permit: EndpointPermit,
    reply: Reply,
    counted: tuple[TokenCount, TokenCount],
    sent_at_unix_s: float,
) -> float | None:
    """Return the cost in US dollars; None where it is not known.

    ``counted``: the tokens of the prompt and of the reply, which count where the server reports none.
    """
    if (reported := reported_cost_usd(reply.body)) is not None:
        return reported
    job = permit.job
    tariff = await prices.tariff(permit.endpoint.target.base_url, job.model)
    if tariff is None:
        return None
    usage = protocol_for(job.path).reported_usage(reply.body)
    if usage is None or not usage.is_plausible:
        prompt, completion = counted
        usage = Usage(prompt_tokens=prompt.tokens, completion_tokens=completion.tokens)
    cost = tariff.cost_usd(billed_usage(reply.body, usage), sent_at_unix_s)
    return None if cost is None else float(cost)
