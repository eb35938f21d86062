"""What to run, where to, and how to speak of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from processor.config import Settings
from processor.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    jobs: str
    """Path of the job file; ``-`` is stdin."""
    out: str
    """Path of the results file; ``-`` is stdout."""
    settings: Settings
    limit: int | None = None
    retry_failed: bool = False
    simulate: bool = False
    echo: bool = False
    progress: bool = True
    quiet: bool = False
    log_file: Path | None = None
    summary_json: Path | None = None
    command: Sequence[str] = ()
    """The words of the command line, to be shown as the way to go on."""

    @property
    def concurrency(self) -> int:
        return 1 if self.echo else self.settings.concurrency


def default_out(jobs: str, *, simulate: bool) -> str:
    """Where replies go when nobody said. Raises ConfigError for stdin, which has no name."""
    if jobs == "-":
        raise ConfigError("jobs from stdin need --out")
    return f"{Path(jobs).stem}.{'simulated' if simulate else 'results'}.jsonl"
