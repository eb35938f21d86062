"""A time of day on the command line, as the moment that it means."""

from __future__ import annotations

from datetime import datetime, timedelta

from processor.core.errors import ConfigError


def next_occurrence(text: str, now: datetime | None = None) -> float:
    """The Unix time of the next ``HH:MM`` in local time. Raises ConfigError."""
    now = now or datetime.now()
    try:
        at = datetime.strptime(text, "%H:%M")
    except ValueError:
        raise ConfigError(f"a time is written HH:MM, e.g. 07:30, not {text!r}") from None
    moment = now.replace(hour=at.hour, minute=at.minute, second=0, microsecond=0)
    if moment <= now:
        moment += timedelta(days=1)  # of the local calendar: right also where the clock is changed that night
    return moment.timestamp()
