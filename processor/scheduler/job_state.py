"""The state of one job that is being worked on."""

from __future__ import annotations

from dataclasses import field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from processor.core.fast_dataclass import dataclass
from processor.core.models import Job, RequestSize
from processor.core.money import usd
from processor.endpoints.endpoint import EndpointPermit
from processor.endpoints.failover import Exclusions
from processor.protocols import Protocol
from processor.ratelimit.refusals import Refusal
from processor.retry.policy import AttemptHistory

if TYPE_CHECKING:
    from processor.scheduler.reply_validation import Asks


class Phase(Enum):
    """What the task of a job does, and therefore how it may be stopped."""

    STARTING = auto()
    """It has not asked for a permit. It is not cancelled: it ends when it asks."""
    WAITING = auto()
    """It waits for a permit, or in its back-off. It is cancelled when the run stops: nothing is in flight."""
    PARKED = auto()
    """It waits for what the requests of other jobs show. It is cancelled when the run stops."""
    IN_FLIGHT = auto()
    """It waits for the response to its request. It is cancelled after the grace period."""
    ASKING_AGAIN = auto()
    """It waits for a permit to ask once more after a reply that is not valid. It counts as in flight."""
    SETTLING = auto()
    """It finds out what follows from its request, or waits for its row to be written. It is never cancelled."""


WAITING, IN_FLIGHT, SETTLING = Phase.WAITING, Phase.IN_FLIGHT, Phase.SETTLING
"""Those of every job: in Python 3.11 to look up a member of an Enum takes 70 ns."""


@dataclass(slots=True)
class JobRefusals:
    """The requests of one job that a limit group has asked to wait."""

    limit_group: str
    first: Refusal | None = None
    later: int = 0
    """How many followed the first one."""
    is_singled_out: bool = False
    """The job was asked to wait again, while others of the group were answered: it holds back only itself."""


@dataclass(slots=True, eq=False)
class JobState:
    """One job that has no row yet. Times are seconds on the event loop's clock."""

    job: Job
    """As the next request asks for it."""
    protocol: Protocol
    size: RequestSize
    enqueued_at: float
    attempts: int
    """Requests sent for the job, in all runs."""
    earlier_attempts: int
    """Those of earlier runs."""
    phase: Phase = Phase.STARTING
    """Set by ``JobRegistry``, and to SETTLING by what settles a request."""
    failures: AttemptHistory | None = None
    """None while no attempt has failed, as for nearly all jobs: see ``history``."""
    attempt_started_at: float = 0.0
    """When the latest attempt began; 0 before the first one."""
    is_retry: bool = False
    """Whether the job has acquired a permit before."""
    streamed: bool | None = None
    """Whether the latest request asked for a stream; None where nothing was sent, or the transport does not say."""
    permit: EndpointPermit | None = None
    """That of the latest attempt; None before the first one."""
    refusals: JobRefusals | None = None
    """By the limit group that was asked last; None where the job was not asked to wait."""
    excluded: Exclusions = field(default_factory=Exclusions)
    """Endpoints that have given the job up, where there are several."""
    asked_pico: int = 0
    """What the replies have cost after which the job was asked again."""
    unconfirmed_pico: int = 0
    """What requests without a reply may have cost in this run, in 1e-12 USD."""
    is_withdrawn: bool = False
    """The task was cancelled because nothing like the job is sent any more."""
    asks: Asks | None = None
    """The replies so far, where the output of the job is checked."""

    @property
    def history(self) -> AttemptHistory:
        """The failed attempts in this run."""
        if self.failures is None:
            self.failures = AttemptHistory()
        return self.failures

    @property
    def unconfirmed_cost_usd(self) -> float | None:
        """What requests without a reply may have cost in this run; None for nothing."""
        return usd(self.unconfirmed_pico) if self.unconfirmed_pico else None

    @property
    def is_singled_out(self) -> bool:
        """The job holds back only itself where it is asked to wait."""
        return self.refusals is not None and self.refusals.is_singled_out

    @property
    def is_asked_again(self) -> bool:
        """The job has had a reply that is not valid."""
        return self.asks is not None and self.asks.last is not None

    def ask_again(self, job: Job, size: RequestSize) -> None:
        """Let the next request be that of ``job``: the same one, with another body.

        It takes the in-flight slot that its last request gives back, before any other job can.
        """
        self.job, self.size, self.is_retry = job, replace(size, goes_first=True), True

    def retry(self) -> None:
        """Let the next request be the same one, after it has failed. It waits for a slot like those of other jobs."""
        self.size, self.is_retry = replace(self.size, goes_first=False), True
