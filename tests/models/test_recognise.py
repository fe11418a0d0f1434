"""What a person says of a file goes before what the file says, and is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import exported_heads as heads
from seatrial.artifact import Artifact, Store
from seatrial.deployment import Thresholds
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import InvalidArtifact, InvalidConfig, InvalidInput, UnknownFamily
from seatrial.models.facts import ModelFacts
from seatrial.models.import_onnx import import_onnx
from seatrial.models.recognise import coco_labels

SIZE_HW = (96, 128)
NAMES = "{0: 'cat', 1: 'dog', 2: 'bird'}"


@pytest.fixture
def yolov5(tmp_path: Path) -> Path:
    path = heads.yolov5(tmp_path / "v5.onnx", size_hw=SIZE_HW, classes=3)
    return heads.named(path, stride="32", names=NAMES)


def boxes(artifact: Artifact, image: np.ndarray) -> np.ndarray:
    with Detector(artifact, open_engine(artifact, "openvino", EngineConfig())) as detector:
        one = detector.detect(image, Thresholds(iou=0.45)).detections
    return np.column_stack([one.xyxy, one.score])


def test_mean_and_deviation_are_of_pixel_values_in_the_order_of_the_channels(
    store: Store, yolov5: Path
) -> None:
    image = heads.noise((120, 160))
    plain = boxes(import_onnx(store, yolov5, name="plain"), image)
    # A model of BGR values with a mean for each: the same image, changed the other way round.
    mean, std = (10.0, 20.0, 30.0), (200.0, 255.0, 100.0)
    told = ModelFacts(channels="bgr", mean=mean, std=std)
    other = import_onnx(store, yolov5, name="other", told=told)
    assert other.manifest.step.config["told"]["channels"] == "bgr"
    canvas = np.full((*SIZE_HW, 3), 114.0)
    canvas[:96, :128] = np.asarray(heads.noise(SIZE_HW, 5))
    values = (canvas[:, :, ::-1] - mean) / std
    wanted = heads.run(yolov5, values.transpose(2, 0, 1))["output0"]
    with Detector(other, open_engine(other, "onnxruntime", EngineConfig())) as detector:
        lane = detector.engine.narrow[0]
        (found,) = lane.infer({"image": canvas[None].astype(np.uint8)}).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    assert len(plain)
    same = import_onnx(store, yolov5, name="same", told=ModelFacts(std=(255.0,) * 3))
    np.testing.assert_allclose(boxes(same, image), plain, rtol=1e-5)


def test_deviations_of_values_from_0_to_1_are_refused_with_those_of_pixel_values(
    store: Store, yolov5: Path
) -> None:
    told = ModelFacts(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    with pytest.raises(InvalidConfig, match="from 0 to 1") as refusal:
        import_onnx(store, yolov5, told=told)
    assert "--mean 123.675,116.28,103.53 --std 58.395,57.12,57.375" in refusal.value.hint


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (ModelFacts(mean=(1, 2, 3)), "--mean without --std"),
        (ModelFacts(std=(0, 1, 1)), "a deviation must be above 0"),
        (ModelFacts(imgsz=(64, 64)), "takes images of 96x128 alone"),
    ],
)
def test_facts_that_do_not_go_together(
    store: Store, yolov5: Path, told: ModelFacts, message: str
) -> None:
    with pytest.raises(InvalidConfig, match=message):
        import_onnx(store, yolov5, told=told)
    assert store.names() == []


@pytest.mark.parametrize(
    ("resize", "kept"),
    [
        ("letterbox", ("letterbox", "center")),
        ("letterbox-top-left", ("letterbox", "top_left")),
        ("stretch", ("stretch", "center")),
    ],
)
def test_another_way_to_fit_images(
    store: Store, yolov5: Path, resize: str, kept: tuple[str, str]
) -> None:
    told = ModelFacts(resize=resize)  # type: ignore[arg-type]
    found = import_onnx(store, yolov5, told=told).manifest.preprocessing
    assert (found.resize, found.align) == kept
    assert (found.size_hw, found.pad_value) == (SIZE_HW, 114)


def test_stated_labels_go_before_the_files_own(store: Store, yolov5: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")  # beside the file, which names its own
    assert import_onnx(store, yolov5, name="own").manifest.labels == ("cat", "dog", "bird")
    (tmp_path / "mine").write_text("\ufeffx y\r\n é \r\nz\r\n\r\n", encoding="utf-8")
    told = ModelFacts(labels=str(tmp_path / "mine"))
    assert import_onnx(store, yolov5, name="mine", told=told).manifest.labels == ("x y", " é ", "z")


def test_labels_that_cannot_be_read(store: Store, yolov5: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        import_onnx(store, yolov5, told=ModelFacts(labels="gone.txt"))
    (tmp_path / "empty").write_text("\n \n")
    with pytest.raises(InvalidInput, match="holds no names"):
        import_onnx(store, yolov5, told=ModelFacts(labels=str(tmp_path / "empty")))
    (tmp_path / "gap").write_text("cat\n\ndog\nbird\n")  # the classes behind it would be shifted
    with pytest.raises(InvalidInput, match="gap, line 2 is empty"):
        import_onnx(store, yolov5, told=ModelFacts(labels=str(tmp_path / "gap")))


def test_a_stated_family_is_the_one_that_is_asked(store: Store, yolov5: Path) -> None:
    with pytest.raises(UnknownFamily, match="not a detector of the family ssd"):
        import_onnx(store, yolov5, told=ModelFacts(family="ssd"))
    with pytest.raises(InvalidArtifact, match="unknown family 'yolov5'") as refusal:
        import_onnx(store, yolov5, told=ModelFacts(family="yolov5"))
    assert "yolo, ssd, detr, yolox" in refusal.value.hint


def test_cocos_names_of_80_classes_and_of_91() -> None:
    assert (len(coco_labels(80)), coco_labels(80)[79]) == (80, "toothbrush")
    assert coco_labels(91)[:2] == ("N/A", "person")
    assert coco_labels(91).count("N/A") == 11
