"""Installed versions."""

from __future__ import annotations

import importlib.metadata

from seatrial.system.versions import versions


def test_seatrial_comes_first_and_what_is_absent_is_left_out() -> None:
    found = versions("numpy", "no-such-package")
    assert list(found) == ["seatrial", "numpy"]
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert found["seatrial"] == importlib.metadata.version("seatrial")
