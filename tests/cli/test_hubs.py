"""The environment's settings of the model hubs."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.cli.hubs import access
from seatrial.errors import InvalidConfig
from seatrial.models.hubs.access import HUGGINGFACE, MODELSCOPE, Access

SETTINGS = ("HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "XDG_CACHE_HOME",
            "MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN", "MODELSCOPE_API_TOKEN")  # fmt: skip


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without settings, and an empty home folder."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_without_settings_the_public_hubs_are_asked_by_nobody() -> None:
    assert access() == Access(HUGGINGFACE, MODELSCOPE)


@pytest.mark.parametrize(
    ("settings", "file"),
    [
        ({}, ".cache/huggingface/token"),
        ({"XDG_CACHE_HOME": "{home}/xdg"}, "xdg/huggingface/token"),
        ({"HF_HOME": "{home}/hf"}, "hf/token"),
        ({"HF_TOKEN_PATH": "{home}/mine"}, "mine"),
    ],
)
def test_a_saved_token_goes_to_the_hub_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], file: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("hf_saved\n")
    assert access().huggingface.token == "hf_saved"
    monkeypatch.setenv("HF_TOKEN", " hf_given ")
    assert access().huggingface.token == "hf_given"
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_ENDPOINT", "hf-mirror.com")
    assert access().huggingface.token == ""
    monkeypatch.setenv("HF_TOKEN", "hf_given")
    assert access().huggingface.token == "hf_given"
    assert access().huggingface.endpoint == "https://hf-mirror.com"


def test_a_saved_token_may_be_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("hf_saved")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    assert access().huggingface.token == ""


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.parametrize(("value", "offline"), [("1", True), ("Yes", True), ("0", False)])
def test_offline(monkeypatch: pytest.MonkeyPatch, name: str, value: str, offline: bool) -> None:
    monkeypatch.setenv(name, value)
    assert access().huggingface.offline_setting == (name if offline else "")
    assert access().modelscope.offline_setting == ""


def test_modelscope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "modelscope.ai")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", " ms ")
    assert access().modelscope.endpoint == "https://modelscope.ai"
    assert access().modelscope.token == "ms"
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1/")
    assert access().modelscope.endpoint == "http://127.0.0.1:1"


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"])
def test_what_is_no_address_is_told_by_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "ftp://x")
    with pytest.raises(InvalidConfig, match=f"{name}='ftp://x'"):
        access()
