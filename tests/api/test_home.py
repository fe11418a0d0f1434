"""Commands and programs keep their artifacts in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.api.home import home, store


def test_the_variable_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SEATRIAL_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert home() == tmp_path / "data" / "seatrial"
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path / "mine"))
    assert home() == tmp_path / "mine"
    assert store().root == tmp_path / "mine" / "artifacts"


def test_the_default_is_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEATRIAL_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert home() == Path("/home/somebody/.local/share/seatrial")
