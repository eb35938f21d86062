"""What is wrong with an output: values only."""

from __future__ import annotations

from processor.core.fast_dataclass import dataclass

MAX_PROBLEMS = 5
"""So many of one output are named: to the model that is asked again, and in the row."""
MAX_MESSAGE_CHARS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One way in which an output is not valid."""

    pointer: str
    """Where in the output, as a JSON pointer (RFC 6901); empty for the whole of it."""
    message: str
    is_undecided: bool = False
    """The check was given up: it is not known whether the output is valid, and another reply would fare no better."""

    def __str__(self) -> str:
        return f"{self.pointer}: {self.message}" if self.pointer else self.message


class InvalidSchema(Exception):
    """A schema cannot be used. The message says why."""
