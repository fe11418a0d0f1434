"""From an OpenVINO IR to an artifact that answers as the ONNX file does that it was made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import exported_heads as heads
from seatrial.artifact import Artifact, Store
from seatrial.deployment import DetectionDefaults
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import InvalidArtifact, InvalidInput, UnknownFamily
from seatrial.models.facts import ModelFacts
from seatrial.models.import_onnx import import_onnx
from seatrial.models.resolve import import_model, resolve

ov = pytest.importorskip("openvino", reason="seatrial[openvino] is not installed")
SIZE_HW = (96, 128)
HEADS: list[tuple[Callable[..., Path], ModelFacts]] = [
    (heads.yolox, ModelFacts(family="yolox")),
    (heads.yolov5, ModelFacts()),
    (heads.rf_detr, ModelFacts()),
    (heads.yolov5, ModelFacts(channels="bgr", mean=(10, 20, 30), std=(50, 60, 70))),
]
METADATA = """\
author: Ultralytics
task: detect
stride: 8
imgsz: [64, 64]
names: {0: red, 1: green, 2: blue}
"""


def folder_of(source: Path, metadata: str = "") -> Path:
    """The folder as an exporter writes it."""
    folder = source.with_name(f"{source.stem}_openvino_model")
    folder.mkdir()
    model = ov.Core().read_model(source)
    ov.save_model(model, folder / f"{source.stem}.xml", compress_to_fp16=False)
    if metadata:
        (folder / "metadata.yaml").write_text(metadata)
    return folder


def boxes(artifact: Artifact, image: np.ndarray) -> np.ndarray:
    rules = DetectionDefaults(confidence=0.2).of(artifact.manifest)
    with Detector(artifact, open_engine(artifact, "openvino", EngineConfig())) as detector:
        one = detector.detect(image, rules).detections
    return np.column_stack([one.xyxy, one.score, one.class_id])


@pytest.mark.parametrize(("head", "told"), HEADS)
def test_it_finds_what_the_onnx_file_finds(
    store: Store, tmp_path: Path, head: Callable[..., Path], told: ModelFacts
) -> None:
    source = head(tmp_path / "model.onnx", size_hw=SIZE_HW, classes=3)
    folder = folder_of(source)
    for place in (tmp_path, folder):
        (place / "labels.txt").write_text("cat\ndog\nbird\n")
    wanted = import_onnx(store, source, name="onnx", told=told)
    artifact = import_model(store, folder, name="ir", told=told)
    for field in ("family", "variant", "labels", "preprocessing", "confidence", "iou"):
        assert getattr(artifact.manifest, field) == getattr(wanted.manifest, field), field
    assert artifact.manifest.formats == {"openvino": "model.xml"}
    image = heads.noise((200, 168))
    found, other = boxes(artifact, image), boxes(wanted, image)
    assert len(found) == len(other) > 3
    np.testing.assert_allclose(found, other, rtol=1e-3, atol=0.02)


def test_metadata_beside_it_says_all_that_an_onnx_file_holds_itself(
    store: Store, model_file: Callable[..., Path]
) -> None:
    folder = folder_of(model_file(), METADATA)
    artifact = import_model(store, folder)
    assert artifact.manifest.name == "tiny_openvino_model"
    assert (artifact.manifest.family, artifact.manifest.variant) == ("yolo", "anchors")
    assert artifact.manifest.labels == ("red", "green", "blue")
    # A model that is named by its path is imported once, and again after a change.
    first = resolve(store, str(folder))
    assert resolve(store, str(folder)).digest == first.digest
    (folder / "metadata.yaml").write_text(METADATA.replace("red", "rot"))
    assert resolve(store, str(folder)).manifest.labels[0] == "rot"


def test_an_ir_that_says_nothing_prints_the_command(
    store: Store, model_file: Callable[..., Path]
) -> None:
    folder = folder_of(model_file())
    with pytest.raises(UnknownFamily, match="it may be yolo") as refusal:
        import_model(store, folder)
    assert "--family yolo --labels FILE" in refusal.value.hint


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "names: 5\nauthor: Ultralytics\n"])
def test_metadata_that_cannot_be_read(
    store: Store, model_file: Callable[..., Path], text: str
) -> None:
    with pytest.raises(InvalidArtifact):
        import_model(store, folder_of(model_file(), text))


def test_a_folder_of_several_graphs_asks_for_one(
    store: Store, model_file: Callable[..., Path]
) -> None:
    folder = folder_of(model_file(), METADATA)
    (folder / "tiny.onnx").write_bytes(model_file().read_bytes())
    with pytest.raises(InvalidArtifact, match="holds 2 graphs") as refusal:
        import_model(store, folder)
    assert str(folder / "tiny.onnx") in refusal.value.hint
    (folder / "tiny.xml").unlink()
    assert import_model(store, folder).manifest.formats == {"onnx": "model.onnx"}


def test_facts_about_a_checkpoint_are_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(InvalidInput, match="--family is for graphs"):
        import_model(store, tmp_path / "a.pt", told=ModelFacts(family="yolo"))
