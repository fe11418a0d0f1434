"""The page of the Python API: its examples run, and its reference is that of the docstrings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from PIL import Image

from seatrial.artifact import Store
from seatrial.models.import_onnx import import_onnx
from square_videos import write_video

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "python.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_is_that_of_the_docstrings() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference"), "--check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Callable[..., object],
    picture: Callable[..., Image.Image],
    box_of: Callable[..., list[float]],
) -> Path:
    """A folder with all that the examples name; the tiny detector goes by the name of YOLO11n."""
    folder = tmp_path_factory.mktemp("examples")
    onnx.save(tiny_model(), folder / "yolo11n.onnx")
    import_onnx(Store(folder / "home" / "artifacts"), folder / "yolo11n.onnx", name="yolo11n")
    (folder / "yolo11n.onnx").unlink()
    picture().save(folder / "photo.jpg", quality=95)
    write_video(folder / "clip.mp4", [[(8 * n, 8, 16, 250)] for n in range(3)])
    (folder / "val").mkdir()
    picture().save(folder / "val" / "1.png")
    left, top, right, bottom = box_of(2, 3)
    document = {
        "images": [{"id": 1, "file_name": "1.png", "width": 128, "height": 128}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(("red", "green", "blue"))],
        "annotations": [
            {
                "id": 1, "image_id": 1, "category_id": 0, "iscrowd": 0,
                "bbox": [left, top, right - left, bottom - top], "area": 1024,
            }
        ],
    }  # fmt: skip
    (folder / "val" / "instances.json").write_text(json.dumps(document))
    return folder


PRINTS = (
    "<1 detection: 1 red>", "", "", "(96, 160, 3)", "1.0", "CUDA",
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_runs(place: Path, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXAMPLES[number]],
        cwd=place,
        env={
            **os.environ,
            "SEATRIAL_HOME": str(place / "home"),
            "PYTHONPATH": os.pathsep.join(
                os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p
            ),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{EXAMPLES[number]}\n{done.stderr}"
    assert PRINTS[number].lower() in done.stdout.lower()


def test_every_example_has_what_it_prints() -> None:
    assert len(EXAMPLES) == len(PRINTS)
