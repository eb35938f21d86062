"""How text, values from outside and names of settings are shown in one line of a message; how long "
"text is in tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

from processor.core.secrets import mask_text

if TYPE_CHECKING:
    from processor.core.models import SourceFile

Surface = Literal["command line", "plan", "session"]
"""Where a user writes settings: as flags, as arguments of ``Plan`` and ``Settings``, or as those of ``Session``."""

_surface: ContextVar[Surface] = ContextVar("processor_surface", default="command line")

_FLAGS = {
    "grace_s": "--grace",
    "in_batches": "--batch",
    "limits.rpm": "--rpm",
    "limits.tpm": "--tpm",
    "max_cost_usd": "--max-cost",
    "ray.address": "--ray",
    "ray.workers": "--workers",
}
"""The flags that are not called as their setting is."""
_ARGUMENTS = {"config": "settings"}
"""What stands for a flag that has no setting."""
_SESSION_ARGUMENTS = {"out": "journal"}

CHARS_PER_TOKEN = 4
"""OpenAI's rule of thumb for English text: https://platform.openai.com/tokenizer"""


_EXCERPT_BYTES = 4096
"""More than is shown, so that a secret in it is whole when it is masked."""


@contextmanager
def messages_for(surface: Surface) -> Iterator[None]:
    """Name settings as on this surface, in all messages of the context and of tasks that are started in it."""
    token = _surface.set(surface)
    try:
        yield
    finally:
        with suppress(ValueError):  # a coroutine that was abandoned is closed in another context
            _surface.reset(token)


def surface() -> Surface:
    return _surface.get()


def setting_name(name: str, value: object = "") -> str:
    """The name of a setting as its user writes it: ``--base-url`` or ``base_url=``.

    ``value`` follows it: True for a flag that takes none; a text in capitals stands for a value. A setting in a section
    has the section's name before a dot.
    """
    if _surface.get() == "command line":
        flag = _FLAGS.get(name) or f"--{name.replace('_', '-')}"
        return flag if value is True or value == "" else f"{flag} {value}"
    if name in _ARGUMENTS:
        return f"{_ARGUMENTS[name]}="
    argument = _SESSION_ARGUMENTS.get(name, name) if _surface.get() == "session" else name
    return f"{argument}={value if value is True or str(value).isupper() else repr(str(value)) if value else ''}"


def flag_and_setting(name: str) -> str:
    """The name of a setting that may stand in a settings file, too: ``--model (or model)``, or ``model=``."""
    return f"{setting_name(name)} (or {name})" if _surface.get() == "command line" else setting_name(name)


def never_reached(reason: object) -> str:
    """Why nothing was sent, and what to look at, where no connection to the server was ever made."""
    return f"{reason}; is {setting_name('base_url')} right, and the server up?"


def place_of(line: int, source: SourceFile | None) -> str:
    """Return where a job is, for a person; those of a session have numbers in place of lines."""
    if source is not None:
        return f"{source.name}, line {line}"
    return f"job {line}" if _surface.get() == "session" else f"line {line}"


def one_line(text: str, max_chars: int = 500) -> str:
    """The beginning of a text on one line, with runs of white space as one space.

    Secrets are masked, before anything is cut off. Characters that could move the cursor, change colours or not be
    written at all become U+FFFD. A text that is longer ends in an ellipsis, which counts among ``max_chars``.
    """
    # A bounded prefix, as the text may be of any size; white space in it may collapse.
    words = " ".join(mask_text(text)[: 8 * max_chars].split())
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words)
    return line if len(line) <= max_chars else line[: max_chars - 1].rstrip() + "…"


def excerpt(data: bytes) -> str:
    """The beginning of a payload on one line: at most 80 characters."""
    return one_line(data[:_EXCERPT_BYTES].decode("utf-8", "replace"), 80)


def json_type(value: object) -> str:
    """The JSON type of a value, as it reads in a message: ``a string``, ``an empty array``, ``null``."""
    if value is None:
        return "null"
    names = ((bool, "a boolean"), (str, "a string"), (list, "an array"), (dict, "an object"))
    name = next((name for kind, name in names if isinstance(value, kind)), "a number")
    return f"an empty {name.split()[-1]}" if value in ("", [], {}) else name
