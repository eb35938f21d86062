"""The program and its commands, one file each.

Only typer is imported at the start: a command imports what it needs when it is called, so that help is fast.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer

from processor.cli.estimate import EXIT_CODES as ESTIMATE_EXIT_CODES
from processor.cli.estimate import estimate
from processor.cli.help_formatter import CommandHelp, ProgramHelp
from processor.cli.rehearse import rehearse
from processor.cli.report import report
from processor.cli.run import EXIT_CODES, run
from processor.cli.show import show
from processor.cli.simulate import simulate
from processor.cli.status import status
from processor.cli.usage import usage_message
from processor.core import exit_codes
from processor.core.errors import ConfigError
from processor.core.secrets import mask_text

app = typer.Typer(name="process", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class RunByDefault(ProgramHelp):
    """``process jobs.jsonl`` means ``process run jobs.jsonl``: a first argument that is not a command is a job file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "--version"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def _version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"process {version('processor')}")
        raise typer.Exit


@app.callback(cls=RunByDefault)
def process(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Turns a file of LLM requests into a file of replies, as fast as the rate
    limit allows. Failed requests are retried, and no reply is lost or paid for
    twice. After a stop, run the same command again to resume.

    Try it without a key, at no cost:

      process jobs.jsonl --simulate

    Send real requests:

      export OPENAI_API_KEY=...
      process jobs.jsonl --out results.jsonl

    Full reference: process run --help
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of the program: its function, whose name it has, and its line on the help page."""

    function: Callable[..., int]
    summary: str
    epilog: str | None = None


COMMANDS = (
    Command(function=run, summary="Send every job of a file and write the replies.", epilog=EXIT_CODES),
    Command(function=status, summary="Print how a run stands, from another terminal."),
    Command(function=estimate, summary="Check a job file and say what it takes.", epilog=ESTIMATE_EXIT_CODES),
    Command(function=rehearse, summary="Play a run on a virtual clock and say how it went."),
    Command(function=show, summary="Print one job with its reply."),
    Command(function=report, summary="Write a page about a results file."),
    Command(function=simulate, summary="Run a fake LLM server."),
)
"""In the order of the help page. Each has a file of its own."""

for command in COMMANDS:
    app.command(cls=CommandHelp, epilog=command.epilog, short_help=command.summary)(command.function)


def main() -> NoReturn:
    """Runs the command line and exits. An error that the user can correct is printed as one line."""
    from processor.terminal.console import print_error

    _open_standard_streams()
    args = sys.argv[1:]
    try:
        # With standalone_mode off, typer returns what the command returns: the exit code.
        code = app(args or ["--help"], prog_name="process", standalone_mode=False) or 0
    except typer.TyperException as error:
        print_error(usage_message(error))
        code = exit_codes.NOTHING_SENT
    except ConfigError as error:
        print_error(str(error))
        code = exit_codes.NOTHING_SENT
    except KeyboardInterrupt:
        code = exit_codes.INTERRUPTED
    except Exception:  # noqa: BLE001
        sys.stderr.write(mask_text(traceback.format_exc()))
        print_error("internal error; please report the traceback above")
        code = exit_codes.INTERNAL_ERROR
    _flush_standard_streams()
    sys.exit(code if args else exit_codes.NOTHING_SENT)


def _open_standard_streams() -> None:
    """Opens closed standard streams on the null device: else a file opened later would get the number of one."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _flush_standard_streams() -> None:
    """Writes what is still buffered. A stream that cannot be written any more becomes the null device: Python would
    fail to flush it at its end, and exit with code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
