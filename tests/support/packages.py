"""Packages that a test needs installed, and does not import itself."""

from __future__ import annotations

import importlib.util

import pytest


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
