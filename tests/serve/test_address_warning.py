"""The warning for a service that strangers may reach."""

from __future__ import annotations

import pytest

from seatrial.deployment import Server
from seatrial.serve.address import warning


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
def test_none_on_this_machine_alone(host: str) -> None:
    assert warning(host, needs_token=False) == ""
    assert Server().host == "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fe80::1%eth0"])
def test_beyond_it_where_no_token_is_needed(host: str) -> None:
    assert "token_file" in warning(host, needs_token=False)
    assert warning(host, needs_token=True) == ""
