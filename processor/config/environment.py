"""The variables of a run: those of the process, and those of ``.env`` in the working folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from processor.core.errors import ConfigError, reason

DOTENV = Path(".env")


class Environment(dict[str, str]):
    """Variables by name. ``from_dotenv``: the names of those that only ``.env`` sets."""

    from_dotenv: frozenset[str] = frozenset()


def environment(environ: Mapping[str, str], dotenv: Path = DOTENV) -> Environment:
    """Adds the variables of ``.env`` to those of ``environ``, which win unless they are empty. Raises ConfigError.

    A value is taken as it stands: with ``${NAME}`` replaced, a foreign ``.env`` could send any variable anywhere.
    """
    found = Environment(environ)
    try:
        added = _read(dotenv)
    except OSError as error:
        raise ConfigError(f"cannot read {dotenv}: {reason(error)}; make it readable, or move it away") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{dotenv} is not UTF-8: save it as UTF-8, or move it away") from None
    new = {name: value for name, value in added.items() if value and not environ.get(name, "").strip()}
    found.update(new)
    found.from_dotenv = frozenset(new)
    return found


def _read(dotenv: Path) -> Mapping[str, str | None]:
    if not dotenv.is_file():
        return {}
    from dotenv import dotenv_values

    return dotenv_values(dotenv, interpolate=False)
