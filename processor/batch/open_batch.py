"""A batch that is being made, or is with the provider, as the journal of batches knows it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Literal

from processor.batch.sizes import BatchSize

BatchState = Literal["drafted", "intended", "uploaded", "submitted", "collected"]
"""``drafted``: jobs are being added, and nothing has been sent. ``intended``: it is about to be uploaded. ``uploaded``:
its file is at the provider, and it is about to be created. ``submitted``: the provider has given it an id.
``collected``: all its rows are written, and files may be left at the provider."""


@dataclass(slots=True, kw_only=True)
class OpenBatch:
    """One batch."""

    name: str
    """Given by this program; the provider has it in the batch's metadata, and in the ids of its jobs."""
    path: str
    model: str
    address: str
    """The base URL that it is sent to."""
    state: BatchState = "drafted"
    size: BatchSize = field(default_factory=BatchSize)
    worst_pico: int | None = None
    """The most that it can cost, in 1e-12 USD; None where it was submitted without a budget."""
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    """Where each job's record begins in the journal of batches."""
    intended_at: float = 0.0
    """Unix seconds, like the others."""
    file_id: str | None = None
    """The uploaded file."""
    batch_id: str | None = None
    """The provider's id."""
    submitted_at: float | None = None
    remote_files: tuple[str, ...] = ()
    """Those that are to be deleted at the provider, once it is collected."""
    keys_again: list[bytes] = field(default_factory=list)
    """Keys of those of its jobs that an earlier batch has not answered."""
    is_lost: bool = False
    """The provider does not know it any more."""
    is_uncertain: bool = False
    """It is not known whether the provider has created it."""
    has_candidates: bool = False
    """It may be one of the provider's batches that have not ended: their results will show it."""

    @property
    def is_open(self) -> bool:
        """Whether its jobs may be with the provider."""
        return self.state in ("intended", "uploaded", "submitted")
