"""Exports of a graph whose answers are known; every way in which one must not get out."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from seatrial.artifact import Artifact, Store
from seatrial.contract import Detection
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import (
    DeviceUnavailable,
    Diverged,
    InvalidArtifact,
    InvalidDataset,
    InvalidInput,
    MissingExtra,
    SeatrialError,
)
from seatrial.lifecycle.acquire import import_onnx
from seatrial.lifecycle.export import targets
from seatrial.lifecycle.export.options import Options, check, resized
from seatrial.lifecycle.export.precision import tail, to_float16
from seatrial.lifecycle.export.report import Report
from seatrial.lifecycle.export.run import export
from seatrial.request.detector import Detector

ModelFile = Callable[..., Path]
BoxOf = Callable[..., list[float]]


@pytest.fixture
def tiny(store: Store, model_file: ModelFile) -> Artifact:
    return import_onnx(store, model_file())


def boxes(artifact: Artifact, engine: str, data: bytes, precision: str = "f32") -> Any:
    config = EngineConfig(precision=precision)  # type: ignore[arg-type]
    with Detector(artifact, open_engine(artifact, engine, config)) as detector:
        return detector.detect(data, Detection()).detections


def test_to_openvino(
    store: Store, tiny: Artifact, pictures: Path, photo: bytes, box_of: BoxOf
) -> None:
    told: list[str] = []
    made = export(store, tiny, Options("openvino"), images=pictures, on_progress=told.append)
    manifest = made.manifest
    assert (manifest.name, manifest.formats) == ("tiny-openvino-f32", {"openvino": "model.xml"})
    assert (manifest.parent, manifest.precision) == (tiny.digest, "f32")
    assert manifest.step.config["to"] == "openvino"
    assert "openvino" in manifest.step.versions
    assert manifest.metrics["output_error.output0"] < 1e-3
    assert manifest.metrics["boxes.matched"] == manifest.metrics["boxes.parent"] >= 18
    assert {entry.path for entry in manifest.files} == {"model.xml", "model.bin", "export.json"}
    report = msgspec.json.decode((made.path / "export.json").read_bytes(), type=Report)
    assert report.failures == ()
    assert (report.child.artifact, report.child.engine) == (manifest.name, "openvino")
    assert (report.parent.digest, report.images) == (tiny.digest, 6)
    assert told == ["opening tiny", "writing openvino f32", "comparing 6 pictures"]
    assert boxes(made, "openvino", photo).xyxy.tolist() == [box_of(2, 3)]
    assert store.open("tiny").digest == tiny.digest


def test_accuracy_is_measured_where_there_are_labels(
    store: Store, tiny: Artifact, pictures: Path
) -> None:
    labels = pictures / "instances.json"
    made = export(store, tiny, Options("openvino"), images=pictures, annotations=labels)
    assert made.manifest.metrics["coco_ap"] == made.manifest.metrics["coco_ap.parent"] > 0.3


def test_exported_twice_it_is_one_artifact(store: Store, tiny: Artifact, pictures: Path) -> None:
    first = export(store, tiny, Options("onnx", "f16"), images=pictures)
    assert export(store, tiny, Options("onnx", "f16"), images=pictures).digest == first.digest


def test_half_precision_keeps_what_comes_after_the_last_layer(
    store: Store, tiny: Artifact, pictures: Path, photo: bytes, box_of: BoxOf
) -> None:
    made = export(store, tiny, Options("onnx", "f16"), images=pictures)
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
    store: Store, tiny: Artifact, pictures: Path
) -> None:
    try:
        made = export(store, tiny, Options("openvino", "bf16"), images=pictures)
    except DeviceUnavailable as error:
        pytest.skip(error.message)
    assert made.manifest.precision == "f32"  # of the weights
    assert made.manifest.step.config["proven_in"] == "bf16"
    report = msgspec.json.decode((made.path / "export.json").read_bytes(), type=Report)
    assert (report.parent.precision, report.child.precision) == ("f32", "bf16")


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_fused_nms_gives_the_same_boxes(
    store: Store,
    tiny: Artifact,
    pictures: Path,
    to: str,
) -> None:
    made = export(store, tiny, Options(to, fuse_nms=True), images=pictures)  # type: ignore[arg-type]
    assert (made.manifest.name, made.manifest.variant) == (f"tiny-{to}-f32-fused", "end_to_end")
    assert made.manifest.outputs[0].shape == (1, 300, 6)
    engine = "onnxruntime" if to == "onnx" else "openvino"
    for file in sorted(pictures.glob("*.png")):
        fused, plain = (boxes(a, engine, file.read_bytes()) for a in (made, tiny))
        assert sorted(fused.xyxy.tolist()) == sorted(plain.xyxy.tolist())
        assert sorted(fused.class_id.tolist()) == sorted(plain.class_id.tolist())


def test_several_pictures_at_once(store: Store, model_file: ModelFile, pictures: Path) -> None:
    parent = import_onnx(store, model_file(batch="batch"))
    made = export(store, parent, Options("openvino", dynamic_batch=True), images=pictures)
    report = msgspec.json.decode((made.path / "export.json").read_bytes(), type=Report)
    assert [one.within for one in report.batch] == [1.0]
    assert made.manifest.inputs[0].shape == (-1, 64, 64, 3)


def test_a_batch_size_that_is_open_in_name_only_is_found_out(
    store: Store,
    model_file: ModelFile,
    tiny_model: Callable[..., Any],
    tmp_path: Path,
    pictures: Path,
) -> None:
    model = tiny_model(batch="batch")
    flat = next(t for t in model.graph.initializer if t.name == "flat")
    flat.CopyFrom(numpy_helper.from_array(np.array([1, 3, -1], np.int64), "flat"))
    # All cells of all pictures fall into the first picture; for one picture that is right.
    onnx.save(model, tmp_path / "baked.onnx")
    parent = import_onnx(store, tmp_path / "baked.onnx")
    with pytest.raises(InvalidArtifact, match="pictures at once"):
        export(store, parent, Options("openvino", dynamic_batch=True), images=pictures)
    assert store.names() == ["baked"]


# What must not get out


def shifted(model: Any, name: str, by: float) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(by), name))


SABOTAGE = [
    ("weights", 0.5, "mean shift of confidence", "Conv"),  # confidences halved
    ("boxes", 1.1, "mean IoU of boxes", "Add"),  # boxes off
    ("weights", 0.0, "have no partner", "Conv"),  # nothing is seen any more
]


@pytest.mark.parametrize(("constant", "by", "failure", "operator"), SABOTAGE)
def test_an_export_that_went_wrong_is_not_written_and_its_layer_is_named(
    store: Store,
    tiny: Artifact,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    constant: str,
    by: float,
    failure: str,
    operator: str,
) -> None:
    write = targets._onnx

    def wrong(folder: Path, origin: Any, graph: Any, manifest: Any, options: Options) -> Any:
        broken = type(graph)()
        broken.CopyFrom(graph)
        shifted(broken, constant, by)
        return write(folder, origin, broken, manifest, options)

    monkeypatch.setitem(targets.WRITERS, "onnx", wrong)
    with pytest.raises(Diverged, match=failure) as refusal:
        export(
            store, tiny, Options("onnx"), images=pictures, annotations=pictures / "instances.json"
        )
    report = refusal.value.report
    assert isinstance(report, Report)
    # AP knows only the order of confidences: it holds where all of them halve.
    assert any("AP" in one for one in report.failures) == (by != 0.5)
    assert report.blame is not None
    assert report.blame.first is not None
    assert report.blame.first.operator == operator
    assert f"part at {operator}" in refusal.value.message
    assert store.names() == ["tiny"]
    assert len(list(store.root.iterdir())) == 1


def test_a_graph_that_overflows_in_half_precision_is_named(
    store: Store, tiny_model: Callable[..., Any], tmp_path: Path, pictures: Path
) -> None:
    model = tiny_model()
    shifted(model, "weights", 3e7)  # clipped to 1 right after, in float32
    onnx.save(model, tmp_path / "loud.onnx")
    parent = import_onnx(store, tmp_path / "loud.onnx")
    with pytest.raises(SeatrialError) as refusal:
        export(store, parent, Options("onnx", "f16"), images=pictures)
    assert isinstance(refusal.value, Diverged | InvalidArtifact)
    assert store.names() == ["loud"]


def test_weights_that_are_no_numbers(
    store: Store, tiny_model: Callable[..., Any], tmp_path: Path, pictures: Path
) -> None:
    model = tiny_model()
    shifted(model, "weights", float("nan"))
    onnx.save(model, tmp_path / "nan.onnx")
    parent = import_onnx(store, tmp_path / "nan.onnx")
    with pytest.raises(InvalidArtifact, match=r"no numbers \(NaN\), in weights"):
        export(store, parent, Options("openvino"), images=pictures)
    assert store.names() == ["nan"]


def test_an_opset_of_the_future(
    store: Store, tiny_model: Callable[..., Any], tmp_path: Path, pictures: Path
) -> None:
    model = tiny_model()
    model.opset_import[0].version = 99
    onnx.save(model, tmp_path / "future.onnx")
    with pytest.raises(InvalidArtifact) as refusal:
        parent = import_onnx(store, tmp_path / "future.onnx")
        export(store, parent, Options("openvino"), images=pictures)
    assert "99" in refusal.value.message or "opset" in refusal.value.message
    assert [name for name in store.names() if name != "future"] == []


def test_a_parent_whose_file_was_damaged(store: Store, tiny: Artifact, pictures: Path) -> None:
    file = tiny.file("onnx")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InvalidArtifact, match=r"tiny/model\.onnx"):
        export(store, tiny, Options("openvino"), images=pictures)
    assert store.names() == ["tiny"]


def test_pictures_that_cannot_be_used(
    store: Store, tiny: Artifact, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(InvalidDataset, match="holds no pictures"):
        export(store, tiny, Options("openvino"), images=folder)
    (folder / "cut.png").write_bytes((pictures / "01.png").read_bytes()[:-50])
    with pytest.raises(InvalidDataset, match=r"cut\.png"):
        export(store, tiny, Options("openvino"), images=folder)
    with pytest.raises(InvalidDataset):
        export(store, tiny, Options("openvino"), images=pictures, annotations=folder / "no.json")
    assert store.names() == ["tiny"]


def test_pictures_of_nothing_prove_nothing(
    store: Store,
    tiny: Artifact,
    tmp_path: Path,
    picture: Callable[..., Any],
    encode: Callable[..., bytes],
) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    (folder / "grey.png").write_bytes(encode(picture({}), "PNG"))
    with pytest.raises(InvalidDataset, match="sees nothing"):
        export(store, tiny, Options("openvino"), images=folder)


def test_a_full_disk_leaves_the_store_as_it_was(
    tiny_model: Callable[..., Any], tmp_path: Path, pictures: Path
) -> None:
    model = tiny_model()
    ballast = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    slim = [
        onnx.helper.make_node("ReduceSum", ["ballast"], ["heavy"], keepdims=0),
        onnx.helper.make_node("Mul", ["heavy", "low"], ["none"]),
        onnx.helper.make_node("Add", ["clipped", "none"], ["clipped_more"]),
    ]
    nodes = list(model.graph.node)
    nodes[2].input[0] = "clipped_more"
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:2], *slim, *nodes[2:]])
    onnx.save(model, tmp_path / "heavy.onnx")
    store = Store(tmp_path / "store")
    parent = import_onnx(store, tmp_path / "heavy.onnx")
    code = (
        "import sys\nfrom pathlib import Path\nfrom seatrial.artifact import Store\n"
        "from seatrial.errors import NotWritable\n"
        "from seatrial.lifecycle.export.options import Options\n"
        "from seatrial.lifecycle.export.run import export\n"
        "store = Store(Path(sys.argv[1]))\n"
        "try:\n    export(store, store.open('heavy'), Options(sys.argv[3]), "
        "images=Path(sys.argv[2]))\n"
        "except NotWritable as error:\n    print(error.message)\n"
        "print(store.names(), len(list(store.root.iterdir())))\n"
    )
    for to in ("onnx", "openvino"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(store.root), str(pictures), to],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert "cannot be written" in done.stdout, (to, done.stdout, done.stderr)
        assert done.stdout.endswith("['heavy'] 1\n")
    assert store.open("heavy").digest == parent.digest


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options("onnx", "bf16"), "no bf16 for onnx"),
        (Options("torch", "f16"), "no f16 for torch"),
        (Options("torch", dynamic_batch=True), "one picture at a time"),
        (Options("onnx", imgsz=(8, 640)), "a canvas of 8 pixels"),
        (Options("coreml"), "unknown target"),  # type: ignore[arg-type]
    ],
)
def test_options_that_do_not_go_together(options: Options, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check(options)


def test_what_a_finished_graph_cannot_become(
    store: Store, tiny: Artifact, model_file: ModelFile, pictures: Path
) -> None:
    half = import_onnx(store, model_file("half.onnx", half=True))
    final = import_onnx(store, model_file("final.onnx", layout="end_to_end"))
    for parent, options, message in (
        (tiny, Options("onnx", imgsz=(96, 96)), "fixed to 64 x 64"),
        (tiny, Options("onnx", imgsz=(100, 96)), "fixed to 64 x 64"),
        (tiny, Options("onnx", dynamic_batch=True), "fixed to 1 picture"),
        (tiny, Options("torch"), "made of checkpoints"),
        (half, Options("openvino"), "is f16: what was rounded off is gone"),
        (final, Options("onnx", fuse_nms=True), "not one that can be put into the graph"),
    ):
        if options.to == "torch":
            pytest.importorskip("torch", reason="seatrial[torch] is not installed")
        with pytest.raises(InvalidInput, match=message):
            export(store, parent, options, images=pictures)
    assert store.names() == ["final", "half", "tiny"]


def test_an_artifact_without_a_graph_or_a_checkpoint(
    store: Store, tiny: Artifact, pictures: Path
) -> None:
    made = export(store, tiny, Options("openvino"), images=pictures)
    with pytest.raises(InvalidArtifact, match="no ONNX graph and no checkpoint"):
        export(store, made, Options("onnx"), images=pictures)


def test_a_canvas_of_a_detr_scales_its_edges(tiny: Artifact) -> None:
    from seatrial.artifact import Preprocessing

    padded = Preprocessing((1333, 1333), "shortest_edge", 0, True, True, (800, 1333))
    manifest = msgspec.structs.replace(tiny.manifest, family="detr", preprocessing=padded)
    assert resized(manifest, (640, 640)).edges_px == (384, 640)
    assert resized(manifest, (800, 1333)).edges_px == (800, 1333)
    assert resized(manifest, None) == padded
    with pytest.raises(InvalidInput, match="a YOLO canvas of 100 x 100"):
        resized(tiny.manifest, (100, 100))


def test_tensorrt_without_a_gpu_is_a_clear_error_and_nothing_is_half_made(
    store: Store, tiny: Artifact, pictures: Path
) -> None:
    with pytest.raises((MissingExtra, DeviceUnavailable)):
        export(store, tiny, Options("tensorrt"), images=pictures)
    assert store.names() == ["tiny"]
    assert len(list(store.root.iterdir())) == 1


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


def test_the_command(tmp_path: Path, model_file: ModelFile, pictures: Path) -> None:
    path = str(model_file())
    labels = ("--annotations", str(pictures / "instances.json"))
    asked = ("export", path, "--to", "openvino", "--images", str(pictures), *labels)
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
