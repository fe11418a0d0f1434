"""Tokens in files and variables: what is one, and that no message holds one."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.errors import InvalidConfig
from seatrial.system.token_files import checked_tokens, read_tokens

TOKEN = "0123456789abcdef"


def test_a_file_has_one_token_a_line(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# of the line\n\n  {TOKEN}  \r\n{TOKEN}-._~+/==\n")
    assert read_tokens(file) == [TOKEN, TOKEN + "-._~+/=="]
    file.write_text(TOKEN, encoding="utf-8-sig")  # as editors of Windows do
    assert read_tokens(file) == [TOKEN]


@pytest.mark.parametrize(
    "text", ["", "# none\n", "short\n", f"{TOKEN} {TOKEN}\n", "é" * 20, "x" * 513]
)
def test_what_is_no_token_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{text}")
    with pytest.raises(InvalidConfig, match="tokens") as caught:
        read_tokens(file)
    assert "openssl" in caught.value.hint
    assert not any(word in caught.value.message for word in text.split() if len(word) > 4)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read") as caught:
        read_tokens(tmp_path / "tokens")
    assert f"openssl rand -hex 32 > {tmp_path / 'tokens'}" in caught.value.hint
    (tmp_path / "token").touch()
    with pytest.raises(InvalidConfig) as caught:
        read_tokens(tmp_path / "tokens")
    assert caught.value.hint == f"did you mean {tmp_path / 'token'}?"


def test_a_file_that_never_ends() -> None:
    with pytest.raises(InvalidConfig, match="cannot be read: it has more than"):
        read_tokens(Path("/dev/zero"))


def test_no_token_at_all() -> None:
    with pytest.raises(InvalidConfig, match="VARIABLE holds no token"):
        checked_tokens([], "VARIABLE")
