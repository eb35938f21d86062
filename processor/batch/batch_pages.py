"""Reads the list of a provider's batches page by page, the newest first, until they are older than is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from processor.batch.provider_batches import RemoteBatch
from processor.core.api_calls import ApiCall, ApiClient
from processor.core.models import JSON

PAGE = 100
_MAX_PAGES = 1000
_CLOCK_SLACK_S = 600.0
"""The clock of what lists the batches and that of what creates them may differ by so much."""


def is_older(remote: RemoteBatch, unix_s: float, client: ApiClient) -> bool:
    """Whether a batch was certainly created before this time on this machine's clock, however wrong that is."""
    difference_s = client.clock_difference_s
    if difference_s is None or remote.created_at is None:
        return False
    return remote.created_at < unix_s + difference_s - _CLOCK_SLACK_S


async def batches_by_cursor(
    unix_s: float, client: ApiClient, call: ApiCall, after_name: str, remote_of: Callable[[JSON], RemoteBatch]
) -> AsyncIterator[RemoteBatch]:
    """Yield the batches of all pages, up to the one whose last batch is older. Raises RequestError.

    ``call``: for the first page. ``after_name``: the parameter that names the last batch of the page before.
    """
    after: str | None = None
    for _ in range(_MAX_PAGES):
        query = (("limit", str(PAGE)), *(((after_name, after),) if after else ()))
        page = await client.call(replace(call, query=query))
        found = batches_in(page, remote_of)
        for remote in found:
            yield remote
        is_last = not found or page.get("has_more") is not True or is_older(found[-1], unix_s, client)
        if is_last or found[-1].id == after:
            return
        after = found[-1].id


async def batches_by_page_number(
    unix_s: float, client: ApiClient, call: ApiCall, remote_of: Callable[[JSON], RemoteBatch]
) -> AsyncIterator[RemoteBatch]:
    """As ``batches_by_cursor``, where pages have numbers from 0 on. ``call``: without the page and its size."""
    for number in range(_MAX_PAGES):
        query = (*call.query, ("page", str(number)), ("page_size", str(PAGE)))
        found = batches_in(await client.call(replace(call, query=query)), remote_of)
        for remote in found:
            yield remote
        if len(found) < PAGE or is_older(found[-1], unix_s, client):
            return


def batches_in(page: JSON, remote_of: Callable[[JSON], RemoteBatch]) -> list[RemoteBatch]:
    """The batches of a page."""
    return [remote_of(one) for one in page.get("data") or [] if isinstance(one, dict)]
