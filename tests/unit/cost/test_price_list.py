"""The price list: the user's prices first, each other price looked up once, an unknown one named once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from processor.core.events import Notice, RunEvent
from processor.cost import price_list
from processor.cost.price_list import Asked, PriceList, look_up_published
from processor.cost.tariff import Rate, Rates, Tariff, TariffPeriod

URL = "https://llm.example.org/v1"


def tariff(usd: int) -> Tariff:
    rate = Rate(usd=Decimal(usd))
    return Tariff(periods=(TariffPeriod(rates=Rates(input=rate, output=rate)),))


class LookUp:
    """Knows the price of the models whose names begin with "known"."""

    def __init__(self) -> None:
        self.asked: list[tuple[Asked, ...]] = []

    async def __call__(self, asked: Sequence[Asked]) -> Sequence[Tariff | None]:
        self.asked.append(tuple(asked))
        await asyncio.sleep(0.001)
        return [tariff(1) if model.startswith("known") else None for _, model in asked]


def test_price_of_the_user_stands_at_every_address_and_is_not_looked_up() -> None:
    async def run() -> None:
        look_up = LookUp()
        prices = PriceList({"known": tariff(7)}, look_up)
        prices.ask(URL, "known")
        assert await prices.tariff(URL, "known") == tariff(7)
        assert look_up.asked == []

    asyncio.run(run())


def test_each_model_at_each_address_is_asked_about_once_however_many_wait() -> None:
    async def run() -> None:
        look_up = LookUp()
        prices = PriceList(look_up=look_up)
        for _ in range(3):
            prices.ask(URL, "known-a")
        prices.ask(URL + "/b", "known-a")
        waiting = [asyncio.create_task(prices.tariff(URL, model)) for model in ("known-a", "known-b") * 5]
        await asyncio.gather(*waiting)
        assert await prices.tariff(URL, "known-b") == tariff(1)
        asked = [one for batch in look_up.asked for one in batch]
        assert sorted(asked) == [(URL, "known-a"), (URL, "known-b"), (URL + "/b", "known-a")]

    asyncio.run(run())


def test_unknown_price_is_null_and_named_once() -> None:
    async def run() -> None:
        events: list[RunEvent] = []
        prices = PriceList(look_up=LookUp(), emit=events.append)
        assert [await prices.tariff(URL, "mine") for _ in range(3)] == [None] * 3
        (notice,) = events
        assert isinstance(notice, Notice)
        assert '[prices."mine"]' in notice.text
        assert URL in notice.text

    asyncio.run(run())


def test_end_of_the_run_ends_the_look_up_and_frees_who_waits() -> None:
    async def never(asked: Sequence[Asked]) -> Sequence[Tariff | None]:
        await asyncio.Event().wait()
        raise AssertionError

    async def run() -> None:
        prices = PriceList(look_up=never)
        waiting = asyncio.create_task(prices.tariff(URL, "m"))
        await asyncio.sleep(0.001)
        await prices.close()
        assert await waiting is None

    asyncio.run(run())


@pytest.mark.process
@pytest.mark.parametrize("program", ["raise SystemExit(1)", "print('no json')", "import time; time.sleep(60)"])
def test_no_price_is_known_where_the_child_process_fails(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "child.py"
    path.write_text(program)
    monkeypatch.setattr(price_list, "module_command", lambda module: [sys.executable, str(path)])
    monkeypatch.setattr(price_list, "LOOK_UP_TIMEOUT_S", 0.5)
    assert list(asyncio.run(look_up_published([(URL, "m"), (URL, "n")]))) == [None, None]
