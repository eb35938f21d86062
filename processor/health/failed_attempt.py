"""What is known of a failed request beside its error."""

from __future__ import annotations

from datetime import datetime

from processor.core.fast_dataclass import dataclass
from processor.core.models import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempt:
    """The circumstances of one failed request. Times are the event loop's, but for ``local_time``."""

    job: Job
    limit_group: str
    sent_at: float
    now: float
    local_time: datetime
    had_first_token: bool = False
    is_singled_out: bool = False
    """The job is throttled again, while others of its limit group are answered."""
