"""Exports the rows of an output: which rows, in which order, and into what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import field
from pathlib import Path

from processor.core.errors import ConfigError, reason
from processor.core.fast_dataclass import dataclass
from processor.core.json_reading import exact_fields
from processor.core.models import LINE_BITS
from processor.export.exported_row import ExportedRow
from processor.export.formats.base import Contents
from processor.export.formats.registry import FORMATS, format_name
from processor.export.output_file import STDOUT, output_file
from processor.export.pairing import pair
from processor.export.row_index import Place, RowIndex
from processor.input.job_files import JobFiles
from processor.input.job_formats import JobDefaults
from processor.input.template import Template
from processor.output.paths import OutputPaths
from processor.protocols.registry import DEFAULT_PATH
from processor.remote.addresses import is_writable, shown_address

_ANY_MODEL = "any"
"""For jobs that name no model: it is not part of what a row is compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    results: Path
    out: str
    format: str | None = None
    """None: by the end of the file's name."""
    inputs: tuple[str, ...] = ()
    """The job files. Rows then come in their order."""
    template: str | None = None
    """Makes jobs of tables among the job files."""
    endpoint: str = DEFAULT_PATH
    """The API path of jobs that name none."""
    sort: bool = False
    contents: Contents = field(default_factory=Contents)


@dataclass(slots=True, kw_only=True)
class ExportReport:
    """What was exported."""

    rows: int = 0
    without_row: int = 0
    """Jobs of the job files."""
    without_job: int = 0
    """Rows of which there is no job in the job files."""
    edited: int = 0
    """Jobs that ask for something else than what their row answers."""
    missing: int = 0
    """Values that were asked for and that replies do not have."""
    damaged: int = 0
    """Lines that are no rows."""

    @property
    def is_complete(self) -> bool:
        return not (self.without_row or self.missing or self.damaged)


def export(options: ExportOptions) -> ExportReport:
    """Raises ConfigError where something cannot be read, or does not go together, and OutputError."""
    name = format_name(options.format, options.out)
    make_format = FORMATS[name]
    _check(options, name)
    paths = OutputPaths.of_existing(options.results)
    report = ExportReport()
    try:
        with RowIndex((paths.replies, *((paths.failures,) if options.contents.with_failed else ()))) as index:
            report.damaged = index.damaged
            if report.damaged and not index.places:
                raise ConfigError(f"{options.results} is not a results file: it holds no row")
            with output_file(options.out) as file:
                written = make_format(file, options.contents)
                for exported in _rows(index, options, report):
                    if make_format.needs_jobs and exported.job is None:
                        continue
                    written.write(exported)
                    report.rows += 1
                written.finish()
                report.missing = written.missing
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename or options.results}: {reason(error)}") from None
    return report


def _check(options: ExportOptions, name: str) -> None:
    contents = options.contents
    if contents.text and contents.json_fields:
        raise ConfigError("--text and --json-field do not go together: each says what a line is")
    if contents.text and name != "jsonl":
        raise ConfigError(f"--text is for --format jsonl: {name} has the text of each reply in it")
    if contents.json_fields and name in ("cookbook", "openai-batch"):
        raise ConfigError(f"--json-field is for --format jsonl, csv, tsv and parquet, not {name}")
    if (contents.with_input or FORMATS[name].needs_jobs) and not options.inputs:
        needed = "--with-input" if contents.with_input else f"--format {name}"
        raise ConfigError(f"{needed} needs the job files: give --input JOBS")
    if "-" in options.inputs:
        raise ConfigError("--input reads the jobs twice, so not from stdin: save them to a file")
    paths = OutputPaths.of(options.results)
    taken = {path.resolve() for path in (paths.replies, paths.failures, *map(Path, options.inputs))}
    if options.out == STDOUT or is_writable(options.out):
        return
    if "://" in options.out:
        raise ConfigError(f"cannot write {shown_address(options.out)}: give --out FILE, s3://, gs:// or az://")
    if Path(options.out).resolve() in taken:
        raise ConfigError(f"{options.out} is read by this export: give another --out")
    if Path(options.out).is_dir():
        raise ConfigError(f"cannot write {options.out}: it is a folder, name a file in it")


def _rows(index: RowIndex, options: ExportOptions, report: ExportReport) -> Iterator[ExportedRow]:
    if options.inputs:
        yield from _in_input_order(index, options, report)
        return
    for place in _by_line(index) if options.sort else index.places:
        yield ExportedRow(index.raw(place))


def _by_line(index: RowIndex) -> list[Place]:
    """The rows by the names of their job files, and by their lines within them."""
    names: dict[str, int] = {}
    lines: list[tuple[int, Place]] = []
    for place in index.places:
        row = exact_fields(index.raw(place))
        file, line = row.get("file"), row.get("line")
        number = names.setdefault(file if isinstance(file, str) else "", len(names))
        lines.append((number << LINE_BITS | (line if type(line) is int and line >= 0 else 0), place))
    order = {names[name]: rank for rank, name in enumerate(sorted(names))}
    lines.sort(key=lambda entry: (order[entry[0] >> LINE_BITS], entry[0]))
    return [place for _, place in lines]


def _in_input_order(index: RowIndex, options: ExportOptions, report: ExportReport) -> Iterator[ExportedRow]:
    defaults = JobDefaults(endpoint=options.endpoint, model=_ANY_MODEL)
    template = None if options.template is None else Template(options.template)
    with closing(JobFiles(options.inputs, defaults, template=template)) as job_files:
        for place, job in pair(index, job_files.parse_lines):
            if place is None:
                report.without_row += 1
                continue
            exported = ExportedRow(index.raw(place), job)
            report.without_job += job is None
            report.edited += job is not None and exported.row.get("id") not in (None, job.fingerprint)
            yield exported
