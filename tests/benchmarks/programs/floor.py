"""The shortest honest program: ``python floor.py JOBS OUT BASE_URL CONCURRENCY [asyncio]``.

aiohttp on uvloop, each chunk decoded, the texts joined, one line written. No limits, no retries, no counting, no
journal, nothing told.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

import aiohttp
import orjson


async def text_of(response: aiohttp.ClientResponse) -> str:
    if response.content_type == "application/json":
        return str(orjson.loads(await response.read())["choices"][0]["message"]["content"])
    texts = []
    rest = b""
    async for data in response.content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {") and (choices := orjson.loads(line[6:])["choices"]):
                texts.append(choices[0]["delta"].get("content") or "")  # noqa: PERF401
    return "".join(texts)


async def work(session: aiohttp.ClientSession, base_url: str, jobs: Iterator[bytes], out: BinaryIO) -> None:
    for line in jobs:
        job = orjson.loads(line)
        body = orjson.dumps({"stream": True, **job["body"]})
        began = time.perf_counter()
        async with session.post(f"{base_url}/chat/completions", data=body) as response:
            text = await text_of(response)
        total_s = time.perf_counter() - began
        out.write(orjson.dumps({"id": job["custom_id"], "text": text, "timing": {"total_s": total_s}}) + b"\n")


async def main(jobs: str, out: str, base_url: str, concurrency: str) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    headers = {"Content-Type": "application/json"}
    with open(jobs, "rb") as lines, open(out, "wb") as rows:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session,
            asyncio.TaskGroup() as workers,
        ):
            for _ in range(int(concurrency)):
                workers.create_task(work(session, base_url, lines, rows))


if __name__ == "__main__":
    if sys.argv[5:] == ["asyncio"]:
        asyncio.run(main(*sys.argv[1:5]))
    else:
        import uvloop

        uvloop.run(main(*sys.argv[1:]))
