"""Imports packages that only some tests need."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import pytest


def package(name: str) -> Any:
    """Return the package, or skip the test where it is not installed. CI installs all: there its lack is an error.

    What takes long to import, such as an SDK, is asked for in the tests: each worker imports all files of tests.

    ``ALL_PACKAGES`` in the environment stands for an environment with the extras that CONTRIBUTING.md names.
    """
    return import_module(name) if "ALL_PACKAGES" in os.environ else pytest.importorskip(name)
