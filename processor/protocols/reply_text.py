"""What is known of a reply whose API is not known, as in a results file."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from processor.protocols.registry import PROTOCOLS


def text_of_reply(body: Any) -> str:
    """Return the text of a reply; empty where no API finds one in it."""
    if not isinstance(body, dict):
        return ""
    for protocol in PROTOCOLS.values():
        with suppress(KeyError, TypeError, AttributeError, IndexError, ValueError):
            if text := protocol.text(body):
                return text
    return ""


def finish_reason_of_reply(body: Any) -> str | None:
    """Return why the first choice of a reply ended; None where no API finds a reason in it."""
    if not isinstance(body, dict):
        return None
    for protocol in PROTOCOLS.values():
        with suppress(KeyError, TypeError, AttributeError, IndexError, ValueError):
            if reasons := protocol.finish_reasons(body):
                return reasons[0]
    return None
