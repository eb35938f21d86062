"""The tariffs of a run: those of the user, else the published ones, which a child process looks up.

A model is asked about once for each address. The look-up starts when the first request has been sent, and what has been
asked meanwhile goes into the next child.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from processor.core.events import Listener, Notice
from processor.core.import_path import module_command
from processor.core.process_groups import child_process

if TYPE_CHECKING:
    from processor.cost.tariff import Tariff

Asked = tuple[str, str]
"""The base URL of an endpoint, and a model."""
LookUp = Callable[[Sequence[Asked]], Awaitable[Sequence["Tariff | None"]]]

LOOK_UP_TIMEOUT_S = 20.0
"""Rows wait for their price no longer."""


async def look_up_published(asked: Sequence[Asked]) -> Sequence[Tariff | None]:
    """Ask a child process. Where it fails, no price is known."""
    unknown = [None] * len(asked)
    command = module_command("processor.cost.published_prices")
    try:
        async with child_process(command, timeout_s=LOOK_UP_TIMEOUT_S, stdin=PIPE, stdout=PIPE) as process:
            output, _ = await process.communicate(json.dumps(asked).encode())
        if process.returncode != 0:
            return unknown  # such as without the price library
        from processor.cost.tariff import tariff_from_json  # after the first request was sent

        return [None if found is None else tariff_from_json(found) for found in json.loads(output)]
    except (OSError, ValueError):  # TimeoutError is an OSError
        return unknown


class PriceList:
    """Knows what each model costs at each address."""

    def __init__(
        self,
        own: Mapping[str, Tariff] | None = None,
        look_up: LookUp | None = None,
        emit: Listener | None = None,
        *,
        default: Tariff | None = None,
    ) -> None:
        """``own``: the tariffs that the user has set, by model. ``look_up``: None looks up nothing. ``default``: the
        tariff of models whose price is neither set nor looked up.

        ``emit`` gets a notice for each model whose price was looked up and is not known.
        """
        self._own = {} if own is None else own
        self._look_up = look_up
        self._default = default
        self._emit = emit
        self._found: dict[Asked, Tariff | None] = {}
        self._waiting: list[Asked] = []
        self._task: asyncio.Task[None] | None = None

    def ask(self, base_url: str, model: str) -> None:
        """Begin to look the price up, unless it is known or being looked up already."""
        asked = (base_url, model)
        if self._look_up is None or asked in self._found or model in self._own or asked in self._waiting:
            return
        self._waiting.append(asked)
        if self._task is None:
            self._task = asyncio.create_task(self._look_all_up(self._look_up))

    def known(self, base_url: str, model: str) -> Tariff | None:
        """Return the tariff if it is known by now."""
        own = self._own.get(model)
        if own is not None:
            return own
        return self._default if self._look_up is None else self._found.get((base_url, model))

    async def tariff(self, base_url: str, model: str) -> Tariff | None:
        """Return the tariff, once it has been looked up; None where no price is known."""
        own = self._own.get(model)
        if own is not None:
            return own
        if self._look_up is None:
            return self._default
        asked = (base_url, model)
        if asked not in self._found:
            self.ask(base_url, model)
            while asked not in self._found and self._task is not None:
                await asyncio.wait([self._task])
        return self._found.get(asked)

    async def close(self) -> None:
        """End the look-up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look_all_up(self, look_up: LookUp) -> None:
        try:
            await asyncio.sleep(0)  # what is asked in the same turn of the loop goes into one child
            while self._waiting:
                asked = tuple(self._waiting)
                for one, tariff in zip(asked, await look_up(asked), strict=True):
                    self._found[one] = tariff
                    if tariff is None:
                        self._report_unknown(one)
                del self._waiting[: len(asked)]
        finally:
            self._task = None

    def _report_unknown(self, asked: Asked) -> None:
        base_url, model = asked
        if self._emit is not None:
            remedy = f'set one under [prices."{model}"] in the settings file'
            text = f"no price is known for {model!r} at {base_url}, so cost_usd is null in its rows: {remedy}"
            self._emit(Notice(at=asyncio.get_running_loop().time(), text=text))
