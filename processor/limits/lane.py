"""One lane: the limits that some requests share, and what has been charged to them."""

from __future__ import annotations

from math import inf
from typing import ClassVar, Literal

from processor.errors import ProcessorError
from processor.limits.line import Bell, Line
from processor.limits.meter import Meter
from processor.limits.settings import LaneLimits
from processor.models import Cost

Resource = Literal["requests", "tokens", "input_tokens", "output_tokens"]

FIRST_COOL_DOWN_S = 1.0
MOST_COOL_DOWN_S = 60.0


class TooLarge(ProcessorError):
    """This request alone exceeds a whole minute's limit: it can never go."""

    code: ClassVar[str] = "too_large"


class Lane:
    def __init__(self, name: str, limits: LaneLimits) -> None:
        self.name = name
        self.line = Line()
        self.bell = Bell()
        self.cool_until = -inf
        self._cool_down_s = FIRST_COOL_DOWN_S
        configured: dict[Resource, float | None] = {
            "requests": limits.rpm,
            "tokens": limits.tpm,
            "input_tokens": limits.input_tpm,
            "output_tokens": limits.output_tpm,
        }
        self.meters = {resource: Meter(limit) for resource, limit in configured.items() if limit is not None}

    def check(self, cost: Cost) -> None:
        for resource, meter in self.meters.items():
            amount: int = getattr(cost, resource)
            if amount > meter.limit:
                what = resource.replace("_", " ")
                raise TooLarge(f"it needs {amount} {what}, and the limit is {meter.limit:.0f} a minute")

    def ready_at(self, cost: Cost, now: float) -> tuple[float, Resource | None]:
        """When every limit has room for this cost, and which of them is the last to have it."""
        latest: tuple[float, Resource | None] = (now, None)
        for resource, meter in self.meters.items():
            at = meter.ready_at(getattr(cost, resource), now)
            if at > latest[0]:
                latest = (at, resource)
        return latest

    def paced(self, cost: Cost) -> Resource | None:
        """The limit whose pacing does not let this cost through at once, if any."""
        for resource, meter in self.meters.items():
            if not meter.pacer.ready(getattr(cost, resource)):
                return resource
        return None

    async def pace(self, cost: Cost) -> None:
        for resource, meter in self.meters.items():
            await meter.pacer.pace(getattr(cost, resource))

    def refused(self, retry_after_s: float | None, sent_at: float, at: float) -> None:
        """Hold the whole lane back. Refusals of requests sent before the last cool-down began are no news."""
        if retry_after_s is None:
            if sent_at < self.cool_until - self._cool_down_s:
                return
            retry_after_s = self._cool_down_s
            self._cool_down_s = min(2 * self._cool_down_s, MOST_COOL_DOWN_S)
        self.cool_until = max(self.cool_until, at + retry_after_s)
        self.bell.ring()

    def accepted(self) -> None:
        self._cool_down_s = FIRST_COOL_DOWN_S
