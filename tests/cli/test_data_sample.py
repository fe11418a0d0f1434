"""``seatrial data sample``, run as a process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
OPTIONS = ("--count", "20", "--size", "96", "--digits", "1", "3", "--backgrounds", "bundled")


def test_a_set_that_is_there_is_not_made_again(data_command: Run, digits: Path) -> None:
    done = data_command("sample", "digits", "-o", digits, *OPTIONS)
    assert done.returncode == 0
    assert "there already" in done.stderr
    other = data_command("sample", "digits", "-o", digits, *OPTIONS, "--seed", "1")
    assert other.returncode == 2
    assert "digits of another recipe" in other.stderr


def test_options_reach_the_recipe(data_command: Run, digits: Path, tmp_path: Path) -> None:
    recipe = json.loads((digits / "SOURCES.json").read_text())["recipe"]
    assert recipe == {
        "count": 20, "size_px": 96, "digits": [1, 3], "seed": 0, "hold_out_backgrounds": False,
    }  # fmt: skip
    done = data_command(
        "sample", "digits", "-o", tmp_path / "own", "--count", "10", "--size", "64", "--digits",
        "1", "2", "--seed", "4", "--backgrounds", digits / "images" / "train",
        "--hold-out-backgrounds", "--format", "yolo", "--json",
    )  # fmt: skip
    assert json.loads(done.stdout) == {
        "folder": str(tmp_path / "own"),
        "pictures": {"train": 8, "val": 1, "test": 1},
    }
    sources = json.loads((tmp_path / "own" / "SOURCES.json").read_text())
    assert sources["recipe"] == {
        "count": 10, "size_px": 64, "digits": [1, 2], "seed": 4, "hold_out_backgrounds": True,
    }  # fmt: skip
    assert sources["layout"] == "yolo"
    assert not (tmp_path / "own" / "annotations").exists()
