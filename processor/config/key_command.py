"""Runs a command that prints a key. What it prints is kept nowhere but in the key itself."""

from __future__ import annotations

from asyncio.subprocess import PIPE, Process
from pathlib import PurePath

from processor.core.errors import KeyCommandFailed, reason
from processor.core.process_groups import child_process
from processor.core.secrets import Secret, is_printable_ascii

TIMEOUT_S = 30.0
MAX_KEY_CHARS = 16_384
"""Tokens that hold claims are long, and no server takes headers of more than about this size."""


async def run_key_command(args: tuple[str, ...], *, timeout_s: float = TIMEOUT_S) -> Secret:
    """Returns the last line that the command prints to its standard output. Raises KeyCommandFailed.

    It is started without a shell, gets no input, and is killed where it takes longer than ``timeout_s`` or the caller
    is cancelled. Messages name the program alone: its arguments may hold secrets.
    """
    program = PurePath(args[0]).name
    try:
        async with child_process(args, timeout_s=timeout_s, stdout=PIPE) as process:
            tail = await _tail(process)
            code = await process.wait()
    except TimeoutError:  # an OSError, too
        raise KeyCommandFailed(f"the key command {program} did not end within {timeout_s:g} s") from None
    except OSError as error:
        raise KeyCommandFailed(f"the key command {program} cannot be started: {reason(error)}") from None
    except ValueError:
        raise KeyCommandFailed(f"the key command {program} cannot be started: an argument holds a null") from None
    if code != 0:
        raise KeyCommandFailed(f"the key command {program} failed with exit code {code}; run it by hand to see why")
    return _key(tail, program)


async def _tail(process: Process) -> bytes:
    """The end of what the process prints, however much that is."""
    assert process.stdout is not None
    tail = b""
    while piece := await process.stdout.read(65_536):
        tail = (tail + piece)[-2 * MAX_KEY_CHARS :]
    return tail


def _key(output: bytes, program: str) -> Secret:
    lines = output.decode("ascii", "replace").rstrip().splitlines()
    key = lines[-1].strip() if lines else ""
    if not key:
        raise KeyCommandFailed(f"the key command {program} printed nothing; run it by hand to see why")
    if not is_printable_ascii(key) or " " in key or len(key) > MAX_KEY_CHARS:
        raise KeyCommandFailed(
            f"the last line that the key command {program} printed is no key: it must be printable ASCII without spaces"
        )
    return Secret(key)
