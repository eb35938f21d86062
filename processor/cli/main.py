"""The program and its commands, one file each.

Only typer is imported at the start. The file of a command is imported when the command is called or its help is
asked for, and imports what the command needs when it runs, so that help is fast.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from processor.cli.command_parser import CommandParser
from processor.cli.help_formatter import ProgramHelp
from processor.core import exit_codes
from processor.core.fast_dataclass import dataclass
from processor.core.gc_pause import resume_gc


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of the program. The function of its name in the file of its name runs it and returns the exit code;
    what ``EXIT_CODES`` says there ends its help page."""

    name: str
    summary: str
    """Its line on the help page of the program."""
    ends_gc_pause: bool = False
    """Whether its function calls ``resume_gc``, once it has imported what it needs."""

    def load(self) -> Any:
        module = import_module(f"processor.cli.{self.name}")
        if not self.ends_gc_pause:
            resume_gc()
        command_app = new_app()
        epilog = getattr(module, "EXIT_CODES", None)
        command_app.command(self.name, cls=CommandParser, epilog=epilog)(getattr(module, self.name))
        return typer.main.get_command(command_app)


COMMANDS = (
    Command(name="run", summary="Send every job of a file and write the replies.", ends_gc_pause=True),
    Command(name="status", summary="Print how a run stands, from another terminal."),
    Command(name="estimate", summary="Check a job file and say what it takes."),
    Command(name="rehearse", summary="Play a run on a virtual clock and say how it went."),
    Command(name="show", summary="Print one job with its reply."),
    Command(name="report", summary="Write a page about a results file."),
    Command(name="export", summary="Write the replies as a table or for another program."),
    Command(name="batch", summary="List, cancel and settle batches at the provider."),
    Command(name="simulate", summary="Run a fake LLM server."),
)
"""In the order of the help page."""


def new_app() -> typer.Typer:
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Program(ProgramHelp):
    """The program: its commands are loaded when they are used.

    ``process jobs.jsonl`` means ``process run jobs.jsonl``: a first argument that is not a command is a job file.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return [command.name for command in COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return next((command.load() for command in COMMANDS if command.name == cmd_name), None)

    def command_summaries(self) -> list[tuple[str, str]]:
        return [(command.name, command.summary) for command in COMMANDS]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.list_commands(ctx), "--help", "--version"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = new_app()


def _version(requested: bool) -> None:
    if requested:
        from processor.core.version import __version__

        typer.echo(f"process {__version__}")
        raise typer.Exit


@app.callback(cls=Program)
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


def main() -> NoReturn:
    """Runs the command line and exits. An error that the user can correct is printed as one line."""
    _open_standard_streams()
    args = sys.argv[1:]
    try:
        # With standalone_mode off, typer returns what the command returns: the exit code.
        code = app(args or ["--help"], prog_name="process", standalone_mode=False) or 0
    except KeyboardInterrupt:
        code = exit_codes.INTERRUPTED
    except Exception as error:  # noqa: BLE001
        from processor.cli.failures import print_failure

        code = print_failure(error)
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
