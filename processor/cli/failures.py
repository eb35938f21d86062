"""Prints the error that ended a command, and says which exit code it has."""

from __future__ import annotations

import sys
import traceback

import typer

from processor.cli.usage import usage_message
from processor.core import exit_codes
from processor.core.errors import ConfigError
from processor.core.secrets import mask_text
from processor.terminal.console import print_error


def print_failure(error: Exception) -> int:
    """Prints an error as one line where the user can correct it, else with its traceback. Returns the exit code."""
    match error:
        case typer.TyperException():
            print_error(usage_message(error))
        case ConfigError():
            print_error(str(error))
        case _:
            sys.stderr.write(mask_text("".join(traceback.format_exception(error))))
            print_error("internal error; please report the traceback above")
            return exit_codes.INTERNAL_ERROR
    return exit_codes.NOTHING_SENT
