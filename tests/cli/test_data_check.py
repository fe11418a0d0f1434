"""``seatrial data check``, run as a process: exit codes, and the output on each stream."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]
COCO = json.dumps({
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 8]}],
    "categories": [{"id": 1, "name": "cat"}],
})  # fmt: skip


@pytest.fixture
def yolo(digits: Path, tmp_path: Path) -> Path:
    """A copy of the set, to be broken."""
    shutil.copytree(digits / "images", tmp_path / "yolo" / "images")
    shutil.copytree(digits / "labels", tmp_path / "yolo" / "labels")
    shutil.copyfile(digits / "data.yaml", tmp_path / "yolo" / "data.yaml")
    return tmp_path / "yolo"


def test_a_sound_set_may_have_warnings(data_command: Run, digits: Path) -> None:
    sound = data_command("check", digits, "--format", "yolo")
    assert sound.returncode == 0
    assert "20 images decoded; 0 errors" in sound.stderr
    assert "yolo train: 16 images" in sound.stderr
    assert "classes without an" in sound.stdout  # a warning
    assert data_command("check", digits, "--format", "yolo", "--strict").returncode == 8


def test_an_error_is_told_with_its_place(data_command: Run, yolo: Path) -> None:
    label = yolo / "labels" / "val" / "000000.txt"
    label.write_text("10 .5 .5 .1 .1\n")
    broken = data_command("check", yolo)
    assert broken.returncode == 8
    assert "unknown" in broken.stdout
    found: dict[str, Any] = json.loads(data_command("check", yolo, "--json").stdout)
    assert (found["folder"], found["pictures"]) == (str(yolo), 20)
    assert [split["split"] for split in found["splits"]] == ["train", "val", "test"]
    assert found["findings"][0] == {
        "severity": "error",
        "kind": "unknown-class",
        "where": f"{label}, line 1",
        "message": "class 10 is not one of the 10 in data.yaml, from 0",
        "remedy": "list the class, or correct the label; YOLO counts from 0",
    }


def test_the_number_of_examples(data_command: Run, yolo: Path) -> None:
    (yolo / "labels" / "val" / "000000.txt").write_text("10 .5 .5 .1 .1\n" * 5)
    for examples, shown in (("2", 2), ("3", 3), ("0", 5)):
        out = data_command("check", yolo, "--examples", examples).stdout
        assert out.count("class 10 is not") == shown
        assert (f"and {5 - shown} more (--examples 0, --json)" in out) == (shown < 5)


def test_a_folder_without_a_dataset(data_command: Run, tmp_path: Path) -> None:
    done = data_command("check", tmp_path)
    assert done.returncode == 2
    assert "holds no dataset of a known format" in done.stderr


@pytest.mark.parametrize(
    "texts",
    [
        {"a.yaml": "val: images\nnames: [cat]\n", "b.yaml": "val: images\nnames: [cat]\n"},
        {"a.json": COCO, "b.json": COCO},
        {"annotations/my train.json": COCO, "annotations/other train.json": COCO,
         "annotations/val.json": COCO},
    ],
)  # fmt: skip
def test_the_option_in_a_hint_is_what_helps(
    data_command: Run, tmp_path: Path, texts: dict[str, str]
) -> None:
    for name, text in {**texts, "labels/a.txt": "0 .5 .5 .2 .2\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.png")
    refused = data_command("convert", tmp_path, "--to", "voc", "-o", tmp_path / "out")
    assert refused.returncode == 2
    words = shlex.split(refused.stderr.partition("for example: ")[2])
    assert words[:1] == ["--annotations"]
    done = data_command("convert", tmp_path, "--to", "voc", "-o", tmp_path / "out", *words)
    assert done.returncode == 0, done.stderr
    listed = data_command("check", tmp_path, "--json")
    assert "--annotations" in "".join(i["remedy"] for i in json.loads(listed.stdout)["findings"])
