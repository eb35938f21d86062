"""Checks outputs against schemas: in this process where that takes little time for certain, else in another one."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import orjson

from processor.core import json_bytes
from processor.core.fast_dataclass import dataclass
from processor.core.models import RunInThread
from processor.validation.check_cost import MAX_SCHEMA_BYTES, MAX_TEXT_BYTES, MAX_WORK, count_parts
from processor.validation.checking_process import CheckingProcess
from processor.validation.problem import InvalidSchema, Problem
from processor.validation.schema import CompiledSchema, canonical_schema, schema_digest
from processor.validation.text_json import NotJson, parse_output

MAX_SCHEMAS = 32
"""Schemas that are kept ready; jobs may each bring their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedSchema:
    """A schema that is known to be valid."""

    digest: str
    canonical: bytes
    parts: int | None
    """See ``count_parts``."""
    compiled: CompiledSchema | None
    """None where the other process checks."""

    def is_slow(self, text: str) -> bool:
        """Whether a check of this text might take long."""
        if self.compiled is None or self.parts is None:
            return True
        return len(text) > MAX_TEXT_BYTES or self.parts * len(text) > MAX_WORK


class SchemaChecker:
    """Keeps the schemas that were used last, and does in a thread what may take long."""

    def __init__(self, run_in_thread: RunInThread, *, strip_fences: bool = False) -> None:
        self._run_in_thread = run_in_thread
        self._strip_fences = strip_fences
        self._prepared: OrderedDict[str, PreparedSchema | InvalidSchema] = OrderedDict()
        self._process = CheckingProcess()

    async def prepare(self, schema: Any) -> PreparedSchema:
        """Return the schema made ready. Raises InvalidSchema, also where that takes too long."""
        canonical = canonical_schema(schema)
        digest = schema_digest(canonical)
        known = self._prepared.get(digest)
        if known is None:
            known = await self._run_in_thread(partial(self._try_prepare, schema, digest, canonical))
            self._prepared[digest] = known
            if len(self._prepared) > MAX_SCHEMAS:
                self._prepared.popitem(last=False)
        else:
            self._prepared.move_to_end(digest)
        if isinstance(known, InvalidSchema):
            raise known
        return known

    def _try_prepare(self, schema: Any, digest: str, canonical: bytes) -> PreparedSchema | InvalidSchema:
        try:
            parts, compiled = count_parts(schema), None
            if parts is not None and len(canonical) <= MAX_SCHEMA_BYTES:
                compiled = CompiledSchema(schema)
            else:
                self._process.check_schema(digest, canonical)
        except InvalidSchema as error:
            return error
        return PreparedSchema(digest=digest, canonical=canonical, parts=parts, compiled=compiled)

    async def check(self, prepared: PreparedSchema, text: str) -> tuple[Problem, ...]:
        """Return what is wrong with an output; empty: it is valid."""
        if prepared.is_slow(text):
            return await self._run_in_thread(partial(self._check, prepared, text))
        return self._check(prepared, text)

    def _check(self, prepared: PreparedSchema, text: str) -> tuple[Problem, ...]:
        try:
            value = parse_output(text, strip_fences=self._strip_fences)
        except NotJson as error:
            return (error.problem,)
        if prepared.compiled is not None and not prepared.is_slow(text):
            return prepared.compiled.problems(value)
        return self._process.check(prepared.digest, prepared.canonical, json_bytes.dumps(value))

    def close(self) -> None:
        """End the other process, if there is one."""
        self._process.stop()


def read_schema(data: bytes) -> Any:
    """Return the schema that a file holds. Raises InvalidSchema."""
    try:
        return orjson.loads(data)
    except ValueError as error:
        raise InvalidSchema(f"it is not JSON: {error}") from None
