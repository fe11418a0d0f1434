"""``seatrial detect``: one image through the request path, told as a table or as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from seatrial.artifact import Artifact
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.detect import detect
from seatrial.errors import InvalidInput, NotWritable


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Grey, with one red cell in the upper left corner."""
    picture = Image.new("RGB", (64, 64), (90, 90, 90))
    picture.paste((255, 0, 0), (0, 0, 8, 8))
    picture.save(tmp_path / "[red].png")
    return tmp_path / "[red].png"


@pytest.fixture
def run(tiny_artifact: Artifact, image: Path) -> Callable[..., None]:
    def run(**given: Any) -> None:
        model = DeploymentOptions(model=str(tiny_artifact.path), instances=1, wide=False)
        detect(image, options=model, **given)

    return run


def test_the_table_names_what_was_found(
    run: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    run()
    told = capfd.readouterr()
    rows = [line.split() for line in told.out.splitlines() if "red" in line]
    assert [row[1:-1:2] for row in rows] == [["red", "1.000", "0.0", "0.0", "12.0", "12.0"]]
    assert "1 objects in [red].png (64x64); openvino on cpu, f32, inference" in told.err


def test_the_json_is_the_services_answer(
    run: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    run(json=True)
    found = json.loads(capfd.readouterr().out)
    assert set(found) == {"image", "detections", "timing_ms", "lane_threads"}
    assert found["image"] == {"width": 64, "height": 64}
    (row,) = found["detections"]
    assert (row["label"], row["box"]) == ("red", [0, 0, 12, 12])


def test_the_thresholds_are_those_given(
    run: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    run(confidence=1.0, json=True)
    assert json.loads(capfd.readouterr().out)["detections"] == []
    with pytest.raises(InvalidInput, match=r"^--confidence must be a number <= 1"):
        run(confidence=1.5)
    with pytest.raises(InvalidInput, match=r"^--iou must be a number >= 0"):
        run(iou=-0.5)


def test_the_drawing_is_saved(run: Callable[..., None], tmp_path: Path) -> None:
    run(save=tmp_path / "drawn.jpg")
    with Image.open(tmp_path / "drawn.jpg") as drawn:
        assert (drawn.format, drawn.size) == ("JPEG", (64, 64))


def test_a_drawing_is_a_jpeg_file(run: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"--save writes a JPEG file, not drawn\.png"):
        run(save=tmp_path / "drawn.png")


def test_a_drawing_that_cannot_be_written_is_named_before_the_work(
    run: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotWritable, match=r"drawn\.jpg cannot be written: No such file") as refusal:
        run(save=tmp_path / "gone" / "drawn.jpg")
    assert refusal.value.hint == "name another file (--save)"
    assert capfd.readouterr() == ("", "")


def test_a_damaged_image_is_named(tiny_artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"no image")
    with pytest.raises(InvalidInput, match=r"notes\.png: the file is not in a known image format"):
        detect(tmp_path / "notes.png", options=DeploymentOptions(model=str(tiny_artifact.path)))


def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"{os.sep}gone.jpg cannot be read: No such file"):
        detect(tmp_path / "gone.jpg", options=DeploymentOptions(model="x"))


WITHOUT_SERVE = """
import sys
for name in ("starlette", "bentoml", "uvicorn", "uvloop", "httptools", "prometheus_client",
             "multipart", "python_multipart"):
    sys.modules[name] = None
import seatrial.cli.evaluate, seatrial.demo.models
from seatrial.cli.main import main
sys.argv = ["seatrial", "detect", *sys.argv[1:]]
main()
"""


def test_it_needs_nothing_of_the_extra_for_serving(tiny_artifact: Artifact, image: Path) -> None:
    given = [image, "--model", tiny_artifact.path, "--engine", "onnxruntime", "--json"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_SERVE, *map(str, given)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [row["label"] for row in json.loads(done.stdout)["detections"]] == ["red"]
