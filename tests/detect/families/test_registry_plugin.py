"""A family from outside the package, by its entry point: the one of docs/guides/add-a-family.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import exported_heads as heads

SIZE_HW = (128, 192)
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "add-a-family.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def install(folder: Path, *, name: str, target: str, code: str) -> None:
    """What pip lays down for the guide's package: its module, and where its entry point is told."""
    package = folder / "seatrial_nanodet-0.1.0.dist-info"
    package.mkdir(parents=True)
    (folder / "seatrial_nanodet.py").write_text(code)
    (package / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: seatrial-nanodet\nVersion: 0.1.0\n"
    )
    (package / "entry_points.txt").write_text(f"[seatrial.families]\n{name} = {target}\n")


def by_nanodet(path: Path, image: np.ndarray) -> np.ndarray:
    """NanoDet's ``demo``: warped to the canvas, BGR, normalised; bins, cells, NMS of a class."""
    height, width = image.shape[:2]
    scale = np.diag([SIZE_HW[1] / width, SIZE_HW[0] / height, 1])
    canvas = cv2.warpPerspective(image[:, :, ::-1], scale, SIZE_HW[::-1]).astype(np.float32)
    mean, std = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    rows = heads.run(path, ((canvas - mean) / std).transpose(2, 0, 1))["output"][0]
    scores, bins = rows[:, :80], rows[:, 80:].reshape(-1, 4, 8)
    chances = np.exp(bins) / np.exp(bins).sum(axis=2, keepdims=True)
    sides = (chances * np.arange(8)).sum(axis=2)
    strides = (8, 16, 32, 64)
    steps = [np.full((len(heads.cells(SIZE_HW, s)), 1), s) for s in strides]
    stride = np.concatenate(steps)
    centre = np.concatenate([heads.cells(SIZE_HW, s) for s in strides]) * stride
    sides = sides * stride
    xyxy = np.concatenate([centre - sides[:, :2], centre + sides[:, 2:]], axis=1)
    xyxy = np.clip(xyxy, 0, [SIZE_HW[1], SIZE_HW[0]] * 2)
    centred = np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    kept = heads.ranked(centred, scores, confidence=0.35, iou=0.6, agnostic=False)
    kept[:, :4] /= np.array([SIZE_HW[1] / width, SIZE_HW[0] / height] * 2)
    return kept


def environment_with(folder: Path) -> dict[str, str]:
    """The environment with a folder of packages before those that are there."""
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), before]))}


def seatrial(
    tmp_path: Path, *arguments: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = environment_with(path) if path is not None else {**os.environ}
    environment["SEATRIAL_HOME"] = str(tmp_path / "home")
    return subprocess.run(
        [sys.executable, "-m", "seatrial.cli.main", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(
        tmp_path / "site",
        name="nanodet",
        target="seatrial_nanodet:NanoDet",
        code=block("python"),
    )
    return tmp_path / "site"


def test_the_guides_entry_point_is_the_one_that_is_looked_up() -> None:
    from seatrial.detect.families.registry import ENTRY_POINTS

    assert f'[project.entry-points."{ENTRY_POINTS}"]' in block("toml")
    assert 'nanodet = "seatrial_nanodet:NanoDet"' in block("toml")


def test_the_guides_family_finds_what_nanodet_finds(tmp_path: Path, site: Path) -> None:
    path = heads.nanodet(tmp_path / "nanodet.onnx", size_hw=SIZE_HW, classes=80)
    arguments = ("models", "import", str(path), "--labels", "coco")
    done = seatrial(tmp_path, *arguments, path=site)
    assert done.returncode == 0, done.stderr
    assert "nanodet: nanodet, 192x128, 80 classes" in done.stderr
    image = heads.noise((320, 400))
    Image.fromarray(image).save(tmp_path / "noise.png")
    arguments = ("detect", str(tmp_path / "noise.png"), "--model", "nanodet", "--json")
    done = seatrial(tmp_path, *arguments, path=site)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["detections"]
    found = np.array([[*one["box"], one["confidence"], one["class_id"]] for one in rows])
    wanted = by_nanodet(path, image)
    assert len(wanted) > 20
    # Pixels are rounded to bytes on the way: scores at the threshold may fall on either side.
    unit = np.array([1, 1, 1, 1, 0.02, 0.5])
    same = (np.abs(found[:, None] - wanted[None]) / unit).max(axis=2) < 1
    assert same[found[:, 4] > 0.4].any(axis=1).mean() > 0.95
    assert same[:, wanted[:, 4] > 0.4].any(axis=0).mean() > 0.95
    # Without the package its artifacts say what is missing.
    done = seatrial(tmp_path, *arguments)
    assert done.returncode == 3
    assert "unknown family 'nanodet'" in done.stderr
    assert "packages of their own" in done.stderr


def test_a_family_whose_package_is_broken_is_named_and_harms_no_other(tmp_path: Path) -> None:
    install(tmp_path / "site", name="odd", target="seatrial_nanodet:Odd", code="import nowhere\n")
    code = (
        "from seatrial.errors import InvalidArtifact\n"
        "from seatrial.detect.families.registry import family_class\n"
        "print(family_class('yolo').__name__)\n"
        "try:\n    family_class('odd')\n"
        "except InvalidArtifact as error:\n    print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment_with(tmp_path / "site"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Yolo\nthe family 'odd' of an installed package does not import")
    assert "No module named 'nowhere'" in done.stdout


def test_a_package_cannot_take_over_a_family_of_the_table(tmp_path: Path) -> None:
    install(tmp_path / "site", name="yolo", target="seatrial_nanodet:NanoDet", code="NanoDet=1")
    code = "from seatrial.detect.families.registry import family_class; print(family_class('yolo'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment_with(tmp_path / "site"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "seatrial.detect.families.yolo.Yolo" in done.stdout
