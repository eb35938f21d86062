"""Formats help pages: the docstring as written, then the options under headings. Without rich, which loads slowly."""

from __future__ import annotations

from inspect import cleandoc
from textwrap import indent
from typing import Any

from typer.core import TyperCommand, TyperGroup

OPTION_COLUMNS = 26


class CommandHelp(TyperCommand):
    """The help page of a command. The heading of an option is its ``rich_help_panel``, although rich is not used."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """``JOBS`` rather than ``{JOBS}``."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        _write(formatter, self.help)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        by_heading: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                by_heading.setdefault(getattr(parameter, "rich_help_panel", None) or "Other", []).append(record)
        for heading, records in by_heading.items():
            with formatter.section(heading):
                formatter.write_dl(records, col_max=OPTION_COLUMNS)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:
            formatter.write(f"\n{cleandoc(self.epilog)}\n")


class ProgramHelp(TyperGroup):
    """The help page of the whole program."""

    def command_summaries(self) -> list[tuple[str, str]]:
        """The name of each command and its line on the page."""
        raise NotImplementedError

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        formatter.write_usage(ctx.command_path, "JOBS [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND [OPTIONS]", prefix="       ")

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        _write(formatter, self.help)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(self.command_summaries())
        with formatter.section("Options"):
            records = (parameter.get_help_record(ctx) for parameter in self.get_params(ctx))
            formatter.write_dl([record for record in records if record])


def _write(formatter: Any, text: str | None) -> None:
    formatter.write(f"\n{indent(cleandoc(text or ''), '  ')}\n")
