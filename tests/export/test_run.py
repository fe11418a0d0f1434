"""Exports of a graph whose answers are known; every way in which one must not get out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
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
    InvalidArtifact,
    InvalidInput,
)
from seatrial.export.options import ExportOptions, check, resized
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
    assert told == ["opening tiny", "writing openvino f32", "comparing 6 pictures"]
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


def test_several_pictures_at_once(store: Store, model_file: ModelFile, cell_images: Path) -> None:
    parent = import_onnx(store, model_file(batch="batch"))
    made = export(store, parent, ExportOptions("openvino", dynamic_batch=True), images=cell_images)
    report = read_report(made.path / "export.json")
    assert [one.within for one in report.batch] == [1.0]
    assert made.manifest.inputs[0].shape == (-1, 64, 64, 3)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions("onnx", "bf16"), "no bf16 for onnx"),
        (ExportOptions("torch", "f16"), "no f16 for torch"),
        (ExportOptions("tensorrt", dynamic_batch=True), "one picture at a time"),
        (ExportOptions("onnx", imgsz=(8, 640)), "a canvas of 8 pixels"),
        (ExportOptions("coreml"), "unknown format"),  # type: ignore[arg-type]
    ],
)
def test_options_that_do_not_go_together(options: ExportOptions, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check(options)


def test_what_a_finished_graph_cannot_become(
    store: Store, tiny: Artifact, model_file: ModelFile, cell_images: Path
) -> None:
    half = import_onnx(store, model_file("half.onnx", half=True))
    final = import_onnx(store, model_file("final.onnx", layout="end_to_end"))
    for parent, options, message in (
        (tiny, ExportOptions("onnx", imgsz=(96, 96)), "fixed to 64 x 64"),
        (tiny, ExportOptions("onnx", imgsz=(100, 96)), "fixed to 64 x 64"),
        (tiny, ExportOptions("onnx", dynamic_batch=True), "fixed to 1 picture"),
        (half, ExportOptions("openvino"), "is f16: what was rounded off is gone"),
        (final, ExportOptions("onnx", fuse_nms=True), "cannot be put into the graph"),
    ):
        with pytest.raises(InvalidInput, match=message):
            export(store, parent, options, images=cell_images)
    assert store.names() == ["final", "half", "tiny"]


def test_an_artifact_without_a_graph_or_a_checkpoint(
    store: Store, tiny: Artifact, cell_images: Path
) -> None:
    made = export(store, tiny, ExportOptions("openvino"), images=cell_images)
    with pytest.raises(InvalidArtifact, match="no ONNX graph and no checkpoint"):
        export(store, made, ExportOptions("onnx"), images=cell_images)


def test_a_canvas_of_a_detr_scales_its_edges(tiny: Artifact) -> None:
    from seatrial.manifest import Preprocessing

    padded = Preprocessing((1333, 1333), "shortest_edge", 0, True, True, (800, 1333))
    manifest = msgspec.structs.replace(tiny.manifest, family="detr", preprocessing=padded)
    assert resized(manifest, (640, 640)).edges_px == (384, 640)
    assert resized(manifest, (800, 1333)).edges_px == (800, 1333)
    assert resized(manifest, None) == padded
    with pytest.raises(InvalidInput, match="a YOLO canvas of 100 x 100"):
        resized(tiny.manifest, (100, 100))


def test_conversion_leaves_the_graph_that_it_is_given_alone(tiny: Artifact) -> None:
    model = onnx.load(tiny.file("onnx"))
    before = model.SerializeToString()
    to_float16(model)
    assert model.SerializeToString() == before


# Command line


def seatrial(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seatrial.cli.main", *arguments],
        env={**os.environ, "SEATRIAL_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(tmp_path: Path, model_file: ModelFile, cell_images: Path) -> None:
    path = str(model_file())
    labels = ("--annotations", str(cell_images / "instances.json"))
    asked = ("export", path, "--to", "openvino", "--images", str(cell_images), *labels)
    done = seatrial(tmp_path / "home", *asked, "--name", "made", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["child"]["artifact"] == "made"
    assert report["accuracy"]["difference"] == 0
    assert "writing openvino f32" in done.stderr
    assert (tmp_path / "home" / "artifacts" / "made" / "model.xml").is_file()

    done = seatrial(tmp_path / "home", *asked, "--replace")
    assert "mean IoU of pairs" in done.stdout
    done = seatrial(tmp_path / "home", *asked, "--imgsz", "large")
    assert (done.returncode, "not a size" in done.stderr) == (2, True)
