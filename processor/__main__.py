"""The entry point of ``process`` and ``python -m processor``."""

from __future__ import annotations

import sys
from typing import NoReturn

from processor.cli.early_signals import install_early_handlers
from processor.core.gc_pause import relax_gc
from processor.core.import_path import import_path


def main() -> NoReturn:
    install_early_handlers()
    relax_gc()  # the modules that are imported from here on are hardly ever garbage
    sys.path[:] = import_path()
    from processor.cli.main import main as command_line  # slow, so the signal handlers come first

    command_line()


if __name__ == "__main__":
    main()
