"""Tables in HTML: readable without scripts and styles, sorted and searched with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from processor.core.fast_dataclass import dataclass
from processor.report.html import Html, element, join


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The heading of a column, and whether it holds numbers."""

    heading: str
    is_number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number as it is shown, and by what it is sorted."""

    shown: str
    value: float


def text(heading: str) -> Column:
    return Column(heading=heading)


def number(heading: str) -> Column:
    return Column(heading=heading, is_number=True)


def table(
    caption: str, columns: Sequence[Column], rows: Iterable[Sequence[object]], *, is_searched: bool = False
) -> Html:
    """Return a table in a box of its own, which scrolls where the page is narrow.

    ``is_searched``: with scripts it gets a search field, pages and sorting.
    """
    head = element("tr", *(element("th", column.heading, scope="col", **_align(column)) for column in columns))
    body = [element("tr", *(_cell(column, value) for column, value in zip(columns, row, strict=True))) for row in rows]
    inner = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", *body),
        class_="searched" if is_searched else None,
    )
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _align(column: Column) -> dict[str, object]:
    return {"class_": "number"} if column.is_number else {}


def _cell(column: Column, value: object) -> Html:
    if isinstance(value, Number):
        return element("td", value.shown, data_order=repr(value.value), **_align(column))
    if isinstance(value, int) and column.is_number:
        return element("td", f"{value:,}", **_align(column))
    return element("td", "" if value is None else value, **_align(column))


def definitions(entries: Iterable[tuple[str, object]]) -> Html:
    """Return a list of names with their values."""
    return element("dl", join(*(join(element("dt", name), element("dd", value)) for name, value in entries)))
