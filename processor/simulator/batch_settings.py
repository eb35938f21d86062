"""Settings of the simulated batch API: how long a batch takes, its limits, and what goes wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from random import Random

from processor.core.fast_dataclass import dataclass

BATCH_FAULTS = (
    "batch_missing",
    "batch_refused",
    "batch_server_error",
    "batch_odd",
    "batch_expired",
    "batch_failed",
    "batch_all_failed",
    "batch_lost_reply",
)
"""What goes wrong with a batch, or with one line of it.

``batch_missing``       a line is in neither file
``batch_refused``       a line is answered with 400
``batch_server_error``  a line is answered with 500
``batch_odd``           a line of the error file has status 0, an empty body and no error
``batch_expired``       the batch expires with half of its lines answered
``batch_failed``        the batch fails when it is validated, with no file
``batch_all_failed``    every line is answered with 500, so that there is no output file
``batch_lost_reply``    the connection is reset once the batch is created, before the response
"""

CANCEL_S = 5.0
"""From the cancellation of a batch to its end, at most."""

LINE_FAULTS = BATCH_FAULTS[:4]
WHOLE_FAULTS = BATCH_FAULTS[4:7]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """Raises ValueError for unknown faults and rates out of range."""

    duration_s: float = 20.0
    """From the creation of a batch to its end."""
    enqueued_tokens: int | None = None
    """The most tokens in batches that have not ended, for each model: a batch above that fails when it is validated."""
    max_lines: int = 50_000
    rates: Mapping[str, float] = field(default_factory=dict)
    """Of faults, by name, 0 to 1."""

    def __post_init__(self) -> None:
        for name, rate in self.rates.items():
            if name not in BATCH_FAULTS:
                raise ValueError(f"unknown fault {name!r}; those of batches are {', '.join(BATCH_FAULTS)}")
            if not 0 <= rate <= 1:
                raise ValueError(f"the rate of {name} must be between 0 and 1, not {rate:g}")

    def answered_by(self, age_s: float, jobs: int) -> int:
        """How many of a batch's jobs are answered when it is so old."""
        return int(jobs * min(age_s / self.duration_s, 1.0)) if self.duration_s else jobs

    def draw(self, names: tuple[str, ...], seed: str) -> str | None:
        """At most one of these faults, by their rates."""
        if not self.rates:
            return None
        position = Random(seed).random()
        for name in names:
            position -= self.rates.get(name, 0.0)
            if position < 0:
                return name
        return None


def split_faults(text: str, settings: BatchSettings) -> tuple[str, BatchSettings]:
    """Take the faults of batches out of ``name=rate,name=rate``. Return the rest, and the settings with them.

    Raises ValueError.
    """
    items = [item.strip() for item in text.split(",")]
    rates: dict[str, float] = {}
    for item in (item for item in items if item.startswith("batch_")):
        name, _, rate = item.partition("=")
        try:
            rates[name.strip()] = float(rate)
        except ValueError:
            raise ValueError(f"a fault is written name=rate, e.g. batch_missing=0.01, not {item!r}") from None
    rest = ",".join(item for item in items if not item.startswith("batch_"))
    return rest, replace(settings, rates={**settings.rates, **rates})
