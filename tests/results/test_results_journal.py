from __future__ import annotations

import asyncio
import json
from pathlib import Path

from processor.models import Failure, Reply, Result, Timing, Usage
from processor.results.journal import Journal
from processor.results.ledger import Standing
from processor.results.sink import WHOLE

TIMING = Timing(started_at="2026-01-01T00:00:00Z", queued_s=0.0, first_token_s=0.1, total_s=0.2)


def fingerprint(name: str) -> str:
    return name.encode().hex().ljust(32, "0")[:32]


def reply(name: str, text: str = "hello", *, fp: str | None = None, attempts: int = 1, line: int = 1) -> Result:
    return Result(
        fingerprint=fp or fingerprint(name),
        custom_id=name,
        line=line,
        reply=Reply(status_code=200, request_id="r", body={"text": text}),
        usage=Usage(prompt_tokens=1, completion_tokens=2),
        usage_source="computed",
        attempts=attempts,
        timing=TIMING,
    )


def failure(name: str, code: str = "timeout", *, own_fault: bool = False, attempts: int = 6) -> Result:
    return Result(
        fingerprint=fingerprint(name),
        custom_id=name,
        line=1,
        failure=Failure(code=code, message="no", own_fault=own_fault),
        attempts=attempts,
        timing=TIMING,
    )


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_run_leaves_its_rows_and_the_next_one_knows_them(tmp_path):
    async def first():
        async with Journal(tmp_path / "out.jsonl") as journal:
            await asyncio.gather(*(journal.append(reply(name)) for name in "abc"), journal.append(failure("d")))
            await journal.close(WHOLE)

    asyncio.run(first())
    assert [row["custom_id"] for row in read(tmp_path / "out.jsonl")] == ["a", "b", "c"]
    assert [row["custom_id"] for row in read(tmp_path / "out.errors.jsonl")] == ["d"]
    journal = Journal(tmp_path / "out.jsonl")
    assert (journal.replied, journal.failed) == (3, 1)
    assert journal.ledger.meet("a", fingerprint("a")) is Standing.DONE
    assert journal.ledger.meet("a", fingerprint("a")) is Standing.DUPLICATE
    assert journal.ledger.meet("b", fingerprint("x")) is Standing.CHANGED
    assert journal.ledger.meet("d", fingerprint("d")) is Standing.FAILED
    assert journal.ledger.meet("e", fingerprint("e")) is Standing.NEW
    asyncio.run(journal.close(WHOLE))


def test_a_reply_drops_the_failed_row(tmp_path):
    async def run(*results):
        async with Journal(tmp_path / "out.jsonl") as journal:
            for result in results:
                await journal.append(result)
            await journal.close(WHOLE)

    asyncio.run(run(failure("a"), failure("b")))
    asyncio.run(run(reply("a"), failure("b", attempts=12)))
    assert [row["attempts"] for row in read(tmp_path / "out.errors.jsonl")] == [12]
    asyncio.run(run(reply("b"), reply("a", "again", fp="0" * 32)))
    assert not (tmp_path / "out.errors.jsonl").exists()
    assert [row["response"]["body"]["text"] for row in read(tmp_path / "out.jsonl")] == ["hello", "again"]
