"""Imports aiohttp and sends one request: ``python bare.py BASE_URL``."""

import asyncio
import sys

import aiohttp


async def main(base_url: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{base_url}/chat/completions", data=b"{}") as response:
        await response.read()


asyncio.run(main(sys.argv[1]))
