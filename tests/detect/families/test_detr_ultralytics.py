"""RT-DETR of Ultralytics, box by box as its own predict finds them, on the same weights.

A random network of the real architecture with two classes, whose output has as many columns as
that of an end-to-end YOLO.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import exported_heads as heads
from seatrial.artifact import Artifact, Store
from seatrial.deployment import Thresholds
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import InvalidArtifact
from seatrial.models.import_checkpoint import import_ultralytics
from seatrial.models.resolve import import_model

# Ultralytics' exporter and torch's tracer warn of what they do themselves.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
SIZE_PX = 160
RULES = Thresholds(confidence=0.4)


@pytest.fixture(scope="module")
def checkpoint(ultralytics: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small decoder behind a small backbone, two classes, seeded."""
    torch = importlib.import_module("torch")
    folder = tmp_path_factory.mktemp("rtdetr")
    settings = importlib.import_module("ultralytics.nn.tasks").yaml_model_load(
        "yolov8-rtdetr.yaml"
    ) | {"nc": 2, "scales": {"n": [0.33, 0.125, 1024]}}
    settings["head"][-1][-1] = ["nc", 64, 100, 4, 4, 1]  # width, queries, points, heads, layers
    plan = folder / "tiny-rtdetr.yaml"
    importlib.import_module("ultralytics.utils").YAML.save(plan, settings)
    torch.manual_seed(0)
    model = ultralytics.RTDETR(plan)
    head = model.model.model[-1]
    with torch.no_grad():
        for weight in model.model.parameters():
            if weight.ndim == 4:
                weight.normal_(0, 1.5 / weight[0].numel() ** 0.5)
        for layer in (*head.dec_score_head, head.enc_score_head):
            layer.weight.normal_(0, 0.5)
            layer.bias.fill_(-2)
        for box in (*head.dec_bbox_head, head.enc_bbox_head):
            for layer in box.layers:
                layer.weight.normal_(0, layer.weight.shape[1] ** -0.5)
    model.save(folder / "tiny.pt")
    return folder / "tiny.pt"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Noise of three shapes, as PNG."""
    folder = tmp_path_factory.mktemp("noise")
    files = []
    for number, size_hw in enumerate([(200, 304), (160, 160), (96, 72)]):
        files.append(folder / f"{number}.png")
        Image.fromarray(heads.noise(size_hw, number)).save(files[-1])
    return files


def export(library: Any, checkpoint: Path, folder: Path) -> Path:
    copy = folder / checkpoint.name
    copy.write_bytes(checkpoint.read_bytes())
    how = {"format": "onnx", "imgsz": SIZE_PX, "opset": 17, "simplify": False, "verbose": False}
    return Path(library.RTDETR(copy).export(**how))


def served(artifact: Artifact, engine: str, file: Path) -> np.ndarray:
    with Detector(artifact, open_engine(artifact, engine, EngineConfig())) as detector:
        one = detector.detect(file.read_bytes(), RULES).detections
    return np.column_stack([one.xyxy, one.score, one.class_id])


def assert_same_boxes(found: np.ndarray, wanted: np.ndarray) -> None:
    assert len(found) == len(wanted) > 5
    unit = np.array([0.05] * 4 + [1e-3, 0.5])
    distance = np.abs((found[:, None] - wanted[None]) / unit).max(axis=2)
    assert distance.min(axis=1).max() < 1


def test_the_export_finds_what_predict_finds(
    ultralytics: Any, checkpoint: Path, pictures: list[Path], store: Store, tmp_path: Path
) -> None:
    artifact = import_model(store, export(ultralytics, checkpoint, tmp_path))
    assert (artifact.manifest.family, artifact.manifest.variant) == ("detr", "ranked")
    for file in pictures:
        (result,) = ultralytics.RTDETR(checkpoint).predict(
            file, imgsz=SIZE_PX, conf=RULES.confidence, rect=False, verbose=False
        )
        wanted = result.boxes.data.numpy()
        wanted[:, :4] = np.clip(wanted[:, :4], 0, [*result.orig_shape[::-1]] * 2)
        for engine in ("openvino", "onnxruntime"):
            assert_same_boxes(served(artifact, engine, file), wanted)


def test_the_older_layout_with_two_classes_is_not_taken_for_the_newer_one(
    ultralytics: Any,
    checkpoint: Path,
    pictures: list[Path],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The decoder as it was until May 2026: boxes and scores of all classes, query by query."""
    torch = importlib.import_module("torch")
    decoder = importlib.import_module("ultralytics.nn.modules.head").RTDETRDecoder
    monkeypatch.setattr(
        decoder, "postprocess", lambda self, boxes, scores: torch.cat([boxes, scores], dim=-1)
    )
    path = export(ultralytics, checkpoint, tmp_path)
    artifact = import_model(store, path)
    assert artifact.manifest.variant == "scored"
    for file in pictures:
        image = np.asarray(Image.open(file))
        height, width = image.shape[:2]
        cv2 = importlib.import_module("cv2")
        pixels = cv2.resize(image, (SIZE_PX, SIZE_PX)).transpose(2, 0, 1) / 255
        (rows,) = heads.run(path, pixels).values()
        best = rows[0, :, 4:].max(axis=1)
        chosen = np.argsort(-best)[: int((best > RULES.confidence).sum())]
        boxes, scores = rows[0, chosen, :4], rows[0, chosen, 4:]
        kept = heads.ranked(boxes, scores, confidence=0, iou=1, agnostic=True)
        kept[:, :4] *= [width, height] * 2
        assert_same_boxes(
            served(artifact, "onnxruntime", file), heads.clipped(kept, (height, width))
        )


def test_a_checkpoint_is_told_to_become_a_graph(
    ultralytics: Any, checkpoint: Path, store: Store
) -> None:
    with pytest.raises(InvalidArtifact, match="is an RT-DETR of Ultralytics") as refusal:
        import_ultralytics(store, checkpoint, name="rt", allow_pickle=True)
    assert f"yolo export model={checkpoint} format=onnx" in refusal.value.hint
