"""Packages that a test needs installed, and does not import itself."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest


class Later:
    """A module that is imported when something of it is asked for, and not with the test file.

    Every process of a run imports all test files, PyTorch among them for three seconds of a core.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


def skip_without(*packages: str, extra: str) -> None:
    """Skip the test where one of these is not installed.

    They are not imported, as `pytest.importorskip` would: Gradio alone takes a core four seconds,
    which a test whose processes import it need not spend in its own.

    Args:
        packages: Names of packages, without a module of theirs.
        extra: The extras that bring them, to be named.
    """
    for name in packages:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: seatrial[{extra}]")
