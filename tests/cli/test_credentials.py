"""Tokens for a service at --url: of a file or of the environment, never of an option."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.cli.credentials import TOKEN, CredentialOptions
from seatrial.errors import InvalidConfig

URL = "http://127.0.0.1:3000"
ONE, TWO = "a" * 20, "b" * 20


def test_the_first_of_a_file_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, f" {TWO}\n")
    assert CredentialOptions().read(URL).token == TWO
    (tmp_path / "tokens").write_text(f"# mine\n{ONE}\n{TWO}\n")
    options = CredentialOptions(token_file=tmp_path / "tokens", ca_file=tmp_path / "ca")
    shown = options.read(URL)
    assert (shown.token, shown.ca_file) == (ONE, tmp_path / "ca")


def test_without_an_address_there_is_nobody_to_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, ONE)
    assert CredentialOptions().read(None).token is None
    with pytest.raises(InvalidConfig, match="--token-file and --ca-file"):
        CredentialOptions(ca_file=Path("ca")).read(None)


def test_a_variable_that_holds_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "short")
    with pytest.raises(InvalidConfig, match=TOKEN) as caught:
        CredentialOptions().read(URL)
    assert "short" not in caught.value.message.replace("too short", "")
