"""A regular expression that is compiled when it is first used.

Compiling one with many alternatives takes milliseconds, and most runs meet none of the errors that they recognize.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, AnyStr, Generic


class LazyPattern(Generic[AnyStr]):
    """Has the methods of ``re.Pattern`` that this package uses."""

    def __init__(self, pattern: AnyStr, flags: int = 0) -> None:
        self._pattern: AnyStr = pattern
        self._flags = flags

    @cached_property
    def _compiled(self) -> re.Pattern[AnyStr]:
        return re.compile(self._pattern, self._flags)

    def match(self, text: AnyStr, start: int = 0, end: int = sys.maxsize) -> re.Match[AnyStr] | None:
        return self._compiled.match(text, start, end)

    def fullmatch(self, text: AnyStr) -> re.Match[AnyStr] | None:
        return self._compiled.fullmatch(text)

    def search(self, text: AnyStr) -> re.Match[AnyStr] | None:
        return self._compiled.search(text)

    def findall(self, text: AnyStr) -> list[Any]:
        return self._compiled.findall(text)

    def finditer(self, text: AnyStr) -> Iterator[re.Match[AnyStr]]:
        return self._compiled.finditer(text)

    def sub(self, replacement: AnyStr | Callable[[re.Match[AnyStr]], AnyStr], text: AnyStr) -> AnyStr:
        return self._compiled.sub(replacement, text)
