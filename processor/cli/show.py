"""``process show``: one job with its reply."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from processor.cli.options import option
from processor.cli.results import Results, WorkDir, results_path
from processor.core import exit_codes
from processor.core.errors import ConfigError, reason

_LINE = "line:"


def show(
    results: Results,
    job: Annotated[str, typer.Argument(metavar="ID|line:N|line:FILE:N", hidden=True)],
    work_dir: WorkDir = None,
    as_json: Annotated[bool, option("Output", "--json", text="Print the row as it stands in the file.")] = False,
) -> int:
    """Prints the job with this id, or of this line of the job file: its reply or
    error, attempts, timing, tokens and cost. The exit code is 1 if there is none.

      process show results.jsonl invoice-17
      process show results.jsonl line:60112
      process show results.jsonl line:more.jsonl:3      of several job files
    """
    from processor.output.paths import OutputPaths
    from processor.output.row_lookup import find_row

    paths = OutputPaths.of_existing(results_path(results, work_dir))
    file, _, number = job.removeprefix(_LINE).rpartition(":")
    try:
        found = find_row(paths, custom_id=job)
        if found is None and job.startswith(_LINE) and number.isdecimal():
            found = find_row(paths, line=int(number), file=file or None)
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename or results}: {reason(error)}") from None
    if found is not None and found.row.get("custom_id") != job and not file and found.row.get("file"):
        raise ConfigError(f"line {number} of which job file? Write for example {_LINE}{found.row['file']}:{number}")
    if found is None:
        from processor.terminal.console import print_error

        what = f"line {number}{file and f' of {file}'}" if job.startswith(_LINE) else job
        files = f"{paths.replies} or {paths.failures.name}"
        print_error(f"no row of {what} in {files}: the job is not done yet, or belongs to another file")
        return exit_codes.INCOMPLETE
    _print(found.row, found.path, as_json=as_json)
    return exit_codes.COMPLETE


def _print(row: dict[str, Any], path: Path, *, as_json: bool) -> None:
    from processor.core.secrets import mask_text

    if as_json:
        from processor.core import json_bytes

        typer.echo(mask_text(json_bytes.dumps(row).decode()))
        return
    from processor.terminal.formatting import printable
    from processor.terminal.job_details import job_details
    from processor.terminal.label_table import plain_text

    details = job_details(row, path)
    typer.echo(plain_text(details.rows), nl=False)
    if details.text:
        typer.echo("\n" + printable(mask_text(details.text)))
