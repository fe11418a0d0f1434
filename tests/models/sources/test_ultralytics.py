"""YOLO by name: what a person is told when the weights or the extra are not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from seatrial.errors import MissingExtra, SourceUnavailable
from seatrial.models.sources import ultralytics
from seatrial.system.extras import install_command


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)  # as if it were not installed
    told: list[str] = []
    with pytest.raises(MissingExtra, match="needed for pulling yolo11s") as refusal:
        ultralytics.export("yolo11s", tmp_path, told.append)
    assert refusal.value.hint.startswith(f"{install_command('yolo')} (AGPL-3.0), or export it")
    assert told == []
    assert list(tmp_path.iterdir()) == []


def test_weights_that_cannot_be_reached_say_which_file_to_give() -> None:
    error = ultralytics._unreachable(Path("/somewhere/yolo11n.pt"))
    assert isinstance(error, SourceUnavailable)
    assert "yolo11n.pt cannot be reached" in error.message
    assert "seatrial models import yolo11n.onnx" in error.hint
    assert "yolo export model=yolo11n.pt format=onnx" in error.hint
    assert error.exit_code == 5
