"""Builds HTML. Whatever is not ``Html`` already is escaped: texts of strangers are text, wherever they stand.

The standard library serves: a template library would be one more thing to install before a report can be made.
"""

from __future__ import annotations

from html import escape as escape_characters

from processor.terminal.formatting import printable

_VOID = frozenset({"meta", "link", "br", "col"})


class Html(str):
    """Markup. Made by this module and from this program's own files alone."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Return a value as text in HTML; markup stays as it is."""
    return value if isinstance(value, Html) else Html(escape_characters(printable(str(value))))


def join(*parts: object) -> Html:
    """Return the parts one after the other, without those that are None."""
    return Html("".join(escape(part) for part in parts if part is not None))


def element(tag: str, /, *children: object, **attributes: object) -> Html:
    """Return an element. ``class_`` is the attribute ``class``, ``aria_label`` is ``aria-label``.

    An attribute that is True stands without a value, one that is None or False does not stand.
    """
    written = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(value)}"'
