"""``seatrial finetune``: the name of the result, and the end by Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seatrial.cli import finetune as module
from seatrial.errors import InvalidConfig, InvalidInput
from seatrial.train import run
from seatrial.train.journal import Epoch, Journal
from seatrial.train.options import FinetuneOptions

OPTIONS = FinetuneOptions(trainer="transformers", data="coco:nowhere")


def test_one_name_is_needed_and_its_older_form_is_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for given in ({}, {"name": "a", "old_name": "b"}):
        with pytest.raises(InvalidConfig, match="needs one --name"):
            module.finetune(OPTIONS, base="scratch:nowhere", **given)
    assert module._one_name(None, "a") == "a"
    assert "--name is the name of the artifact" in capsys.readouterr().err
    with pytest.raises(InvalidInput, match="'A b' cannot name an artifact"):
        module.finetune(OPTIONS, base="scratch:nowhere", name="A b")


def test_an_interruption_says_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))

    def interrupted(store: Any, folder: Path, *rest: Any, **options: Any) -> None:
        folder.mkdir(parents=True)
        Journal(folder).epoch(Epoch(1, 3, 1.0, 0.1, 0.2, 0.1, 1.0, 1.0))
        (folder / run.TRAINED).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "finetune", interrupted)
    monkeypatch.setattr(run, "read_plan", lambda folder: object())
    monkeypatch.setattr(FinetuneOptions, "base", lambda *given: None)
    with pytest.raises(KeyboardInterrupt):
        module.finetune(OPTIONS, base="scratch:nowhere", name="digits")
    told = " ".join(capsys.readouterr().err.split())
    assert f"all 1 epochs are saved in {tmp_path / 'runs' / 'digits'}" in told
    assert "the same command goes on" in told
