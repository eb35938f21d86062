"""Reading the journal's files: any size, in constant memory (but for the longest line)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from processor.errors import ConfigError
from processor.results.disk import Disk, File
from processor.results.ledger import Ledger
from processor.results.rows import Row, decode

CHUNK_BYTES = 1 << 20
MAX_NAMED = 100
"""So many damaged lines are named; more are only counted."""

_HEAD = re.compile(rb'\{"id":"[0-9a-f]{32}"')
_TEMPLATE = b'{"id":"' + b"0" * 32 + b'"'


@dataclass(slots=True)
class Findings:
    """What reading one file through has shown."""

    size: int = 0
    """Bytes of whole lines. Behind them stands the torn one, if there is one."""
    torn: bool = False
    unended: bool = False
    """The last row is whole, only its line feed is missing."""
    damaged: int = 0
    damaged_lines: list[int] = field(default_factory=list)
    """Line numbers, the first MAX_NAMED of them."""
    rows: int = 0
    foreign: int = 0
    """Damaged lines that do not even begin as a row does."""


def lines(file: File) -> Iterator[tuple[bytes, bool]]:
    """Every line without its line feed, and whether it had one. Only the last may have none."""
    parts: list[bytes] = []
    at = 0
    while chunk := file.read(at, CHUNK_BYTES):
        at += len(chunk)
        first, *rest = chunk.split(b"\n")
        parts.append(first)
        if not rest:
            continue
        yield b"".join(parts), True
        parts = [rest.pop()]
        for line in rest:
            yield line, True
    if last := b"".join(parts):
        yield last, False


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    raw: bytes
    row: Row | None
    """None where it is none of the rows this file is for."""
    ended: bool


def read_rows(file: File, *, replies: bool) -> Iterator[Line]:
    """Every line that is not blank."""
    for number, (raw, ended) in enumerate(lines(file), 1):
        if not raw or raw.isspace():
            continue
        try:
            row = decode(raw)
        except ValueError:
            yield Line(number, raw, None, ended)
        else:
            yield Line(number, raw, row if row.replied is replies else None, ended)


def scan(disk: Disk, path: Path, ledger: Ledger, *, replies: bool, simulated: bool) -> Findings:
    """Enter the rows of a file into the ledger. Changes nothing on disk.

    Raises ConfigError where the file is of another kind: rehearsed rows among real ones, or no results at all.
    """
    found = Findings()
    if not disk.exists(path):
        return found
    file = disk.open(path, "read")
    try:
        found.size = file.size()
        for line in read_rows(file, replies=replies):
            if line.row is None:
                _note_damage(found, line)
                continue
            if line.row.simulated is not simulated:
                raise ConfigError(_mixed(path, simulated))
            found.rows += 1
            found.unended = not line.ended
            ledger.enter(line.row, line.raw)
    finally:
        file.close()
    if found.foreign and not found.rows:
        raise ConfigError(f"{path} holds something else than results: give another --out, or move it away")
    return found


def _note_damage(found: Findings, line: Line) -> None:
    found.foreign += not _begins_as_a_row(line.raw)
    if not line.ended:
        found.torn = True
        found.size -= len(line.raw)
        return
    found.damaged += 1
    if found.damaged <= MAX_NAMED:
        found.damaged_lines.append(line.number)


def _begins_as_a_row(line: bytes) -> bool:
    # After a loss of power, some file systems leave zeros where the data should be.
    return bool(_HEAD.match(line[: len(_TEMPLATE)] + _TEMPLATE[len(line) :])) or not line.strip(b"\0")


def _mixed(path: Path, simulated: bool) -> str:
    there, here = ("real", "a rehearsal's") if simulated else ("a rehearsal's", "real")
    return f"{path} holds {there} rows, and this run's would be {here}: give another --out, or move it away"
