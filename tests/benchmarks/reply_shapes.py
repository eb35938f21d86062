"""Time and peak memory of reading replies of twelve shapes and four sizes, and what a large one costs the others.

python -m tests.benchmarks.reply_shapes [--delays] [--largest BYTES]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from processor.core.gc_pause import gc_paused
from processor.core.models import Job
from processor.http.parser_choice import reply_parser
from processor.http.response_body import ResponseParser
from processor.http.settings import TransportSettings
from processor.protocols import protocol_for
from tests.support.reply_shapes import SHAPES

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
_READ_BYTES = 64 * 1024
_OTHERS = 200
_EVENTS, _GAP_S = 20, 0.1


def read(body: bytes, headers: dict[str, str]) -> None:
    """Parse a reply as the transport does, without a network."""
    job = Job(
        line=1, custom_id="a", fingerprint="", path="/v1/chat/completions", model="m", body={"model": "m", "n": 1}
    )
    current: list[ResponseParser] = []

    def on_choice(parser: ResponseParser) -> None:
        if "content-encoding" in headers:
            current[0].inner = parser  # type: ignore[attr-defined]
        else:
            current[0] = parser

    current.append(reply_parser(protocol_for(job.path), job, TransportSettings(), 4096, headers, on_choice))
    for start in range(0, len(body), _READ_BYTES):
        current[0].feed(body[start : start + _READ_BYTES])
        while current[0].has_backlog and not current[0].is_done:
            with gc_paused():
                current[0].work_off()
        if current[0].is_done:
            break
    else:
        current[0].close()
    with gc_paused() if current[0].is_large else nullcontext():
        current[0].result()


def measure(name: str, size: int) -> tuple[float, float]:
    """Seconds, and the peak memory in multiples of the body's size."""
    body = SHAPES[name](size)
    headers = {"content-type": "text/event-stream"}
    if body.startswith(b"\x1f\x8b"):
        headers["content-encoding"] = "gzip"
    began = time.process_time()
    read(body, headers)
    took_s = time.process_time() - began
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_bytes()
    read(body, headers)
    return took_s, (_peak_bytes() - before) / size


def _peak_bytes() -> int:
    """The most memory that this process has held since it was last asked to forget it. Linux only."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def print_table(sizes: tuple[int, ...]) -> None:
    heads = [f"{size // 1000:,} kB" for size in sizes]
    print(f"| shape | {' | '.join(heads)} | memory at the largest |")
    print("| --- |" + " --- |" * (len(sizes) + 1))
    for name in SHAPES:
        cells, ratio = [], 0.0
        for size in sizes:
            took_s, ratio = measure(name, size)
            cells.append(f"{1000 * took_s:.1f} ms")
        print(f"| {name} | {' | '.join(cells)} | {ratio:.1f} × |", flush=True)


# ---------------------------------------------------------------- what a large reply costs the others


async def _serve(name: str, size: int) -> None:
    """Answer the last job with the large reply, and each other one with an event every ``_GAP_S``."""
    large = SHAPES[name](size) if name else b""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
    small = SHAPES["words"](0)
    event, end = small[: small.index(b"\n\n") + 2], small[small.rindex(b"data: {") :]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(request.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
        if b"large" in body:
            await asyncio.sleep(_EVENTS * _GAP_S / 2)
            coding = b"Content-Encoding: gzip\r\n" if large.startswith(b"\x1f\x8b") else b""
            writer.write(head + coding + b"\r\n" + (large or event + end))
        else:
            writer.write(head + b"\r\n")
            for _ in range(_EVENTS):
                writer.write(event)
                await asyncio.sleep(_GAP_S)
            writer.write(end)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def longest_reply_s(name: str, size: int) -> tuple[float, str]:
    """The longest of the other replies, and what became of the large one."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = Path(folder, "jobs.jsonl")
        lines = [
            {"id": str(number), "prompt": "large" if number == _OTHERS else "small"} for number in range(_OTHERS + 1)
        ]
        jobs.write_text("".join(json.dumps(line | {"model": "gpt-4o"}) + "\n" for line in lines))
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.reply_shapes", "--serve", name, "--largest", str(size)],
            stdout=subprocess.PIPE,
        )
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
            command = [sys.executable, "-m", "processor", "jobs.jsonl", "--base-url", url, "--no-progress"]
            subprocess.run([*command, "--concurrency", "400"], cwd=folder, capture_output=True, check=False)
        finally:
            server.kill()
            server.wait()
        rows = [json.loads(line) for line in Path(folder, "jobs.results.jsonl").read_text().splitlines()]
    totals = {row["custom_id"]: row["timing"]["total_s"] for row in rows}
    large = f"{totals.pop(str(_OTHERS)):.2f} s" if str(_OTHERS) in totals else "failed row"
    return max(totals.values()), large


def print_delays(size: int) -> None:
    usual_s = sorted(longest_reply_s("", 0)[0] for _ in range(3))[1]
    print(f"| one reply of {size // 1000:,} kB | it took | the others took longer by |\n| --- | --- | --- |")
    for name in SHAPES:
        longest_s, large = longest_reply_s(name, size)
        print(f"| {name} | {large} | {max(0.0, longest_s - usual_s):.2f} s |", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--delays", action="store_true", help="measure what a large reply costs the others")
    arguments.add_argument("--largest", type=int, default=SIZES[-1], metavar="BYTES")
    arguments.add_argument("--serve", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.serve is not None:
        asyncio.run(_serve(options.serve, options.largest))
    elif options.delays:
        print_delays(options.largest)
    else:
        print_table(tuple(size for size in SIZES if size <= options.largest))


if __name__ == "__main__":
    main()
