"""YOLOv5, v6 and v7: what their own detect.py makes of the same file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import exported_heads as heads
from seatrial.artifact import Artifact, Store
from seatrial.deployment import DetectionDefaults
from seatrial.detect.detector import Detector
from seatrial.detect.families.yolo import Yolo
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import InvalidArtifact
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import TensorSpec
from seatrial.models.facts import ModelFacts
from seatrial.models.import_onnx import import_onnx

SIZE_HW, CLASSES = (96, 128), 3
SOURCES_HW = ((200, 168), (64, 240), (96, 128), (336, 504))
IMAGE = TensorSpec("images", "float32", (1, 3, 640, 640))


def by_detect_py(path: Path, image: np.ndarray, *, only_objectness: bool = False) -> np.ndarray:
    """yolov5 ``detect.py``: RGB, centred letterbox, 0-1, object times class, NMS of each class."""
    height, width = image.shape[:2]
    gain = min(SIZE_HW[0] / height, SIZE_HW[1] / width)
    inner = round(width * gain), round(height * gain)
    left, top = (round((SIZE_HW[1] - inner[0]) / 2 - 0.1), round((SIZE_HW[0] - inner[1]) / 2 - 0.1))
    canvas = np.full((*SIZE_HW, 3), 114, np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner)
    rows = heads.run(path, canvas.transpose(2, 0, 1) / 255)["output0"][0]
    scores = rows[:, 4:5] if only_objectness else rows[:, 4:5] * rows[:, 5:]
    boxes = (rows[:, :4] - [left, top, 0, 0]) / np.array([*inner, *inner]) * ([width, height] * 2)
    kept = heads.ranked(boxes, scores, confidence=0.25, iou=0.45, agnostic=False)
    return heads.clipped(kept, (height, width))[:300]


def assert_boxes(artifact: Artifact, path: Path, **rule: bool) -> None:
    rules = DetectionDefaults().of(artifact.manifest)
    assert (rules.confidence, rules.iou) == (0.25, 0.45)
    images = [heads.noise(source_hw, number) for number, source_hw in enumerate(SOURCES_HW)]
    every = [by_detect_py(path, image, **rule) for image in images]
    for engine in ("openvino", "onnxruntime"):
        with Detector(artifact, open_engine(artifact, engine, EngineConfig())) as detector:
            for image, wanted in zip(images, every, strict=True):
                assert len(wanted) > 5
                one = detector.detect(image, rules).detections
                found = np.column_stack([one.xyxy, one.score, one.class_id])
                np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=0.02)


def test_yolov5_names_its_classes_itself(store: Store, tmp_path: Path) -> None:
    path = heads.yolov5(tmp_path / "v5.onnx", size_hw=SIZE_HW, classes=CLASSES)
    heads.named(path, stride="32", names="{0: 'cat', 1: 'dog', 2: 'bird'}")
    artifact = import_onnx(store, path)
    assert (artifact.manifest.family, artifact.manifest.variant) == ("yolo", "objectness")
    assert artifact.manifest.labels == ("cat", "dog", "bird")
    assert_boxes(artifact, path)


def test_yolov7_is_recognised_by_its_anchors_and_asks_for_names(
    store: Store, tmp_path: Path
) -> None:
    path = heads.yolov5(tmp_path / "v7.onnx", size_hw=SIZE_HW, classes=CLASSES)
    with pytest.raises(InvalidArtifact, match="does not name its classes") as refusal:
        import_onnx(store, path)
    assert f"seatrial models import {path} --labels FILE" in refusal.value.hint
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n", encoding="utf-16")
    artifact = import_onnx(store, path)
    assert artifact.manifest.labels == ("cat", "dog", "bird")
    assert_boxes(artifact, path)


def test_the_one_class_of_yolov7_has_no_score_of_its_own(store: Store, tmp_path: Path) -> None:
    path = heads.yolov5(tmp_path / "v7.onnx", size_hw=SIZE_HW, classes=1)
    (tmp_path / "labels.txt").write_text("ship")
    artifact = import_onnx(store, path)
    assert artifact.manifest.variant == "objectness_only"
    assert_boxes(artifact, path, only_objectness=True)


def test_labels_that_do_not_fit_are_refused(store: Store, tmp_path: Path) -> None:
    path = heads.yolov5(tmp_path / "v7.onnx", size_hw=SIZE_HW, classes=CLASSES)
    with pytest.raises(InvalidArtifact, match="has 3 classes and the labels are 80, 'person'"):
        import_onnx(store, path, told=ModelFacts(labels="coco"))


@pytest.mark.parametrize(
    ("outputs", "variant", "certain"),
    [
        ([(1, 25200, 85)], "objectness", True),
        ([(-1, 25200, 85)], "objectness", True),
        ([(1, 25500, 85)], "objectness", True),  # with a fourth map, of stride 64
        ([(1, 8400, 85)], "objectness", False),  # YOLOv6, or YOLOX
        ([(1, 84, 8400)], "anchors", False),
        ([(1, 300, 6)], "end_to_end", False),
        # YOLOv5 up to 6.0 exports its maps besides
        ([(1, 25200, 85), (1, 3, 80, 80, 85), (1, 3, 40, 40, 85)], "objectness", True),
    ],
)
def test_layouts_without_metadata(
    outputs: list[tuple[int, ...]], variant: str, certain: bool
) -> None:
    specs = tuple(TensorSpec(f"o{n}", "float32", shape) for n, shape in enumerate(outputs))
    found = Yolo.recognise(GraphSignature((IMAGE,), specs, {}))
    assert found is not None
    assert (found.variant, found.certain) == (variant, certain)
    assert found.labels == ()
    if len(outputs) > 1:
        assert found.outputs == {"o0": "o0"}


def test_yolov7_with_nms_in_the_graph() -> None:
    rows = (TensorSpec("output", "float32", (-1, 7)),)
    assert Yolo.recognise(GraphSignature((IMAGE,), rows, {})) is None
    found = Yolo.recognise(GraphSignature((IMAGE,), rows, {}, {"NonMaxSuppression": 1}))
    assert found is not None
    assert (found.variant, found.certain) == ("numbered_rows", False)
    names = ("num_dets", "det_boxes", "det_scores", "det_classes")
    plugin = tuple(TensorSpec(name, "float32", (1, 100)) for name in names)
    with pytest.raises(InvalidArtifact, match="NMS of TensorRT") as refusal:
        Yolo.recognise(GraphSignature((IMAGE,), plugin, {}))
    assert "--grid" in refusal.value.hint


def test_a_dynamic_yolov5_asks_for_its_canvas_by_the_option_that_says_it() -> None:
    image = TensorSpec("images", "float32", (-1, 3, -1, -1))
    output = (TensorSpec("output0", "float32", (-1, -1, 8)),)
    facts = {"stride": "32", "names": "['a', 'b', 'c']"}
    with pytest.raises(InvalidArtifact, match="input size is dynamic") as refusal:
        Yolo.recognise(GraphSignature((image,), output, facts))
    assert "--imgsz" in refusal.value.hint
