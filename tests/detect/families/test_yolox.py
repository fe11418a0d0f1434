"""YOLOX: what its demo makes of the same file, and how the file is recognised."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import exported_heads as heads
from seatrial.artifact import Artifact, Store
from seatrial.deployment import DetectionDefaults, Thresholds
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import UnknownFamily
from seatrial.models.facts import ModelFacts
from seatrial.models.import_onnx import import_onnx

SIZE_HW, CLASSES = (96, 128), 3
SOURCES_HW = ((200, 168), (64, 240), (96, 128), (333, 501))


def imported(store: Store, path: Path, **facts: str) -> Artifact:
    labels = path.with_name("names.txt")
    labels.write_text("cat\ndog\nbird\n")
    told = ModelFacts(family="yolox", labels=str(labels), **facts)  # type: ignore[arg-type]
    return import_onnx(store, path, name="yolox", told=told, replace=True)


def found_by(artifact: Artifact, engine: str, image: np.ndarray, rules: Thresholds) -> np.ndarray:
    with Detector(artifact, open_engine(artifact, engine, EngineConfig())) as detector:
        one = detector.detect(image, rules).detections
    return np.column_stack([one.xyxy, one.score, one.class_id])


def by_the_demo(path: Path, image: np.ndarray, *, decoded: bool) -> np.ndarray:
    """YOLOX ``demo/ONNXRuntime/onnx_inference.py``: BGR, top left, 0-255, NMS of all classes."""
    height, width = image.shape[:2]
    ratio = min(SIZE_HW[0] / height, SIZE_HW[1] / width)
    canvas = np.full((*SIZE_HW, 3), 114, np.uint8)
    inner = int(width * ratio), int(height * ratio)
    canvas[: inner[1], : inner[0]] = cv2.resize(image[:, :, ::-1], inner)
    rows = heads.run(path, canvas.transpose(2, 0, 1))["output"][0]
    if not decoded:
        grids = [heads.cells(SIZE_HW, stride) for stride in heads.STRIDES]
        strides = [np.full((len(g), 1), s) for g, s in zip(grids, heads.STRIDES, strict=True)]
        grid, stride = np.concatenate(grids), np.concatenate(strides)
        rows[:, :2] = (rows[:, :2] + grid) * stride
        rows[:, 2:4] = np.exp(rows[:, 2:4]) * stride
    boxes, scores = rows[:, :4] / ratio, rows[:, 4:5] * rows[:, 5:]
    kept = heads.ranked(boxes, scores, confidence=0.3, iou=0.45, agnostic=True)
    return heads.clipped(kept, (height, width))


@pytest.mark.parametrize("decoded", [False, True])
def test_boxes_are_those_of_the_demo(store: Store, tmp_path: Path, decoded: bool) -> None:
    path = heads.yolox(tmp_path / "x.onnx", size_hw=SIZE_HW, classes=CLASSES, decoded=decoded)
    artifact = imported(store, path)
    assert artifact.manifest.variant == ("decoded" if decoded else "cells")
    rules = DetectionDefaults().of(artifact.manifest)
    assert (rules.confidence, rules.iou) == (0.3, 0.45)
    for number, source_hw in enumerate(SOURCES_HW):
        image = heads.noise(source_hw, number)
        wanted = by_the_demo(path, image, decoded=decoded)
        assert len(wanted) > 5
        for engine in ("openvino", "onnxruntime"):
            found = found_by(artifact, engine, image, rules)
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=0.02)


def test_the_order_of_the_channels_matters_and_can_be_said(store: Store, tmp_path: Path) -> None:
    path = heads.yolox(tmp_path / "x.onnx", size_hw=SIZE_HW, classes=CLASSES)
    image = heads.noise((200, 168))
    rules = Thresholds(confidence=0.3, iou=0.45)
    swapped = found_by(imported(store, path, channels="rgb"), "openvino", image[:, :, ::-1], rules)
    plain = found_by(imported(store, path), "openvino", image, rules)
    np.testing.assert_allclose(swapped, plain, rtol=1e-4, atol=1e-2)
    other = found_by(imported(store, path), "openvino", image[:, :, ::-1], rules)
    assert other.shape != plain.shape or np.abs(other - plain).max() > 1


def test_evaluation_suppresses_within_a_class_alone(store: Store, tmp_path: Path) -> None:
    path = heads.yolox(tmp_path / "x.onnx", size_hw=SIZE_HW, classes=CLASSES)
    artifact, image = imported(store, path), heads.noise((200, 168))
    every = Thresholds(confidence=0.01, iou=0.45, multi_label=True)
    one = Thresholds(confidence=0.01, iou=0.45)
    few = found_by(artifact, "openvino", image, one)
    many = found_by(artifact, "openvino", image, every)
    assert len(many) > 2 * len(few)


def test_a_file_that_says_nothing_prints_the_commands_that_would(
    store: Store, tmp_path: Path
) -> None:
    path = heads.yolox(tmp_path / "my model.onnx", size_hw=SIZE_HW, classes=80)
    with pytest.raises(UnknownFamily, match="it may be yolo or yolox") as refusal:
        import_onnx(store, path, name="x")
    command = f"seatrial models import '{path}' --family yolox --labels coco"
    assert command in refusal.value.hint
    assert command.replace("yolox --", "yolo --") in refusal.value.hint
    told = ModelFacts(family="yolox", labels="coco")
    assert len(import_onnx(store, path, name="x", told=told).manifest.labels) == 80
    assert store.names() == ["x"]
