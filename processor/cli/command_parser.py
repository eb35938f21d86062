"""Parses the arguments of a command, with its help page."""

from __future__ import annotations

from typing import Any

from processor.cli.help_formatter import CommandHelp
from processor.core.errors import ConfigError


class CommandParser(CommandHelp):
    """A command that takes no option for the value of the option before it: ``--out --simulate`` lacks a name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raises ConfigError where the value of an option is missing."""
        with_value = {name for option in self.get_params(ctx) if _takes_value(option) for name in option.opts}
        words = iter(args[: args.index("--")] if "--" in args else args)
        for word in words:
            if word in with_value and (value := next(words, "")).startswith("--"):
                raise ConfigError(
                    f"{word} needs a value, but {value} follows: write the value after it, or {word}={value} if that "
                    f"is the value; see {ctx.command_path} --help"
                )
        return super().parse_args(ctx, args)


def _takes_value(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option" and not parameter.is_flag and not parameter.count)
