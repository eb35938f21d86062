"""How long a resume takes, and what it holds: ``python tests/benchmarks/resume.py [ROWS] [FOLDER]``.

Writes ROWS rows of about 1.5 KB (kept for the next time), reads them as the next run would, then meets every job.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

from processor.models import Reply, Result, Timing, Usage
from processor.results.journal import Journal
from processor.results.ledger import Standing
from processor.results.rows import encode

TEXT = 'The answer is not what you would expect,\nbut it is "the right one" \u2013 as far as we know. ' * 9
BODY = {
    "id": "chatcmpl-123",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 250, "total_tokens": 350},
}
ROW = Result(
    fingerprint="",
    custom_id="",
    line=0,
    reply=Reply(status_code=200, request_id="req-123", body=BODY),
    usage=Usage(prompt_tokens=100, completion_tokens=250),
    usage_source="reported",
    attempts=1,
    timing=Timing(started_at="2026-01-01T00:00:00.000Z", queued_s=0.01, first_token_s=0.3, total_s=2.5),
    cost_usd=0.0001,
)


def jobs(count: int) -> Iterator[tuple[str, str]]:
    return ((f"request-{n}", f"{n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}") for n in range(count))


def write(path: Path, count: int) -> None:
    with path.open("wb", buffering=1 << 20) as file:
        for line, (custom_id, fingerprint) in enumerate(jobs(count), 1):
            file.write(encode(replace(ROW, custom_id=custom_id, fingerprint=fingerprint, line=line)))


def resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    path = Path(sys.argv[2] if len(sys.argv) > 2 else gettempdir()) / f"resume-{count}.jsonl"
    if not path.exists():
        write(path, count)
    before = resident()
    began = time.perf_counter()
    journal = Journal(path)
    opened = time.perf_counter()
    print(f"{path.stat().st_size / 1e9:.2f} GB, {journal.replied} replies read in {opened - began:.2f} s")
    began = time.perf_counter()
    assert all(journal.ledger.meet(*job) is Standing.DONE for job in jobs(count))
    print(f"{(time.perf_counter() - began) / count * 1e6:.2f} µs to meet a job")
    print(f"{(resident() - before) / count:.1f} bytes a job at the peak")


if __name__ == "__main__":
    main()
