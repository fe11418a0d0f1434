"""``seatrial export`` as a person runs it: a table or JSON, progress, and errors in two lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ModelFile = Callable[..., Path]


def seatrial(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seatrial.cli.main", *arguments],
        env={**os.environ, "SEATRIAL_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(tmp_path: Path, model_file: ModelFile, cell_images: Path) -> None:
    path = str(model_file())
    labels = ("--annotations", str(cell_images / "instances.json"))
    asked = ("export", path, "--to", "openvino", "--images", str(cell_images), *labels)
    done = seatrial(tmp_path / "home", *asked, "--name", "made", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["child"]["artifact"] == "made"
    assert report["accuracy"]["difference"] == 0
    assert "writing openvino f32" in done.stderr
    assert (tmp_path / "home" / "artifacts" / "made" / "model.xml").is_file()

    page = tmp_path / "new" / "export.html"
    done = seatrial(tmp_path / "home", *asked, "--replace", "--report", str(page))
    assert "mean IoU of pairs" in done.stdout
    html = page.read_text()
    for words in ("holds against", "mean IoU of pairs", "Shift of confidence", "Difference in AP",
                  f"{cell_images}, ", "digest of the images", "processor",
                  "seatrial export", '<span class="option">--replace</span>'):  # fmt: skip
        assert words in html, words
    assert "there are no labels" not in html
    done = seatrial(tmp_path / "home", *asked, "--imgsz", "large")
    assert (done.returncode, "not a size" in done.stderr) == (2, True)


def test_the_command_says_it_in_one_line_and_a_hint(
    tmp_path: Path, model_file: ModelFile, cell_images: Path
) -> None:
    path = model_file("cut.onnx")
    path.write_bytes(path.read_bytes()[:-100])
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "seatrial.cli.main", "export", str(path), "--to", "onnx",
         "--images", str(cell_images)],
        env={**os.environ, "SEATRIAL_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert "cut.onnx is not a readable ONNX model" in error
    assert hint.startswith("hint: ")
    assert not (home / "artifacts").exists()
