"""Recognizes, by its beginning, a file that is not one JSON object a line, and says how to make it one.

Without this, each line of such a file would become a failed row.
"""

from __future__ import annotations

import orjson

from processor.core.lazy_pattern import LazyPattern
from processor.core.text import setting_name

HEAD_BYTES = 64 * 1024
ENOUGH_LINES = 4
"""Lines that tell what a pipe brings, where the first of them is not an object."""

_ZIP_MARK, _EXCEL_MARK, _PARQUET_MARK = b"PK\x03\x04", b"[Content_Types].xml", b"PAR1"
_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "zcat"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstdcat"),
    (b"\xfd7zXZ\0", "xz", "xzcat"),
    (b"BZh", "bzip2", "bzcat"),
    (_ZIP_MARK, "zip", "unzip -p"),
)
"""The first bytes of compressed files, their format, and the command that unpacks them."""

_UTF32_MARKS = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_HEADER = LazyPattern(rb'"?[A-Za-z_][\w .-]*"?(([,;\t])"?[\w .-]+"?)(\2"?[\w .-]+"?)*')
_COLUMNS = frozenset({"id", "custom_id", "prompt", "model", "messages", "system", "text", "question", "input", "body"})
_CSV_TO_JSON = "import csv,json; [print(json.dumps(row)) for row in csv.DictReader(open(0,encoding='utf-8-sig')%s)]"


def other_format(head: bytes, name: str) -> str | None:
    """Return what the file is and what to do, as a message; None where it may hold jobs.

    ``head`` holds its first HEAD_BYTES, or all of it.
    """
    if (message := _by_first_bytes(head, name)) is not None:
        return message
    if head.startswith(_UTF16_MARKS) or _is_utf16(head):
        return f"{name} is UTF-16: convert it, for example with iconv -f UTF-16 -t UTF-8 {name} >jobs.jsonl"
    if _has_only_carriage_returns(head):
        return f"{name} ends its lines with carriage returns only: convert it, with tr '\\r' '\\n' <{name} >jobs.jsonl"
    lines = [line.strip() for line in head.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    if not lines:
        return None
    if _is_binary(head) and not any(map(_is_object, lines)):
        return f"{name} is a binary file, not text with one JSON object a line"
    if _is_array(lines):
        return f"{name} is one JSON array, not one job a line: convert it, with jq -c '.[]' {name} >jobs.jsonl"
    if lines[0] == b"{":
        return f"{name} is JSON over several lines, not one job a line: convert it, with jq -c . {name} >jobs.jsonl"
    if (delimiter := _csv_delimiter(lines)) is not None:
        option = "" if delimiter == "," else f",delimiter={delimiter!r}"
        return f'{name} is CSV, not JSON: convert it, with python3 -c "{_CSV_TO_JSON % option}" <{name} >jobs.jsonl'
    return None


def _by_first_bytes(head: bytes, name: str) -> str | None:
    """Do the same by the mark with which files of some formats begin."""
    if head.startswith(_ZIP_MARK) and _EXCEL_MARK in head:
        return (
            f"{name} is an Excel workbook: save the sheet as CSV, and give that with {setting_name('template', 'FILE')}"
        )
    if head.startswith(_PARQUET_MARK):
        return f"{name} is a Parquet file: give it a name that ends in .parquet, and {setting_name('template', 'FILE')}"
    for mark, kind, unpack in _COMPRESSED:
        if head.startswith(mark):
            named = "give the name of the file, or unpack it" if kind in ("gzip", "zstd") else "unpack it"
            return f"{name} is compressed ({kind}): {named}, for example with {unpack} FILE | process - --out RESULTS"
    if head.startswith(_UTF32_MARKS):
        return f"{name} is UTF-32: convert it, for example with iconv -f UTF-32 -t UTF-8 {name} >jobs.jsonl"
    return None


def is_enough(head: bytes) -> bool:
    """Whether ``other_format`` can tell from this beginning of a pipe, of which more may not come for long."""
    lines = [line.strip() for line in head.removeprefix(b"\xef\xbb\xbf").split(b"\n")[:-1] if line.strip()]
    return len(head) >= HEAD_BYTES or len(lines) >= ENOUGH_LINES or bool(lines and _is_object(lines[0]))


def _is_binary(head: bytes) -> bool:
    """Whether it holds zeros and is no UTF-8. Zeros alone may be what a loss of power has left of a text."""
    return b"\0" in head and b"\xef\xbf\xbd" in head[: HEAD_BYTES - 4].decode(errors="replace").encode()


def _is_utf16(head: bytes) -> bool:
    start = head[:64]
    return len(start) >= 4 and (not any(start[0::2]) or not any(start[1::2])) and any(start)


def _has_only_carriage_returns(head: bytes) -> bool:
    if b"\n" in head:
        return False
    pieces = [piece for piece in head.split(b"\r") if piece.strip()]
    return len(pieces) > 1 and _is_object(pieces[0])


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _is_array(lines: list[bytes]) -> bool:
    """Whether the lines are one array of objects, on one line or several; not one broken line among jobs."""
    start = b"".join(lines[:2])
    if not start.startswith(b"[") or not start[1:].lstrip().startswith(b"{"):
        return False
    return not any(map(_is_object, lines[1:3])) or lines[0] == b"["


def _csv_delimiter(lines: list[bytes]) -> str | None:
    """Return what separates the columns, if the first line names some that a job may have, and no line looks like JSON.

    None where it does not.
    """
    header = _HEADER.fullmatch(lines[0])
    if not header or any(line.startswith((b"{", b"[")) for line in lines):
        return None
    delimiter = header[2].decode()
    names = lines[0].decode().split(delimiter)
    return delimiter if any(name.strip(' "').lower() in _COLUMNS for name in names) else None
