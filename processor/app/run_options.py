"""What to run, where to, and how to speak of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from processor.app.fd_limit import raise_fd_limit
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.output.recovery import OutputPaths

JOB_FILE = "the job file"


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
        if self.echo:
            return 1
        return self.settings.concurrency or raise_fd_limit()


def default_out(jobs: str, *, simulate: bool) -> str:
    """Where replies go when nobody said. Raises ConfigError for stdin, which has no name."""
    if jobs == "-":
        raise ConfigError("jobs from stdin need --out")
    return f"{Path(jobs).stem}.{'simulated' if simulate else 'results'}.jsonl"


def check_files(plan: Plan) -> None:
    """No file is used for two things: results written where jobs are read would never end. Raises ConfigError."""
    used: dict[Path, str] = {}
    for path, purpose in _files(plan):
        if purpose != JOB_FILE:
            _check_is_no_folder(path)
        if path.exists() and not path.is_file():
            continue  # a device, which says so itself when it is opened
        file = path.resolve()
        if file in used:
            raise ConfigError(f"{path} cannot be both {used[file]} and {purpose}")
        if not file.parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent} for {purpose}")
        used[file] = purpose


def _check_is_no_folder(path: Path) -> None:
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: is a directory")


def _files(plan: Plan) -> Iterator[tuple[Path, str]]:
    if plan.out != "-":
        _check_is_no_folder(Path(plan.out))  # one without a name, `.`, has no names beside it either
        paths = OutputPaths.of(Path(plan.out))
        yield paths.replies, "the results file"
        yield paths.failures, "the errors file"
        yield paths.damaged, "the file for damaged lines"
        yield paths.state, "the state file"
    if plan.log_file:
        yield plan.log_file, "the log"
    if plan.summary_json:
        yield plan.summary_json, "the summary"
    if plan.jobs != "-" and Path(plan.jobs).exists():
        yield Path(plan.jobs), JOB_FILE
