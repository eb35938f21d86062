"""What many write: ``python sdk.py JOBS OUT BASE_URL CONCURRENCY``. The openai SDK's stream under tenacity."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import openai
import orjson
import uvloop
from tenacity import retry, stop_after_attempt, wait_random_exponential


@retry(wait=wait_random_exponential(min=1, max=60), stop=stop_after_attempt(6))
async def text_of(client: openai.AsyncOpenAI, body: dict[str, Any]) -> str:
    texts: list[str] = []
    async for chunk in await client.chat.completions.create(**body, stream=True):
        texts.extend(choice.delta.content or "" for choice in chunk.choices)
    return "".join(texts)


async def work(client: openai.AsyncOpenAI, jobs: Iterator[bytes], out: BinaryIO) -> None:
    for line in jobs:
        job = orjson.loads(line)
        began = time.perf_counter()
        text = await text_of(client, job["body"])
        total_s = time.perf_counter() - began
        out.write(orjson.dumps({"id": job["custom_id"], "text": text, "timing": {"total_s": total_s}}) + b"\n")


async def main(jobs: str, out: str, base_url: str, concurrency: str) -> None:
    client = openai.AsyncOpenAI(base_url=base_url, api_key="not-a-key", max_retries=0, timeout=3600)
    with open(jobs, "rb") as lines, open(out, "wb") as rows:
        async with client, asyncio.TaskGroup() as workers:
            for _ in range(int(concurrency)):
                workers.create_task(work(client, lines, rows))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
