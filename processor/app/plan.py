"""The plan of a run: its inputs, its outputs, and what is shown of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from processor.config.settings import SCHEMA_IN_JOB, Settings
from processor.core.compression import without_suffix
from processor.core.errors import ConfigError
from processor.core.fast_dataclass import dataclass
from processor.core.shards import Shard
from processor.core.text import setting_name
from processor.output.paths import OutputPaths
from processor.remote.addresses import WRITABLE, scheme_of, shown_address

if TYPE_CHECKING:
    from processor.terminal.progress import ProgressChoice

JOB_FILE = "the job file"
SCHEMA_FILE = "the schema"
STDIN = "-"
MAX_FILES_NAMED = 3
"""More job files are named by the first of them and their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one run is to do. See ``process run --help`` for the flags that its fields stand for."""

    jobs: str | Sequence[str]
    """Path of the job file, or those of several, in their order; ``-`` is stdin."""
    out: str
    """Path of the results file, or its address in an object store; ``-`` is stdout."""
    settings: Settings
    work_dir: Path | None = None
    """The folder of the results files that are published in an object store; None: one in the cache folder."""
    published_at: str | None = None
    """The address that the results are published at, where ``out`` is their file in the work folder: set by
    ``published_output.with_local_out``."""
    template: str | None = None
    """Path of the template that makes jobs of tables."""
    limit: int | None = None
    """Only the first ``limit`` jobs of the file; None: all."""
    shard: Shard | None = None
    """Only this part of them; None: all."""
    order: Literal["file", "shortest", "longest"] = "file"
    until: float | None = None
    """Unix time after which no reply is wanted any more; None: no deadline."""
    like: Path | None = None
    """Results whose replies show how long those to come will be; None: those of the output itself."""
    retry_failed: bool = False
    simulate: bool = False
    in_batches: bool = False
    """Send the jobs through the provider's batch API."""
    detach: bool = False
    """End as soon as nothing more can be submitted in batches."""
    stream_after: float | None = None
    """Unix time at which the batches are cancelled, and what is left is streamed; None: never."""
    echo: bool = False
    progress: ProgressChoice = "auto"
    quiet: bool = False
    log_file: Path | None = None
    summary_json: Path | None = None
    metrics_file: Path | None = None
    report: Path | None = None
    """The page about the output, written at the end."""
    command: Sequence[str] = ()
    """The words of the command line, shown in the summary as the command that continues the run."""

    @property
    def job_files(self) -> Sequence[str]:
        return [self.jobs] if isinstance(self.jobs, str) else self.jobs

    @property
    def jobs_name(self) -> str:
        """What the job files are called in messages."""
        names = ["stdin" if path == STDIN else shown_address(path) for path in self.job_files]
        shown = names if len(names) <= MAX_FILES_NAMED else [*names[:1], f"{len(names) - 1} more files"]
        return ", ".join(shown)

    @property
    def results_name(self) -> str:
        """What the results are called in messages."""
        return self.published_at or self.out

    @property
    def reads_stdin(self) -> bool:
        """Whether a job file is stdin, which can be read only once."""
        return STDIN in self.job_files


def default_out(jobs: Sequence[str], *, simulate: bool, shard: Shard | None = None) -> str:
    """The path of the results file where ``--out`` is not given. Raises ConfigError for stdin, which has no name,
    and for several files, of which none is to be preferred.

    Only a final ``.jsonl`` is no part of the stem, so that ``jobs.txt`` and ``jobs.jsonl`` have results of their own.
    Up to 0.2.0 they shared one file: it is used where no other job file can have it, and else the user must decide.
    """
    if len(jobs) > 1:
        raise ConfigError(f"several job files need {setting_name('out', 'RESULTS')}: one file for all of their results")
    path = jobs[0]
    if path == STDIN:
        raise ConfigError(
            f"jobs from stdin need {setting_name('out', 'FILE')}, or {setting_name('out', '-')} for stdout"
        )
    name, kind = Path(shown_address(path)).name, "simulated" if simulate else "results"
    stem = name.removesuffix(".jsonl") or name
    if shard is not None:
        return f"{stem}.{shard.number}-of-{shard.count}.{kind}.jsonl"
    out = f"{stem}.{kind}.jsonl"
    shared = f"{Path(path).stem}.{kind}.jsonl"
    if shared == out or Path(out).exists() or not Path(shared).exists():
        return out
    owner = Path(path).with_name(f"{Path(path).stem}.jsonl")
    if owner.exists():
        raise ConfigError(
            f"{shared} may hold the results of {path} or of {owner}: give {setting_name('out', out)}, or "
            f"{setting_name('out', shared)}"
        )
    return shared


