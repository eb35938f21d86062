"""Checks the values of settings against the types of their fields. A ConfigError names the file and the setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from processor.config.config_files import other_file
from processor.core.errors import ConfigError

T = TypeVar("T")

MAX_NUMBER = 1e15
"""No setting needs a larger number. Infinity is refused: a limit that is not set is the way to have none."""

NonNegative = Annotated[float, "may be 0"]
"""The type of a number that may be 0."""

NonNegativeInt = Annotated[int, "may be 0"]
"""The type of a whole number that may be 0."""

NOT_SETTINGS = frozenset({"chosen_by", "ignored_commands"})
"""Fields of the settings that no file can set."""

_RULES: dict[Any, tuple[type, float, str]] = {
    bool: (bool, 0, "true or false"),
    str: (str, 0, "text"),
    int: (int, 1, "a whole number of at least 1"),
    float: (float, 5e-324, "a number greater than 0"),
    NonNegative: (float, 0, "a number of at least 0"),
    NonNegativeInt: (int, 0, "a whole number of at least 0"),
}
"""For the type of a field: the type of its values, the least of them, and how both read in a message."""


def parse_table(cls: type[T], table: object, where: str) -> T:
    """Builds a class of settings from its table.

    An unknown name is an error, because a misspelt limit must not be ignored. In ``[limits]`` a table inside the table
    holds the limits of the model of that name. Raises ConfigError.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where.rstrip('.: ')} must be a table, not {table!r}")
    types = {name: kind for name, kind in get_type_hints(cls, include_extras=True).items() if name not in NOT_SETTINGS}
    model_type = _type_for_models(types)
    if model_type is not None:
        types.pop("models")
    values: dict[str, Any] = {}
    for name, value in table.items():
        if model_type is not None and isinstance(value, dict):
            values.setdefault("models", {})[name] = parse_table(model_type, value, f"{where}{name}.")
        elif name not in types:
            raise ConfigError(_unknown(name, types, where))
        else:
            values[name] = parse_value(types[name], value, where + name)
    return cls(**values)


def _type_for_models(types: Mapping[str, Any]) -> Any:
    """Returns the class of the settings of one model, for a class whose field ``models`` maps names to such a class."""
    kind = types.get("models")
    value_type = get_args(kind)[1] if get_origin(kind) is Mapping else None
    return value_type if is_dataclass(value_type) else None


def _unknown(name: str, types: Mapping[str, Any], where: str) -> str:
    """``config.toml: limits.`` and ``rpn`` make ``config.toml: unknown setting limits.rpn; did you mean rpm?``."""
    file, _, section = where.rpartition(": ")
    close = get_close_matches(name, types, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"if this file is another program's, {other_file()}"
    return f"{file}: unknown setting {section}{name}; {remedy}"


def parse_value(kind: Any, value: Any, where: str) -> Any:
    """Checks a value against the type of its field. ``where`` names it in errors."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    words = [word for option in options if get_origin(option) is Literal for word in get_args(option)]
    if value in words:
        return value
    kind = next((one for one in options if one is not type(None) and get_origin(one) is not Literal), None)
    if kind is None:
        raise ConfigError(f"{where} must be one of {', '.join(words)}, not {value!r}")
    if isinstance(kind, type) and is_dataclass(kind):
        return parse_table(kind, value, where + ".")
    if get_origin(kind) is tuple:
        return _parse_list(get_args(kind)[0], value, where)
    if get_origin(kind) is Mapping:
        return _parse_mapping(get_args(kind)[1], value, where)
    type_, least, description = _RULES[kind]
    # isinstance(True, int) holds, but true is not a number.
    is_of_type = isinstance(value, (int, float) if type_ is float else type_)
    is_bool = isinstance(value, bool)
    if not is_of_type or is_bool is not (type_ is bool) or (type_ in (int, float) and not least <= value < MAX_NUMBER):
        shown = int(value) if isinstance(value, float) and value.is_integer() else value  # a flag makes 0 a float
        raise ConfigError(f"{where} must be {' or '.join([description, *words])}, not {shown!r}")
    return type_(value)


def _parse_list(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    is_list = isinstance(value, list | tuple) and len(value) > 0
    if kind is str and not (is_list and all(isinstance(word, str) for word in value)):
        raise ConfigError(f'{where} must be a list of texts such as ["a", "b"], not {value!r}')
    if not is_list:
        expected = f"tables, each under [[{where.rpartition(' ')[2]}]]" if is_dataclass(kind) else "a list"
        raise ConfigError(f"{where} must be {expected}, not {value!r}")
    return tuple(parse_value(kind, item, f"{where}[{at}]") for at, item in enumerate(value, start=1))


def _parse_mapping(kind: Any, value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be a table, not {value!r}")
    return {name: parse_value(kind, item, f"{where}.{name}") for name, item in value.items()}
