"""A time of day on the command line, as the moment that it means."""

from __future__ import annotations

from datetime import datetime, timedelta

from processor.core.errors import ConfigError


def next_occurrence(text: str, now: datetime | None = None) -> float:
    """The Unix time of the next ``HH:MM`` in local time. Raises ConfigError."""
    now = now or datetime.now()
    try:
        at = datetime.strptime(text if len(text) == len("HH:MM") else "", "%H:%M")
    except ValueError:
        raise ConfigError(f"a time is written HH:MM, e.g. 07:30, not {text!r}") from None
    today = now.replace(hour=at.hour, minute=at.minute, second=0, microsecond=0)
    # Of the local calendar: right also where the clock is changed. An hour that comes twice is there as fold 0 and 1.
    moments = (today.replace(fold=0), today.replace(fold=1), (today + timedelta(days=1)).replace(fold=0))
    return next(moment.timestamp() for moment in moments if moment.timestamp() > now.timestamp())