def check_files(plan: Plan) -> None:
    """Raises ConfigError where one file would serve two purposes, or a file cannot be written where it should stand.

    A run that appended results to its own job file would never end.
    """
    check_names(plan)
    purposes: dict[Path, str] = {}
    for path, purpose in _files(plan):
        if purpose not in (JOB_FILE, SCHEMA_FILE):
            _check_is_no_folder(path)
        if path.exists() and not path.is_file():
            continue  # a device: it may serve several purposes, and opening it reports what is wrong with it
        file = path.resolve()
        if purpose == JOB_FILE == purposes.get(file):
            raise ConfigError(f"{path} is given twice: name each job file once")
        if file in purposes:
            raise ConfigError(f"{path} cannot be both {purposes[file]} and {purpose}: give one of them another name")
        if purpose != SCHEMA_FILE and not file.parent.is_dir():
            raise ConfigError(f"the folder {path.parent} for {purpose} does not exist: create it, or name another one")
        purposes[file] = purpose


def check_names(plan: Plan) -> None:
    """Raises ConfigError for names that no run can use."""
    if plan.out != "-" and Path(plan.out).is_symlink() and not Path(plan.out).exists():
        raise ConfigError(
            f"{plan.out} is a link to a file that does not exist: remove the link, or give another "
            f"{setting_name('out')}"
        )
    if "://" in plan.out:
        raise ConfigError(
            f"cannot write results to {shown_address(plan.out)}: give {setting_name('out', 'FILE')}, or an address at "
            f"{', '.join(f'{scheme}://' for scheme in sorted(WRITABLE))}"
        )
    if plan.work_dir is not None and plan.published_at is None:
        raise ConfigError(
            f"{setting_name('work_dir')} is for results in an object store, and {plan.out} is a file: leave it out"
        )
    if plan.out != "-" and (plain := without_suffix(plan.out)) != plan.out:
        raise ConfigError(
            f"{plan.out}: results are not compressed, as runs append to them: give {setting_name('out', plain)}, "
            "and then "
            f"process export {plain} --out {plan.out}"
        )
    if list(plan.job_files).count(STDIN) > 1:
        raise ConfigError("stdin (-) is given twice as a job file, and can be read once: name it once")
    if plan.report and plan.out == "-":
        raise ConfigError(
            f"{setting_name('report')} needs a results file: give {setting_name('out', 'FILE')} rather than "
            f"{setting_name('out', '-')}"
        )
    if plan.settings.max_cost_usd is not None and plan.out == "-":
        raise ConfigError(
            f"{setting_name('max_cost_usd')} counts what the rows have cost: give {setting_name('out', 'FILE')} "
            f"rather than {setting_name('out', '-')}"
        )


def _check_is_no_folder(path: Path) -> None:
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder, name a file in it")


def _is_local_file(path: str) -> bool:
    return path != STDIN and scheme_of(path) is None and Path(path).exists()


def _files(plan: Plan) -> Iterator[tuple[Path, str]]:
    if plan.out != "-":
        _check_is_no_folder(Path(plan.out))  # checked first: `OutputPaths.of` cannot derive names from `.`
        paths = OutputPaths.of(Path(plan.out))
        yield paths.replies, "the results file"
        yield paths.failures, "the errors file"
        yield paths.damaged, "the file for damaged lines"
        yield paths.history, "the history"
        yield paths.batches, "the journal of batches"
        yield paths.state, "the state file"
    if plan.log_file:
        yield plan.log_file, "the log"
    if plan.template:
        yield Path(plan.template), "the template"
    for path, purpose in (
        (plan.summary_json, "the summary"),
        (plan.metrics_file, "the metrics"),
        (plan.report, "the report"),
    ):
        if path:
            yield path, purpose
    if plan.settings.validate not in (None, SCHEMA_IN_JOB):
        yield Path(str(plan.settings.validate)), SCHEMA_FILE
    yield from ((Path(path), JOB_FILE) for path in plan.job_files if _is_local_file(path))


def refuse_open_batches(plan: Plan) -> None:
    """Raises ConfigError where jobs are in open batches, and this run would send them once more."""
    if plan.out != "-" and OutputPaths.of(Path(plan.out)).batches.exists():
        from processor.app.open_batches import refuse

        refuse(plan)
