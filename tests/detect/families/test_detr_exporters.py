"""RF-DETR and Ultralytics' RT-DETR: what their own code makes of the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import exported_heads as heads
from seatrial.artifact import Store
from seatrial.deployment import DetectionDefaults, Thresholds
from seatrial.detect.detector import Detector
from seatrial.detect.families.coco import COCO_NAMES
from seatrial.detect.families.detr import Detr
from seatrial.detect.preprocess import Letterbox
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import InvalidArtifact
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import Preprocessing, TensorSpec
from seatrial.models.facts import ModelFacts
from seatrial.models.import_checkpoint import plain_name
from seatrial.models.import_onnx import import_onnx
from seatrial.models.recognise import background_note, coco_labels, recognise

SIZE_HW = (96, 128)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def by_predict(torch: Any, path: Path, image: np.ndarray) -> np.ndarray:
    """rf-detr ``RFDETR.predict`` and ``PostProcess``: normalise, resize, Q best of sigmoids."""
    pixels = torch.from_numpy(((image / 255 - MEAN) / STD).transpose(2, 0, 1))[None]
    # What torchvision's resize does with a tensor.
    pixels = torch.nn.functional.interpolate(pixels, SIZE_HW, mode="bilinear", antialias=True)
    outputs = heads.run(path, pixels[0].numpy())
    boxes, logits = outputs["dets"][0], outputs["labels"][0]
    chances = 1 / (1 + np.exp(-logits))
    places = np.argsort(-chances.ravel(), kind="stable")[: len(boxes)]
    query, label = places // logits.shape[1], places % logits.shape[1]
    score = chances.ravel()[places]
    height, width = image.shape[:2]
    xyxy = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    rows = np.column_stack([xyxy[query] * ([width, height] * 2), score, label])[score > 0.5]
    return heads.clipped(rows, (height, width))


def test_rf_detr_boxes_are_those_of_its_predict(torch: Any, store: Store, tmp_path: Path) -> None:
    path = heads.rf_detr(tmp_path / "rf.onnx", size_hw=SIZE_HW, classes=91)
    artifact = import_onnx(store, path, told=ModelFacts(labels="coco"))
    manifest = artifact.manifest
    assert {spec.name for spec in manifest.outputs} == {"logits", "pred_boxes"}
    # 91 outputs are COCO's category ids, which have gaps.
    assert (manifest.labels[0], manifest.labels[1], manifest.labels[90]) == (
        "N/A", "person", "toothbrush",
    )  # fmt: skip
    assert [name for name in manifest.labels if name != "N/A"] == list(COCO_NAMES)
    rules = DetectionDefaults().of(manifest)
    assert rules.confidence == 0.5
    for engine in ("openvino", "onnxruntime"):
        with Detector(artifact, open_engine(artifact, engine, EngineConfig())) as detector:
            for number, source_hw in enumerate([(200, 168), (96, 128), (64, 240)]):
                image = heads.noise(source_hw, number)
                wanted = by_predict(torch, path, image)
                one = detector.detect(image, rules).detections
                found = np.column_stack([one.xyxy, one.score, one.class_id])
                assert len(wanted) > 5
                # Resized bytes are rounded; scores at the threshold may fall on either side.
                near = np.abs(found[:, None, :4] - wanted[None, :, :4]).max(axis=2) < 1.5
                same = near & (found[:, None, 5] == wanted[None, :, 5])
                same &= np.abs(found[:, None, 4] - wanted[None, :, 4]) < 0.02
                assert same[found[:, 4] > 0.52].any(axis=1).all()
                assert same[:, wanted[:, 4] > 0.52].any(axis=0).all()


def test_the_last_column_of_an_rf_detr_is_its_background_and_is_said(
    store: Store, tmp_path: Path
) -> None:
    path = heads.rf_detr(tmp_path / "rf.onnx", size_hw=SIZE_HW, classes=3)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    manifest = import_onnx(store, path).manifest
    assert manifest.labels == ("cat", "dog", "N/A")
    assert "column 2 of its scores is taken as the background" in background_note(
        manifest.step.config
    )
    for name, listed in {"own": "cat dog bird", "first": "N/A cat dog"}.items():
        (tmp_path / "labels.txt").write_text(listed.replace(" ", "\n"))
        stated = import_onnx(store, path, name=name).manifest
        assert stated.labels == tuple(listed.split())
        assert background_note(stated.step.config) == ""
    (tmp_path / "labels.txt").write_text("cat\n")
    with pytest.raises(InvalidArtifact, match="has 3 classes and the labels are 1"):
        import_onnx(store, path, name="one")


def test_the_background_of_an_rf_detr_is_no_detection(store: Store, tmp_path: Path) -> None:
    path = heads.rf_detr(tmp_path / "rf.onnx", size_hw=SIZE_HW, classes=3)
    logits = np.full((1, 48, 3), -9, np.float32)
    logits[0, :4] = [[3, -9, 1], [-9, -9, 5], [1, 2, 4], [-9, 1, -9]]
    outputs = {"logits": logits, "pred_boxes": np.full((1, 48, 4), 0.5, np.float32)}
    where = Letterbox(SIZE_HW, SIZE_HW, (1.0, 1.0), (0, 0), SIZE_HW)
    found = {}
    for last in ("bird", "N/A"):
        (tmp_path / "labels.txt").write_text(f"cat\ndog\n{last}\n")
        manifest = import_onnx(store, path, name=plain_name(last)).manifest
        found[last] = Detr(manifest).detections(outputs, where, Thresholds(confidence=0.5))
    assert found["bird"].class_id.tolist() == [2, 2, 0, 1, 2, 0, 1]
    assert found["N/A"].class_id.tolist() == [0, 1, 0, 1]


BY_ID = coco_labels(91)


@pytest.mark.parametrize(
    ("names", "columns", "labels"),
    [
        (COCO_NAMES, 91, BY_ID),
        (BY_ID[1:], 91, BY_ID),
        # Category ids that were numbered anew have no gaps.
        (COCO_NAMES, 81, (*COCO_NAMES, "N/A")),
        (tuple(f"c{n}" for n in range(90)), 91, (*(f"c{n}" for n in range(90)), "N/A")),
    ],
)
def test_only_cocos_category_ids_leave_column_0_of_an_rf_detr_empty(
    names: tuple[str, ...], columns: int, labels: tuple[str, ...], tmp_path: Path
) -> None:
    outputs = (
        TensorSpec("dets", "float32", (1, 300, 4)),
        TensorSpec("labels", "float32", (1, 300, columns)),
    )
    image = TensorSpec("input", "float32", (1, 3, 96, 96))
    graph = GraphSignature((image,), outputs, {"labels.txt": "\n".join(names)})
    family, found = recognise(graph, tmp_path / "rf.onnx", ModelFacts())
    assert (family, found.labels) == ("detr", labels)
    assert found.facts["background_column"] == str(labels.index("N/A") if columns == 91 else 80)


def ultralytics_graph(
    output: tuple[int, ...],
    classes: int,
    operators: dict[str, int] | None = None,
    **metadata: str,
) -> GraphSignature:
    facts = {
        "author": "Ultralytics",
        "description": "Ultralytics rtdetr-l model trained on x.yaml",
        "task": "detect",
        "names": str([f"c{n}" for n in range(classes)]),
        **metadata,
    }
    image = TensorSpec("images", "float32", (1, 3, 640, 640))
    outputs = (TensorSpec("output0", "float32", output),)
    return GraphSignature((image,), outputs, facts, operators or {})


@pytest.mark.parametrize(
    ("graph", "variant"),
    [
        (ultralytics_graph((1, 300, 84), 80), "scored"),
        (ultralytics_graph((1, 300, 6), 80), "ranked"),
        (ultralytics_graph((1, 300, 6), 2), "scored"),
        (ultralytics_graph((1, 300, 6), 2, {"TopK": 1}), "scored"),
        (ultralytics_graph((1, 300, 6), 2, {"TopK": 2}), "ranked"),
        (ultralytics_graph((1, 300, 6), 3, description="Ultralytics mine", head="RTDETRDecoder"),
         "ranked"),
        (ultralytics_graph((1, 300, 7), 3, {"GridSample": 3}, description="Ultralytics mine"),
         "scored"),
    ],
)  # fmt: skip
def test_rt_detr_of_ultralytics_is_told_from_yolo(graph: GraphSignature, variant: str) -> None:
    from seatrial.detect.families.yolo import Yolo

    assert Yolo.recognise(graph) is None
    found = Detr.recognise(graph)
    assert found is not None
    assert found.variant == variant
    assert found.preprocessing == Preprocessing((640, 640), "stretch", 114)


def test_a_yolo_whose_head_is_named_is_no_rt_detr() -> None:
    from seatrial.detect.families.yolo import Yolo

    graph = ultralytics_graph((1, 300, 6), 2, head="Detect", end2end="True")
    assert Detr.recognise(graph) is None
    found = Yolo.recognise(graph)
    assert found is not None
    assert found.variant == "end_to_end"


def test_an_rt_detr_with_another_number_of_columns_is_refused() -> None:
    with pytest.raises(InvalidArtifact, match=r"neither \[N, K, 6\] nor \[N, Q, 7\]"):
        Detr.recognise(ultralytics_graph((1, 300, 84), 3))
