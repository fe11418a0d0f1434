"""``seatrial data convert``, ``split`` and ``preview``, run as processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from seatrial.cli.data_write import MOST_CLASSES

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_convert_refuses_errors_unless_they_are_mended(
    data_command: Run, digits: Path, tmp_path: Path
) -> None:
    converted = tmp_path / "yolo"
    assert data_command("convert", digits, "--to", "yolo", "-o", converted).returncode == 0
    label = converted / "labels" / "val" / "000000.txt"
    label.write_text("10 .5 .5 .1 .1\n")
    words = ("convert", converted, "--to", "coco", "-o", tmp_path / "coco")
    refused = data_command(*words)
    assert refused.returncode == 2
    assert f"error: {label}, line 1: class 10 is not" in refused.stderr
    assert "hint: " in refused.stderr
    assert not (tmp_path / "coco").exists()
    mended = data_command(*words, "--mend", "--link", "--format", "yolo", "--json")
    assert mended.returncode == 0, mended.stderr
    written = json.loads(mended.stdout)
    assert list(written) == ["folder", "format", "parts", "notes"]
    assert written["notes"] == ["mended, unknown classes: 1"]
    linked = tmp_path / "coco" / "images" / "val" / "000000.jpg"
    source = converted / "images" / "val" / "000000.jpg"
    assert linked.stat().st_ino == source.stat().st_ino


def test_split_and_preview_write_where_they_are_told(
    data_command: Run, digits: Path, tmp_path: Path
) -> None:
    done = data_command(
        "split", digits, "-o", tmp_path / "two", "--fractions", "0.5", "0.5", "0", "--group",
        "none", "--seed", "3", "--no-alike", "--to", "voc", "--json",
    )  # fmt: skip
    assert [part["images"] for part in json.loads(done.stdout)["parts"]] == [10, 10]
    sheet = tmp_path / "sheet.png"
    words = ("preview", tmp_path / "two", "-o", sheet, "--count", "4", "--columns", "2")
    done = data_command(*words, "--tile", "64")
    assert (done.returncode, done.stdout.strip()) == (0, str(sheet))
    assert sheet.read_bytes().startswith(b"\x89PNG")
    done = data_command(*words, "--json")
    assert json.loads(done.stdout) == {"file": str(sheet), "pictures": 4}


def test_options_that_make_no_sense_are_errors_of_the_command(
    data_command: Run, digits: Path, tmp_path: Path
) -> None:
    for words, message in (
        (
            ("split", digits, "-o", tmp_path / "x", "--seed", "-1"),
            "--block and --seed must be 0 or more",
        ),
        (("preview", digits, "-o", tmp_path / "x.jpg", "--columns", "0"), "--columns 1 or more"),
    ):
        done = data_command(*words)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_classes_with_brackets_are_shown_as_they_are(data_command: Run, tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "images").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(source / "images" / "shop[a].png")
    (source / "data.yaml").write_text("train: images\nnames: ['box [/]', 'car [back]']\n")
    (source / "labels").mkdir()
    (source / "labels" / "shop[a].txt").write_text("0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n9 1 1 1 1\n")
    checked = data_command("check", source)
    assert "shop[a].txt" in checked.stdout
    (source / "labels" / "shop[a].txt").write_text("0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n")
    done = data_command("convert", source, "--to", "voc", "-o", tmp_path / "out[1]")
    assert done.returncode == 0, done.stderr
    assert "box [/]" in done.stderr
    assert "car [back]" in done.stderr
    assert "out[1]" in done.stdout


def test_the_table_ends_where_classes_are_many(data_command: Run, tmp_path: Path) -> None:
    source = tmp_path / "set"
    for part, suffix in (("images", "png"), ("labels", "txt")):
        (source / part / "val").mkdir(parents=True)
        (source / part / "val" / f"a.{suffix}").write_text("1 .5 .5 .2 .2\n")
    Image.new("RGB", (40, 30)).save(source / "images" / "val" / "a.png")
    names = ", ".join(f"c{number}" for number in range(MOST_CLASSES + 3))
    (source / "data.yaml").write_text(f"val: images/val\nnames: [{names}]\n")
    done = data_command("convert", source, "--to", "coco", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "and 3 classes more (--json)" in done.stderr
    assert f"c{MOST_CLASSES - 1} " in done.stderr
    assert f"c{MOST_CLASSES} " not in done.stderr
