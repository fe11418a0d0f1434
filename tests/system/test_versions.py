"""Versions of the packages that made an artifact."""

from __future__ import annotations

import numpy as np

from seatrial.system.versions import versions


def test_versions_leave_out_what_is_not_installed() -> None:
    found = versions("numpy", "no-such-package-of-ours")
    assert found["numpy"] == np.__version__
    assert set(found) == {"seatrial", "numpy"}
