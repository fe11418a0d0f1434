"""Exports of a graph whose answers are known; every way in which one must not get out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from seatrial.artifact import Artifact, Store
from seatrial.deployment import Thresholds
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import (
    DeviceUnavailable,
    InvalidInput,
)
from seatrial.export.options import ExportOptions
from seatrial.export.report import read_report
from seatrial.export.run import export
from seatrial.graphs.float16 import tail, to_float16
from seatrial.models.import_onnx import import_onnx

ModelFile = Callable[..., Path]
BoxOf = Callable[..., list[float]]


@pytest.fixture
def tiny(store: Store, model_file: ModelFile) -> Artifact:
    return import_onnx(store, model_file())


def boxes(artifact: Artifact, engine: str, data: bytes, precision: str = "f32") -> Any:
    config = EngineConfig(precision=precision)  # type: ignore[arg-type]
    with Detector(artifact, open_engine(artifact, engine, config)) as detector:
        return detector.detect(data, Thresholds()).detections


def test_to_openvino(
    store: Store, tiny: Artifact, cell_images: Path, photo: bytes, box_of: BoxOf
) -> None:
    told: list[str] = []
    made = export(
        store,
        tiny,
        ExportOptions("openvino"),
        images=cell_images,
        on_progress=lambda what, *_: told.append(what),
    )
    manifest = made.manifest
    assert (manifest.name, manifest.formats) == ("tiny-openvino-f32", {"openvino": "model.xml"})
    assert (manifest.parent, manifest.precision) == (tiny.digest, "f32")
    assert manifest.step.config["to"] == "openvino"
    assert "openvino" in manifest.step.versions
    assert manifest.metrics["output_error.output0"] < 1e-3
    assert manifest.metrics["boxes.matched"] == manifest.metrics["boxes.parent"] >= 18
    assert {entry.path for entry in manifest.files} == {"model.xml", "model.bin", "export.json"}
    report = read_report(made.path / "export.json")
    assert report.verdict.outcome == "holds"
    assert (report.child.artifact, report.child.engine) == (manifest.name, "openvino")
    assert (report.parent.digest, report.images) == (tiny.digest, 6)
    assert told == ["opening tiny", "writing openvino f32", "comparing 6 images"]
    assert boxes(made, "openvino", photo).xyxy.tolist() == [box_of(2, 3)]
    assert store.open("tiny").digest == tiny.digest


def test_accuracy_is_measured_where_there_are_labels(
    store: Store, tiny: Artifact, cell_images: Path
) -> None:
    labels = cell_images / "instances.json"
    made = export(store, tiny, ExportOptions("openvino"), images=cell_images, annotations=labels)
    assert made.manifest.metrics["coco_ap"] == made.manifest.metrics["coco_ap.parent"] > 0.3
    report = read_report(made.path / "export.json")
    assert report.accuracy is not None
    assert (report.accuracy.images, report.accuracy.difference) == (6, 0)
    assert (report.accuracy.low, report.accuracy.high) == (0, 0)


def test_an_empty_name_is_refused(store: Store, tiny: Artifact, cell_images: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot name an artifact"):
        export(store, tiny, ExportOptions("onnx", "f16"), images=cell_images, name="")


def test_exported_twice_it_is_one_artifact(store: Store, tiny: Artifact, cell_images: Path) -> None:
    first = export(store, tiny, ExportOptions("onnx", "f16"), images=cell_images)
    assert (
        export(store, tiny, ExportOptions("onnx", "f16"), images=cell_images).digest == first.digest
    )


def test_half_precision_keeps_what_comes_after_the_last_layer(
    store: Store, tiny: Artifact, cell_images: Path, photo: bytes, box_of: BoxOf
) -> None:
    made = export(store, tiny, ExportOptions("onnx", "f16"), images=cell_images)
    assert made.manifest.precision == "f16"
    model = onnx.load(made.file("onnx"))
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["weights"] == onnx.TensorProto.FLOAT16
    assert kinds["boxes"] == onnx.TensorProto.FLOAT
    np.testing.assert_allclose(boxes(made, "onnxruntime", photo, "f16").xyxy, [box_of(2, 3)])
    names = [node.op_type for node in onnx.load(tiny.file("onnx")).graph.node]
    assert names[3] == "Conv"
    original = onnx.load(tiny.file("onnx"))
    for index, node in enumerate(original.graph.node):
        node.name = str(index)
    assert set(tail(original)) == {str(index) for index in range(4, len(names))}


def test_bf16_is_proven_in_what_it_will_be_computed_in(
    store: Store, tiny: Artifact, cell_images: Path
) -> None:
    try:
        made = export(store, tiny, ExportOptions("openvino", "bf16"), images=cell_images)
    except DeviceUnavailable as error:
        pytest.skip(error.message)
    assert made.manifest.precision == "f32"  # of the weights
    assert made.manifest.step.config["proven_in"] == "bf16"
    report = read_report(made.path / "export.json")
    assert (report.parent.precision, report.child.precision) == ("f32", "bf16")


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_fused_nms_gives_the_same_boxes(
    store: Store,
    tiny: Artifact,
    cell_images: Path,
    to: str,
) -> None:
    made = export(store, tiny, ExportOptions(to, fuse_nms=True), images=cell_images)  # type: ignore[arg-type]
    assert (made.manifest.name, made.manifest.variant) == (f"tiny-{to}-f32-fused", "end_to_end")
    assert made.manifest.outputs[0].shape == (1, 300, 6)
    engine = "onnxruntime" if to == "onnx" else "openvino"
    for file in sorted(cell_images.glob("*.png")):
        fused, plain = (boxes(a, engine, file.read_bytes()) for a in (made, tiny))
        assert sorted(fused.xyxy.tolist()) == sorted(plain.xyxy.tolist())
        assert sorted(fused.class_id.tolist()) == sorted(plain.class_id.tolist())


def test_several_images_at_once(store: Store, model_file: ModelFile, cell_images: Path) -> None:
    parent = import_onnx(store, model_file(batch="batch"))
    made = export(store, parent, ExportOptions("openvino", dynamic_batch=True), images=cell_images)
    report = read_report(made.path / "export.json")
    assert [one.within for one in report.batch] == [1.0]
    assert made.manifest.inputs[0].shape == (-1, 64, 64, 3)


def test_conversion_leaves_the_graph_that_it_is_given_alone(tiny: Artifact) -> None:
    model = onnx.load(tiny.file("onnx"))
    before = model.SerializeToString()
    to_float16(model)
    assert model.SerializeToString() == before
