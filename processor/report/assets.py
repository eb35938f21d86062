"""The scripts and drawings that the extra ``report`` brings, each of them only where it is installed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from processor.core.fast_dataclass import dataclass
from processor.report.chart import Spec

HOW_TO_GET_CHARTS = "pip install 'processor[report]'"

_EXPORT = re.compile(r"export\s*\{([^}]*)\};?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library whose code stands in the page."""

    name: str
    script: str
    style: str
    licence: str


def can_draw() -> bool:
    """Whether the library that draws charts is installed."""
    return find_spec("vl_convert") is not None


def draw(specs: Sequence[Spec]) -> list[str] | None:
    """Return each chart as an SVG; None where the library that draws them is missing."""
    if not can_draw():
        return None
    import vl_convert

    return [vl_convert.vegalite_to_svg(spec) for spec in specs]


def chart_library() -> Library | None:
    """The scripts that draw the charts in the browser: Vega, Vega-Lite and Vega-Embed."""
    if not can_draw():
        return None
    import vl_convert

    make_bundle: Any = vl_convert.javascript_bundle  # its type stub demands an argument that is optional
    script = make_bundle()
    return Library(name="Vega, Vega-Lite, Vega-Embed", script=script, style="", licence=_licence("vl-convert-python"))


def table_library() -> Library | None:
    """The scripts that sort and search tables: DataTables, as the package itables carries them. It is only read."""
    spec = find_spec("itables")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "html"
    try:
        script = (folder / "dt_bundle.js").read_text(encoding="utf-8")
        style = (folder / "dt_bundle.css").read_text(encoding="utf-8")
    except OSError:
        return None
    script = _EXPORT.sub(_assign_exports, script, count=1) if _EXPORT.search(script) else script
    return Library(name="DataTables, jQuery", script=script, style=style, licence=_licence("itables"))


def _assign_exports(match: re.Match[str]) -> str:
    """A script in a page cannot be imported: what it exports becomes an attribute of the window."""
    names = [part.split(" as ") for part in match[1].split(",")]
    pairs = [f"{exported.strip()}:{local.strip()}" for local, exported in names]
    return f"window.dataTables={{{','.join(pairs)}}};"


def _licence(package: str) -> str:
    """The text of the licence, which stands in each page with the code."""
    files = metadata.files(package) or ()
    texts = [file.read_text(encoding="utf-8") for file in files if "license" in file.name.lower()]
    return "\n".join(texts)
