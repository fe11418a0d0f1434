"""``seatrial data label``, run as a process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_model_draws_the_labels(
    data_command: Run, tmp_path: Path, tiny_model: Callable[..., Any], photo: bytes
) -> None:
    for module in ("av", "scipy"):
        pytest.importorskip(module, reason=f"{module} is not installed: seatrial[video]")
    onnx.save(tiny_model(), tmp_path / "tiny.onnx")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(photo)
    words = ("label", tmp_path / "photos", "--model", tmp_path / "tiny.onnx")
    done = data_command(*words, "-o", tmp_path / "out", "--classes", "red", "--no-track", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"] == {"red": 1}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "images", "instances.json", "label_studio.json", "label_studio.xml",
    ]  # fmt: skip
    done = data_command(*words, "-o", tmp_path / "more", "--confidence", "0.05")
    assert done.returncode == 2
    assert "0 < weakest <= confidence <= 1" in done.stderr
    done = data_command(*words, "-o", tmp_path / "more")
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "more"))
    assert "detected in 1 image, kept 1: red 1" in done.stderr
