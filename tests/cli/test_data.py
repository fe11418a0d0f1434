"""``seatrial data``, run as a person does: exit codes, what is on which stream."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
PICTURES = ["--count", "20", "--size", "96", "--digits", "1", "3", "--backgrounds", "bundled"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("home")

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "seatrial.cli.main", "data", *map(str, words)],
            capture_output=True, text=True, check=False,
            env={**os.environ, "SEATRIAL_HOME": str(home)},
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def digits(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: seatrial[data]")
    folder = tmp_path_factory.mktemp("sets") / "digits"
    done = run("sample", "digits", "-o", folder, *PICTURES)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder)), done.stderr
    assert "train 16, val 2, test 2" in done.stderr
    return folder


def test_a_sample_that_is_there_is_not_made_again(run: Run, digits: Path) -> None:
    done = run("sample", "digits", "-o", digits, *PICTURES)
    assert done.returncode == 0
    assert "there already" in done.stderr
    other = run("sample", "digits", "-o", digits, *PICTURES, "--seed", "1")
    assert other.returncode == 2
    assert "digits of another recipe" in other.stderr


def test_check_ends_with_the_verdict(run: Run, digits: Path, tmp_path: Path) -> None:
    sound = run("check", digits, "--format", "yolo")
    assert sound.returncode == 0
    assert "20 pictures decoded; 0 errors" in sound.stderr
    assert "classes without an object" in sound.stdout  # a warning: it may be meant so
    assert run("check", digits, "--format", "yolo", "--strict").returncode == 8
    converted = tmp_path / "yolo"
    assert run("convert", digits, "--to", "yolo", "-o", converted).returncode == 0
    label = converted / "labels" / "val" / "000000.txt"
    label.write_text("10 .5 .5 .1 .1\n")
    broken = run("check", converted)
    assert broken.returncode == 8
    assert "unknown classes" in broken.stdout
    told: dict[str, Any] = json.loads(run("check", converted, "--json").stdout)
    assert told["findings"][0] == {
        "severity": "error",
        "kind": "unknown-class",
        "where": f"{label}, line 1",
        "message": "class 10 is not one of the 10 in data.yaml, from 0",
    }
    refused = run("convert", converted, "--to", "coco", "-o", tmp_path / "coco")
    assert refused.returncode == 2
    assert f"error: {label}, line 1: class 10 is not" in refused.stderr
    assert "hint: " in refused.stderr
    assert not (tmp_path / "coco").exists()


def test_split_and_preview_write_where_they_are_told(
    run: Run, digits: Path, tmp_path: Path
) -> None:
    done = run("split", digits, "-o", tmp_path / "two", "--fractions", "0.5", "0.5", "0",
               "--to", "voc", "--json")  # fmt: skip
    assert [part["images"] for part in json.loads(done.stdout)["parts"]] == [10, 10]
    sheet = run("preview", tmp_path / "two", "-o", tmp_path / "sheet.png", "--count", "4")
    assert (sheet.returncode, sheet.stdout.strip()) == (0, str(tmp_path / "sheet.png"))
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    sheet = run("preview", tmp_path / "two", "-o", tmp_path / "sheet.png", "--count", "4", "--json")
    assert json.loads(sheet.stdout) == {"file": str(tmp_path / "sheet.png"), "pictures": 4}


def test_label_asks_a_model(
    run: Run, tmp_path: Path, tiny_model: Callable[..., Any], photo: bytes
) -> None:
    for module in ("av", "scipy"):
        pytest.importorskip(module, reason=f"{module} is not installed: seatrial[video]")
    onnx.save(tiny_model(), tmp_path / "tiny.onnx")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(photo)
    done = run("label", tmp_path / "photos", "--model", tmp_path / "tiny.onnx",
               "-o", tmp_path / "out", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"] == {"red": 1}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "images", "instances.json", "label_studio.json", "label_studio.xml",
    ]  # fmt: skip
