"""CPU of checking 10,000 outputs against a schema, beside that of reading them as JSON alone.

python -m tests.benchmarks.checks [--outputs N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from processor.validation.checker import SchemaChecker
from processor.validation.text_json import parse_output

FIELDS = {
    "label": {"enum": ["good", "bad"]},
    "score": {"type": "number"},
    "why": {"type": "string", "pattern": "^[A-Z]"},
    "tags": {"type": "array", "items": {"type": "string"}},
}
SCHEMA = {"type": "object", "properties": FIELDS, "required": ["label"]}
COSTLY = {**SCHEMA, "properties": {**FIELDS, "why": {"type": "string", "pattern": "^(?=[A-Z])"}}}
"""It has look-around: the other process checks."""
VALID = json.dumps({"label": "good", "score": 0.5, "why": "Because " * 40, "tags": ["x", "y"]})
INVALID = VALID.replace("0.5", "true")


async def measure(outputs: int) -> None:
    async def parse(text: str) -> object:
        return parse_output(text, strip_fences=False)

    await report("read as JSON alone", parse, VALID, outputs)
    for name, schema in (("checked here", SCHEMA), ("checked in another process", COSTLY)):
        checker = SchemaChecker(asyncio.to_thread)
        prepared = await checker.prepare(schema)

        def check(text: str, checker: SchemaChecker = checker, prepared: Any = prepared) -> Awaitable[object]:
            return checker.check(prepared, text)

        for kind, text in (("valid", VALID), ("not valid", INVALID)):
            await report(f"{name}, {kind}", check, text, outputs)
        checker.close()


async def report(name: str, check: Callable[[str], Awaitable[object]], text: str, outputs: int) -> None:
    await check(text)
    began = time.process_time(), time.perf_counter()
    for _ in range(outputs):
        await check(text)
    cpu_s, wall_s = time.process_time() - began[0], time.perf_counter() - began[1]
    print(f"{name:<38}{1e6 * cpu_s / outputs:8.1f} µs of CPU here, {1e6 * wall_s / outputs:8.1f} µs in all, each")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--outputs", type=int, default=10_000)
    print(f"outputs of {len(VALID)} bytes")
    asyncio.run(measure(arguments.parse_args().outputs))


if __name__ == "__main__":
    main()
