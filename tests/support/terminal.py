"""A terminal in memory."""

from __future__ import annotations

import io
import re


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def without_escape_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
