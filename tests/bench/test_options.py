"""What has to be installed before a measurement."""

from __future__ import annotations

import sys

import pytest

from seatrial.bench.options import ENOUGH_REQUESTS, require_client
from seatrial.errors import MissingExtra


@pytest.mark.parametrize("module", ["httptools", "psutil", "scipy", "uvloop", "yarl"])
def test_each_package_of_the_client_is_named_with_its_extra(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_client()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=f"{module} is not installed; it is needed for") as told:
        require_client()
    assert "[bench]" in told.value.hint


def test_the_smallest_sample_has_a_bound_for_the_last_percentile() -> None:
    assert ENOUGH_REQUESTS == 662
