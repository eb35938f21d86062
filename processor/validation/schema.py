"""A JSON Schema that is ready to check values: https://json-schema.org/specification

Nothing is fetched: a reference to another document makes a schema invalid. The time of one check is bounded for regular
expressions only; ``check_cost`` says for which schemas and outputs that is enough.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import islice
from typing import Any, NoReturn

import orjson

from processor.core import json_bytes
from processor.core.text import one_line
from processor.validation.problem import MAX_MESSAGE_CHARS, MAX_PROBLEMS, InvalidSchema, Problem

MAX_BACKTRACKS = 10_000
"""Steps back of a regular expression with look-around or back-references, for one text: about a millisecond. All other
expressions take time in proportion to the text."""
_MASK = "this value"
"""Stands for the value in messages, which may be long, and of which the pointer says where it is."""


def canonical_schema(schema: Any) -> bytes:
    """Return the schema as JSON with sorted keys."""
    return json_bytes.dumps(schema, orjson.OPT_SORT_KEYS)


def schema_digest(canonical: bytes) -> str:
    """Return what stands for a schema in rows: 32 hex digits of BLAKE2b-128 over its sorted-key JSON."""
    return blake2b(canonical, digest_size=16).hexdigest()


class CompiledSchema:
    """A schema with its validator. Raises InvalidSchema where it is not one, and for references to other documents."""

    def __init__(self, schema: Any) -> None:
        import jsonschema_rs

        if not isinstance(schema, dict | bool):
            raise InvalidSchema("a schema must be an object, or true or false")
        refused: list[str] = []

        def refuse(uri: str) -> NoReturn:
            refused.append(uri)
            raise LookupError

        kinds = jsonschema_rs.ValidationErrorKind
        self._undecided = (kinds.BacktrackLimitExceeded, kinds.RegexEngineFailure)
        try:
            self._validator = jsonschema_rs.validator_for(
                schema,
                retriever=refuse,
                mask=_MASK,
                pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=MAX_BACKTRACKS),
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            if refused:
                message = f"it refers to {one_line(refused[0])}, which is not fetched: put what is meant under $defs"
                raise InvalidSchema(message) from None
            raise InvalidSchema(_reason(error)) from None

    def problems(self, value: Any) -> tuple[Problem, ...]:
        """Return what is wrong with a value: at most MAX_PROBLEMS. Empty: it is valid."""
        try:
            if self._validator.is_valid(value):
                return ()
            return tuple(self._problem(error) for error in islice(self._validator.iter_errors(value), MAX_PROBLEMS))
        except ValueError as error:  # nested too deeply
            return (Problem(pointer="", message=f"cannot be checked: {_reason(error)}", is_undecided=True),)

    def _problem(self, error: Any) -> Problem:
        pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in error.instance_path)
        return Problem(
            pointer=one_line(pointer, MAX_MESSAGE_CHARS),
            message=one_line(error.message, MAX_MESSAGE_CHARS),
            is_undecided=isinstance(error.kind, self._undecided),
        )


def _reason(error: Exception) -> str:
    path = getattr(error, "instance_path", None)
    where = f" (at /{'/'.join(map(str, path))})" if path else ""
    return one_line(getattr(error, "message", None) or str(error), MAX_MESSAGE_CHARS) + where
