from __future__ import annotations

import asyncio
import os

import pytest

from processor.core.errors import OutputError
from processor.output.job_index import JobStatus
from processor.output.row_json import encode_row
from processor.output.sink import END_OF_FILE
from processor.output.stdout_sink import StdoutSink
from tests.support.results_samples import failure, fingerprint_of, reply, rows


def pipe() -> tuple[int, int]:
    return os.pipe()


def drain(end: int) -> bytes:
    with os.fdopen(end, "rb") as file:
        return file.read()


def test_replies_go_to_stdout_and_failures_to_stderr() -> None:
    (out, out_end), (err, err_end) = pipe(), pipe()

    async def main() -> None:
        async with StdoutSink(stdout_fd=out_end, stderr_fd=err_end) as sink:
            sink.record_in_flight("a", 1)
            await asyncio.gather(sink.append(reply("a")), sink.append(failure("b")), sink.append(reply("c")))
            sink.clear_in_flight("a", 1)
            assert sink.job_index.classify("a", fingerprint_of("a")) is JobStatus.NEW
            assert sink.job_index.classify("a", fingerprint_of("a")) is JobStatus.DUPLICATE
            await sink.close(END_OF_FILE)

    asyncio.run(main())
    os.close(out_end)
    os.close(err_end)
    assert drain(out) == encode_row(reply("a")) + encode_row(reply("c"))
    assert [row["custom_id"] for row in rows(drain(err))] == ["b"]


def test_closed_pipe_raises_output_error_from_then_on() -> None:
    out, out_end = pipe()
    os.close(out)

    async def main() -> None:
        sink = StdoutSink(stdout_fd=out_end)
        sink.record_in_flight("a", 1)
        with pytest.raises(OutputError, match="cannot write to standard output: broken pipe"):
            await sink.append(reply("a"))
        with pytest.raises(OutputError):
            sink.record_in_flight("b", 1)
        with pytest.raises(OutputError):
            await sink.append(reply("b"))
        await sink.close()

    asyncio.run(main())
    os.close(out_end)


def test_slow_reader_delays_append_but_not_the_event_loop() -> None:
    out, out_end = pipe()
    big = reply("a", "x" * 200_000)

    async def main() -> bytes:
        sink = StdoutSink(stdout_fd=out_end)
        task = asyncio.create_task(sink.append(big))
        await asyncio.sleep(0.05)
        assert not task.done()
        reader = asyncio.create_task(asyncio.to_thread(drain, out))
        await task
        await sink.close()
        os.close(out_end)
        return await reader

    assert asyncio.run(main()) == encode_row(big)


def test_cancelled_append_still_writes_a_whole_line() -> None:
    out, out_end = pipe()
    big = reply("a", "x" * 200_000)

    async def main() -> bytes:
        sink = StdoutSink(stdout_fd=out_end)
        task = asyncio.create_task(sink.append(big))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        reader = asyncio.create_task(asyncio.to_thread(drain, out))
        await sink.close()
        os.close(out_end)
        return await reader

    assert asyncio.run(main()) == encode_row(big)
