"""``process export``: the rows of an output in another format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from processor.cli.options import option
from processor.cli.results import Results, WorkDir, results_path
from processor.core import exit_codes
from processor.core.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from processor.export.export import ExportReport

EXIT_CODES = """
Exit codes:
  0    everything that was asked for is in the file
  1    jobs have no row, or replies lack a value: a line says how many
  2    nothing was written
"""


def export(
    results: Results,
    out: Annotated[
        str | None,
        option("Files", "--out", "-o", metavar="FILE", text="File to write; .gz, .zst: compressed; -: stdout."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        option("Files", "--input", metavar="JOBS", text="The job file; repeat it for several. Rows come in its order."),
    ] = None,
    work_dir: WorkDir = None,
    template: Annotated[
        str | None, option("Files", "--template", metavar="FILE", text="As in the run, where --input is a table.")
    ] = None,
    format_name: Annotated[
        str | None,
        option(
            "Format",
            "--format",
            metavar="NAME",
            text="jsonl, csv, tsv, parquet, cookbook or openai-batch. [default: by the name of FILE]",
        ),
    ] = None,
    text: Annotated[bool, option("Format", "--text", text="Only the reply's text, as a JSON string a line.")] = False,
    json_field: Annotated[
        list[str] | None,
        option("Format", "--json-field", metavar="A.B", text="A field of replies that are JSON; may be repeated."),
    ] = None,
    sort: Annotated[bool, option("Rows", "--sort", text="In the order of the job file.")] = False,
    with_input: Annotated[bool, option("Rows", "--with-input", text="Add the line of --input to each row.")] = False,
    with_failed: Annotated[bool, option("Rows", "--with-failed", text="Also the rows of failed jobs.")] = False,
    endpoint: Annotated[
        str | None,
        option("Rows", "--endpoint", metavar="PATH", text="As in the run: API path of jobs of --input without url."),
    ] = None,
) -> int:
    """Writes the replies in RESULTS to a file for a table, a notebook or another
    program: of each job the row that counts.

    Tables have a column for the text, the tokens, the cost and so on. --input
    finds each job by its id, else by what it asks, however the file was edited.

      process export results.jsonl --out results.parquet
      process export results.jsonl --out results.csv.gz --sort
      process export results.jsonl --out texts.jsonl --text
      process export results.jsonl --out all.csv --input jobs.jsonl --with-input
      process export results.jsonl --out scores.csv --json-field score
      process export results.jsonl --out batch.jsonl --format openai-batch
      process export results.jsonl --out s3://bucket/results.parquet
      process export s3://bucket/results.jsonl --out all.jsonl
    """
    from processor.export.export import ExportOptions
    from processor.export.export import export as write_export
    from processor.export.formats.base import Contents
    from processor.protocols.registry import DEFAULT_PATH
    from processor.remote.addresses import shown_address

    if not out:
        raise ConfigError("where to? Give --out FILE, for example --out results.csv")
    contents = Contents(with_input=with_input, with_failed=with_failed, text=text, json_fields=tuple(json_field or ()))
    options = ExportOptions(
        results=results_path(results, work_dir),
        out=out,
        format=format_name or ("jsonl" if out == "-" else None),
        inputs=tuple(inputs or ()),
        template=template,
        endpoint=endpoint or DEFAULT_PATH,
        sort=sort,
        contents=contents,
    )
    try:
        report = write_export(options)
    except OutputError as error:
        raise ConfigError(str(error)) from None
    typer.echo(f"{'stdout' if out == '-' else shown_address(out)}: {_summary(report)}", err=out == "-")
    return exit_codes.COMPLETE if report.is_complete else exit_codes.INCOMPLETE


def _summary(report: ExportReport) -> str:
    from processor.terminal.formatting import plural

    notes = (
        (report.without_row, "job of --input without a row", "jobs of --input without a row"),
        (report.without_job, "row without a job in --input", "rows without a job in --input"),
        (report.edited, "job edited since its reply", "jobs edited since their replies"),
        (report.missing, "value missing in a reply", "values missing in replies"),
        (report.damaged, "damaged line left out", "damaged lines left out"),
    )
    found = (f"; {plural(count, one, many)}" for count, one, many in notes if count)
    return plural(report.rows, "row") + "".join(found)
