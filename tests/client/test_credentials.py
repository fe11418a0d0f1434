"""Credentials: headers, authorities, and that no text holds a token."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.client.credentials import NONE, Credentials
from seatrial.errors import InvalidConfig


def test_a_token_is_a_header_and_in_no_text() -> None:
    shown = Credentials("secret-secret-secret")
    assert shown.headers == {"Authorization": "Bearer secret-secret-secret"}
    assert "secret" not in repr(shown) + str(shown)
    assert NONE.headers == {}


@pytest.mark.parametrize("token", ["", " ", "a\r\nX: y", "é"])
def test_what_cannot_be_a_header_is_refused(token: str) -> None:
    with pytest.raises(InvalidConfig, match="the token is empty"):
        Credentials(token)


def test_authorities_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "absent.pem"):
        with pytest.raises(InvalidConfig, match=f"{name} cannot be used"):
            Credentials(ca_file=tmp_path / name).tls()
