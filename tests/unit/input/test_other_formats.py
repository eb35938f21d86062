"""Files that are not one JSON object a line are recognized by their beginning."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from processor.core.errors import ConfigError
from processor.input.job_file import JobFile
from processor.input.job_formats import JobDefaults
from processor.input.other_formats import HEAD_BYTES, other_format

JOBS = [{"id": str(number), "model": "m", "prompt": f"Grüße {number}, and more"} for number in range(3)]
LINES = "".join(json.dumps(job) + "\n" for job in JOBS)
DATA = LINES.encode()

OTHER = {
    "gzip in gzip": (gzip.compress(gzip.compress(DATA)), r"is compressed \(gzip\): give the name of the file"),
    "xz": (
        lzma.compress(DATA),
        r"is compressed \(xz\): unpack it, for example with xzcat FILE \| process - --out RESULTS",
    ),
    "bzip2": (bz2.compress(DATA), r"is compressed \(bzip2\)"),
    "zip": (b"PK\x03\x04\x14\0\0\0", r"is compressed \(zip\)"),
    "excel": (b"PK\x03\x04\x14\0\x06\0[Content_Types].xml", "is an Excel workbook: save the sheet as CSV"),
    "parquet": (b"PAR1\x15\x04\x15\x10\xff", "is a Parquet file: give it a name that ends in .parquet"),
    "program": (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\0>\0\n\xd0\xff{}\n", "is a binary file, not text"),
    "utf-16 with a mark": (LINES.encode("utf-16"), "is UTF-16: convert it, for example with iconv -f UTF-16"),
    "utf-16 little-endian": (LINES.encode("utf-16-le"), "is UTF-16"),
    "utf-16 big-endian": (LINES.encode("utf-16-be"), "is UTF-16"),
    "utf-32": (LINES.encode("utf-32"), "is UTF-32: convert it, for example with iconv -f UTF-32"),
    "cr only": (DATA.replace(b"\n", b"\r"), "ends its lines with carriage returns only"),
    "pretty array": (json.dumps(JOBS, indent=2).encode(), "is one JSON array, not one job a line"),
    "pretty array with a mark": (b"\xef\xbb\xbf" + json.dumps(JOBS, indent=2).encode(), "is one JSON array"),
    "array of lines": (b"[\n" + b",\n".join(DATA.split(b"\n")[:3]) + b"\n]\n", "is one JSON array"),
    "array of lines, commas first": (b"[" + b"\n,".join(DATA.split(b"\n")[:3]) + b"\n]\n", "is one JSON array"),
    "array on one line": (json.dumps(JOBS).encode(), "is one JSON array"),
    "long array": (json.dumps(JOBS * 1000).encode(), "is one JSON array"),
    "pretty objects": ("\n".join(json.dumps(job, indent=2) for job in JOBS).encode(), "is JSON over several lines"),
    "csv": (b"id,prompt\n1,Hello\n2,World\n", "is CSV, not JSON: convert it, with python3"),
    "quoted csv": (b'"id";"prompt"\r\n"1";"Hello; you"\r\n', "is CSV"),
    "tab-separated": (b"custom_id\tprompt\n1\tHello\n", "is CSV"),
}

JOB_FILES = {
    "jobs": DATA,
    "crlf": DATA.replace(b"\n", b"\r\n"),
    "byte order mark": b"\xef\xbb\xbf" + DATA,
    "one job with carriage returns in it": b'{"id": "a",\r"model": "m",\r"prompt": "x"}',
    "one broken line": b"broken\n" + DATA,
    "broken line that starts an array": b'[{"id": 1\n' + DATA,
    "an array among jobs": b"[]\n" + DATA,
    "notes": b"dear diary, hello\n",
    "csv header among jobs": b"id,prompt\n" + DATA,
    "nul among text": b'{"a": "\0"}\n' + DATA,
    "blank": b" \n\n",
    "empty": b"",
    "zeros": bytes(100),
    "zeros before a job": bytes(100) + DATA.split(b"\n")[0],
    "a byte that is no UTF-8": b'{"a": "\xff"}\n',
    "zeros and a byte that is no UTF-8 among jobs": b"\0\xff\n" + DATA,
}


@pytest.mark.parametrize("kind", OTHER)
def test_file_of_another_format_is_refused_with_what_to_do(tmp_path: Path, kind: str) -> None:
    data, message = OTHER[kind]
    path = tmp_path / "jobs"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message) as caught:
        JobFile(str(path), JobDefaults())
    assert str(caught.value).startswith(f"{path} ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", JOB_FILES)
def test_file_that_may_hold_jobs_is_accepted(kind: str) -> None:
    assert other_format(JOB_FILES[kind][:HEAD_BYTES], "jobs.jsonl") is None


CONVERTED = [{"id": "1", "prompt": "Hello; you, there"}, {"id": "2", "prompt": "Grüße"}]


@pytest.mark.process
@pytest.mark.skipif(os.name == "nt", reason="the command is for a POSIX shell")
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_command_for_csv_makes_jobs_of_it(tmp_path: Path, delimiter: str, encoding: str) -> None:
    with open(tmp_path / "jobs.csv", "w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, ["id", "prompt"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(CONVERTED)
    message = other_format((tmp_path / "jobs.csv").read_bytes(), "jobs.csv")
    assert message is not None
    command = message.partition("convert it, with ")[2].replace("python3", shlex.quote(sys.executable), 1)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    assert [json.loads(line) for line in (tmp_path / "jobs.jsonl").read_text().splitlines()] == CONVERTED
