"""Byte codes that a job executes, by folder, file or function: ``python -m tests.benchmarks.bytecodes [--by file]``.

A count depends little on what else the machine does, where a CPU time tells changes of a few hundredths only after
many turns. Work in C counts as nothing: compare two checkouts (``--beside FOLDER``), then confirm with ``slices``. The
counts are those of a long run less those of a short one, so that they exclude starting up. The server announces no
limits: what the rate limiter learns from headers depends on how far apart requests are sent, and tracing changes that.
``--chunks 5``: a streamed reply of so many chunks; ``body``: one JSON body.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson

from tests.benchmarks.measure import PROGRAMS, Checkout, Server, add_beside, checkouts, run, server, show, write_jobs

SHORT, LONG = 500, 1500
"""Jobs of the two runs."""
STREAMS = 64
LEAST_SHOWN = 10
"""Byte codes a job."""


def counts_of(checkout: Checkout, running: Server, jobs: int, *, streamed: bool) -> dict[str, list[int]]:
    """Byte codes and calls of one run, by function."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = write_jobs(folder / "jobs.jsonl", jobs, streamed=streamed)
        flags = ["--base-url", running.base_url, "--concurrency", str(STREAMS), "--no-progress", "--quiet"]
        program = [checkout.python, str(PROGRAMS / "traced.py"), str(folder / "counts.json")]
        run([*program, str(lines), "--out", str(folder / "out.jsonl"), *flags], checkout=checkout)
        counts: dict[str, list[int]] = orjson.loads((folder / "counts.json").read_bytes())
        return counts


def byte_codes_of_a_job(checkout: Checkout, running: Server, by: str, *, streamed: bool) -> Counter[str]:
    short, long = (counts_of(checkout, running, jobs, streamed=streamed) for jobs in (SHORT, LONG))
    byte_codes: Counter[str] = Counter()
    for function, (count, _) in long.items():
        byte_codes[place(function, checkout.folder, by)] += count - short.get(function, [0])[0]
    return Counter({name: round(count / (LONG - SHORT)) for name, count in byte_codes.items()})


def place(function: str, folder: Path, by: str) -> str:
    """The name under which a function is counted."""
    file, _, name = function.partition(":")
    file = file.removeprefix(f"{folder}/").rpartition("site-packages/")[2]
    if by == "function":
        return f"{file}:{name}"
    return file if by == "file" else "/".join(file.split("/")[: 2 if file.startswith("processor/") else 1]) or "python"


def rows_of(counted: list[Counter[str]]) -> Iterator[list[str]]:
    yield ["all", *(f"{one.total():,}" for one in counted)]
    for name, count in counted[0].most_common():
        if count >= LEAST_SHOWN:
            yield [name, *(f"{one[name]:,}" for one in counted)]
    for name, count in counted[-1].most_common():
        if count >= LEAST_SHOWN > counted[0][name]:
            yield [name, *(f"{one[name]:,}" for one in counted)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", default="body", metavar="N", help="chunks of a reply, or `body`")
    parser.add_argument("--by", choices=("folder", "file", "function"), default="folder")
    add_beside(parser)
    arguments = parser.parse_args()
    chunks = 0 if arguments.chunks == "body" else int(arguments.chunks)
    chosen = checkouts(arguments)
    with server(chunks, 0, STREAMS) as running:
        counted = [byte_codes_of_a_job(one, running, arguments.by, streamed=chunks > 0) for one in chosen]
    show(
        f"Byte codes of a job, replies: {arguments.chunks}", ["", *(one.name for one in chosen)], list(rows_of(counted))
    )


if __name__ == "__main__":
    main()
