"""Makes what checks the output of replies, where a run is to do so."""

from __future__ import annotations

import asyncio
import importlib.util
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from processor.app.plan import Plan
from processor.config.settings import SCHEMA_IN_JOB, Settings
from processor.core.errors import ConfigError, reason
from processor.core.fast_dataclass import dataclass
from processor.core.text import setting_name

if TYPE_CHECKING:
    from processor.scheduler.reply_validation import ReplyValidation
    from processor.validation.checker import PreparedSchema, SchemaChecker

MAX_FILE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputChecks:
    """How the output of a run's replies is checked."""

    validation: ReplyValidation | None = None
    schema_digest: str | None = None
    """Of the schema of all jobs; None where there is none."""


async def open_checks(plan: Plan, stack: AsyncExitStack) -> OutputChecks:
    """Raises ConfigError where the schema cannot be used, or what checks with it is not installed."""
    settings = plan.settings
    if settings.validate is None:
        _refuse_without_validate(settings)
        return OutputChecks()
    if importlib.util.find_spec("jsonschema_rs") is None:
        raise ConfigError(
            f"{setting_name('validate')} needs a library that is not installed: pip install 'processor[validate]'"
        )
    from processor.scheduler.reply_validation import ReplyValidation
    from processor.validation.checker import SchemaChecker

    checker = SchemaChecker(asyncio.to_thread, strip_fences=settings.strip_fences)
    stack.callback(checker.close)
    schema = None if settings.validate == SCHEMA_IN_JOB else await _schema_in(Path(settings.validate), checker)
    validation = ReplyValidation(checker, schema, max_invalid=settings.max_invalid)
    return OutputChecks(validation=validation, schema_digest=schema.digest if schema else None)


def _refuse_without_validate(settings: Settings) -> None:
    if settings.strip_fences:
        raise ConfigError(
            f"strip_fences changes only what is checked: add {setting_name('validate', 'FILE')} or "
            f"{setting_name('validate', 'job')}"
        )


async def _schema_in(path: Path, checker: SchemaChecker) -> PreparedSchema:
    from processor.validation.checker import read_schema
    from processor.validation.problem import InvalidSchema

    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        hint = (
            f"; for the schema in each job say {setting_name('validate', 'job')}"
            if isinstance(error, FileNotFoundError)
            else ""
        )
        raise ConfigError(f"cannot read the schema {path}: {reason(error)}{hint}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(
            f"the schema {path} is larger than {MAX_FILE_BYTES >> 20} MiB: give another {setting_name('validate')}"
        )
    try:
        return await checker.prepare(read_schema(data))
    except InvalidSchema as error:
        raise ConfigError(f"the schema {path} cannot be used: {error}") from None
