"""Credentials: headers, authorities, and that no text holds a token."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from certificates import make_certificate
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


def test_what_is_wrong_with_the_authorities_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("nothing")
    (tmp_path / "ca.pem").mkdir()
    for name, said in {
        "text.pem": "it holds no certificate in PEM",
        "tex.pem": "No such file or directory",
        "ca.pem": "Is a directory",
    }.items():
        with pytest.raises(InvalidConfig) as caught:
            Credentials(ca_file=tmp_path / name).tls()
        assert caught.value.message == f"ca_file {tmp_path / name} cannot be used: {said}"
        assert caught.value.hint
    with pytest.raises(InvalidConfig) as caught:
        Credentials(ca_file=tmp_path / "tex.pem").tls()
    assert "did you mean" in caught.value.hint


@pytest.mark.usefixtures("time_limit")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca.pem")
    with pytest.raises(InvalidConfig, match="it is not a regular file"):
        Credentials(ca_file=tmp_path / "ca.pem").tls()
    with pytest.raises(InvalidConfig, match="has more than 16 MiB"):
        Credentials(ca_file="/dev/zero").tls()


def test_authorities_with_words_between_them(tmp_path: Path) -> None:
    """As bundles have them: the names of authorities, in any script."""
    made = [make_certificate(tmp_path, name).certificate.read_text() for name in ("a", "b")]
    (tmp_path / "ca.pem").write_text("# Főtanúsítvány\n" + "\n# Ελλάδα\n".join(made) + "\nend\n")
    context = Credentials(ca_file=tmp_path / "ca.pem").tls()
    assert context.cert_store_stats()["x509"] == 2
    assert context.verify_mode is ssl.CERT_REQUIRED
