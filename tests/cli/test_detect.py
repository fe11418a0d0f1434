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
        detect(str(image), options=model, **given)

    return run


def test_the_table_names_what_was_found(
    run: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    run()
    told = capfd.readouterr()
    rows = [line.split() for line in told.out.splitlines() if "red" in line]
    assert [row[1:-1:2] for row in rows] == [["red", "1.000", "0.0", "0.0", "12.0", "12.0"]]
    assert "1 object in [red].png (64x64); openvino on cpu, f32, inference" in told.err


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
    run(output=tmp_path / "drawn.jpg")
    with Image.open(tmp_path / "drawn.jpg") as drawn:
        assert (drawn.format, drawn.size) == ("JPEG", (64, 64))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jpg", "JPEG"), ("a.PNG", "PNG"), ("a.webp", "WEBP"), ("a.bmp", "BMP"), ("a.tif", "TIFF")],
)
def test_the_drawing_has_the_format_of_its_name(
    run: Callable[..., None], tmp_path: Path, name: str, kind: str
) -> None:
    run(output=tmp_path / name)
    with Image.open(tmp_path / name) as drawn:
        assert (drawn.format, drawn.size) == (kind, (64, 64))
        assert drawn.convert("RGB").getpixel((30, 30)) == pytest.approx((90, 90, 90), abs=3)


def test_a_format_that_is_not_written_is_refused(run: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no image is written as drawn\.heic") as refusal:
        run(output=tmp_path / "drawn.heic")
    assert ".png" in refusal.value.hint


@pytest.mark.parametrize("way", ["itself", "dots", "link", "linked input", "hard link"])
def test_no_input_is_overwritten(
    tiny_artifact: Artifact, image: Path, tmp_path: Path, way: str
) -> None:
    content = image.read_bytes()
    given, output = image, image
    if way == "dots":
        output = tmp_path / "sub" / ".." / image.name
        (tmp_path / "sub").mkdir()
    elif way == "link":
        output = tmp_path / "link.png"
        output.symlink_to(image)
    elif way == "linked input":
        given = tmp_path / "link.png"
        given.symlink_to(image)
    elif way == "hard link":
        output = tmp_path / "link.png"
        output.hardlink_to(image)
    with pytest.raises(InvalidInput, match="is one of the inputs") as refusal:
        detect(str(given), options=DeploymentOptions(model="not-looked-for"), output=output)
    assert refusal.value.hint == "name another file (--output)"
    assert image.read_bytes() == content


@pytest.mark.parametrize("way", ["model", "deployment"])
def test_no_model_is_overwritten(
    tiny_artifact: Artifact, image: Path, tmp_path: Path, way: str
) -> None:
    """Whatever its name: a model may be called .jpg."""
    output = tmp_path / "named.jpg"
    output.write_text('model = "not-looked-for"\n')
    options = DeploymentOptions(**{way: str(output) if way == "model" else output})
    with pytest.raises(InvalidInput, match="is one of the inputs"):
        detect(str(image), options=options, output=output)


def test_classes_are_names_or_numbers_and_do_not_use_up_the_boxes(
    tiny_artifact: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = Image.new("RGB", (64, 64), (90, 90, 90))
    for column, colour in enumerate(((255, 0, 0), (255, 0, 0), (0, 0, 255))):
        image.paste(colour, (24 * column, 0, 24 * column + 8, 8))
    image.save(tmp_path / "three.png")
    labels = tiny_artifact.manifest.labels
    blue = labels.index("blue")
    model = DeploymentOptions(model=str(tiny_artifact.path), instances=1, wide=False)
    for classes in (("blue",), (str(blue),), (f"BLUE,{blue}",), (f"[{blue}]",)):
        given = {"classes": classes, "max_detections": 1, "json": True}
        detect(str(tmp_path / "three.png"), options=model, **given)
        (row,) = json.loads(capfd.readouterr().out)["detections"]
        assert (row["label"], row["box"][0]) == ("blue", pytest.approx(44, abs=8))
    with pytest.raises(InvalidInput, match="no class 'bleu'") as refusal:
        detect(str(tmp_path / "three.png"), options=model, classes=("bleu",))
    assert refusal.value.hint == "did you mean 'blue'?"


@pytest.mark.parametrize(
    ("words", "given", "message", "hint"),
    [
        (["source=a.jpg", "model=yolo11n"], {}, "'source=a.jpg' is not a file", "without an"),
        (["a.jpg", "what=0.4"], {}, "'what=0.4' is not a file", "seatrial detect --help"),
        (["predict", "a.jpg"], {}, "'predict' is not a file", "seatrial detect --help"),
        (["yolo11n", "a.jpg"], {}, "'yolo11n' is a model: --model names it", "--model yolo11n"),
        (["m.onnx", "a.jpg"], {}, "'m.onnx' is a model: --model names it", "--model m.onnx"),
        (["a.jpg", "imgsz=320"], {}, "'imgsz=320' is not a file", "seatrial export"),
        (["2", "a.jpg"], {"classes": ("0",)}, "2 is not a file", "--classes 0,2"),
        (["a.jpg"], {"every": 0}, "--every must be 1 or more", ""),
        ([], {}, "needs IMAGE", "--model NAME"),
    ],
)
def test_the_words_of_other_tools_are_answered(
    words: list[str], given: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as refusal:
        detect(*words, **given)
    assert hint in refusal.value.hint


def test_a_name_with_an_equals_sign_is_a_file_where_there_is_one(
    tiny_artifact: Artifact, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image.rename("day=1.png")
    detect("day=1.png", options=DeploymentOptions(model=str(tiny_artifact.path)))


def test_a_drawing_that_cannot_be_written_is_named_before_the_work(
    run: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotWritable, match=r"drawn\.jpg cannot be written: No such file") as refusal:
        run(output=tmp_path / "gone" / "drawn.jpg")
    assert refusal.value.hint == "name another file (--output)"
    assert capfd.readouterr() == ("", "")


def test_a_damaged_image_is_named(tiny_artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"no image")
    with pytest.raises(InvalidInput, match=r"notes\.png: the file is not in a known image format"):
        detect(
            str(tmp_path / "notes.png"), options=DeploymentOptions(model=str(tiny_artifact.path))
        )


def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"{os.sep}gone.jpg cannot be read: No such file"):
        detect(str(tmp_path / "gone.jpg"), options=DeploymentOptions(model="x"))


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
