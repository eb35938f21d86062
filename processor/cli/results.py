"""RESULTS: the argument of the commands that read results, and the folder of those in an object store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from processor.cli.options import option
from processor.remote.addresses import is_writable

Results = Annotated[str, typer.Argument(metavar="RESULTS", hidden=True)]
WorkDir = Annotated[
    Path | None,
    option(
        "Files",
        "--work-dir",
        metavar="DIR",
        text="RESULTS at s3://, gs://, az://: its files on this machine. [default: in the cache folder]",
    ),
]


def results_path(results: str, work_dir: Path | None) -> Path:
    """Return the results file. For an address this is the one of its work folder, brought up to date.

    Raises ConfigError.
    """
    if not is_writable(results) and work_dir is None:
        return Path(results)
    from processor.publishing.reading import local_results
    from processor.terminal.label_table import LabelRow, print_rows

    return local_results(results, work_dir, os.environ, lambda text: print_rows([LabelRow("note", text, "warning")]))
