"""From an ONNX file to an artifact in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from seatrial.artifact import Store
from seatrial.deployment import Thresholds
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import InvalidArtifact, InvalidInput, UnknownFamily
from seatrial.manifest import check_name
from seatrial.models.import_onnx import import_onnx

ModelFile = Callable[..., Path]

VARIANTS: list[tuple[dict[str, Any], str, tuple[int, int], str]] = [
    ({}, "anchors", (64, 64), "f32"),
    ({"layout": "end_to_end"}, "end_to_end", (64, 64), "f32"),
    ({"batch": "batch"}, "anchors", (64, 64), "f32"),
    ({"batch": "batch", "layout": "end_to_end"}, "end_to_end", (64, 64), "f32"),
    ({"batch": "batch", "dynamic_size": True}, "anchors", (64, 64), "f32"),
    ({"half": True}, "anchors", (64, 64), "f16"),
    ({"half": True, "layout": "end_to_end", "batch": "batch"}, "end_to_end", (64, 64), "f16"),
    ({"size_hw": (64, 96)}, "anchors", (64, 96), "f32"),
    ({"size_hw": (96, 64), "dynamic_size": True}, "anchors", (96, 64), "f32"),
    ({"names": ("red", "green")}, "anchors", (64, 64), "f32"),
    ({"names": ("red", "green"), "layout": "end_to_end"}, "end_to_end", (64, 64), "f32"),
    ({"names": ("red",)}, "anchors", (64, 64), "f32"),
    ({"names": ("Fußgänger", "it's", 'a "b", {c}')}, "anchors", (64, 64), "f32"),
    ({"input_name": "image"}, "anchors", (64, 64), "f32"),
    ({"output_name": "image"}, "anchors", (64, 64), "f32"),
    ({"input_name": "x:0", "output_name": "/model.23/Concat_5"}, "anchors", (64, 64), "f32"),
]


def test_sizes_that_an_export_names_follow_from_its_graph(
    store: Store, tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = tiny_model(batch="batch", dynamic_size=True)
    for number in (1, 2):  # as Ultralytics writes it without onnxslim
        dim = model.graph.output[0].type.tensor_type.shape.dim[number]
        dim.dim_param = f"Concatoutput0_dim_{number}"
    onnx.save(model, tmp_path / "open.onnx")
    manifest = import_onnx(store, tmp_path / "open.onnx").manifest
    assert (manifest.variant, manifest.outputs[0].shape) == ("anchors", (-1, 7, 64))


@pytest.mark.parametrize(("variant", "layout", "size_hw", "precision"), VARIANTS, ids=str)
def test_every_export_is_recognised_and_finds_the_same_object(
    store: Store,
    model_file: ModelFile,
    picture: Callable[..., Image.Image],
    encode: Callable[..., bytes],
    box_of: Callable[..., list[float]],
    variant: dict[str, Any],
    layout: str,
    size_hw: tuple[int, int],
    precision: str,
) -> None:
    path = model_file(**variant)
    artifact = import_onnx(store, path)
    manifest = artifact.manifest
    assert (manifest.name, manifest.family, manifest.variant) == ("tiny", "yolo", layout)
    assert manifest.labels == variant.get("names", ("red", "green", "blue"))
    assert manifest.preprocessing.size_hw == size_hw
    assert manifest.precision == precision
    assert manifest.licence == "AGPL-3.0 License (https://ultralytics.com/license)"
    assert manifest.step.name == "import"
    assert manifest.step.config["stride"] == "8"
    assert manifest.step.config["scale"] == 255.0
    assert set(manifest.step.versions) == {"seatrial", "onnx"}
    assert manifest.source.uri == "tiny.onnx"
    assert manifest.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    (image,) = manifest.inputs
    batch = -1 if isinstance(variant.get("batch"), str) else 1
    assert (image.dtype, image.shape, image.layout) == ("uint8", (batch, *size_hw, 3), "NHWC")
    assert {output.dtype for output in manifest.outputs} == {"float32"}
    # And it works, in both engines.
    cells = (size_hw[0] // 8, size_hw[1] // 8)
    data = encode(picture({(2, 3): "red"}, cells_hw=cells), "PNG")
    for name, computed in (("openvino", "f32"), ("onnxruntime", precision)):
        config = EngineConfig(precision=computed)  # type: ignore[arg-type]
        with Detector(artifact, open_engine(artifact, name, config)) as detector:
            found = detector.detect(data, Thresholds()).detections
        assert found.class_id.tolist() == [0]
        np.testing.assert_allclose(found.xyxy, [box_of(2, 3)], atol=0.1)
        assert found.score[0] == pytest.approx(1, abs=2e-3)


def test_yolo11n(store: Store, shared_yolo: Path) -> None:
    manifest = import_onnx(store, shared_yolo).manifest
    assert (manifest.name, manifest.family, manifest.variant) == ("yolo11n", "yolo", "anchors")
    assert len(manifest.labels) == 80
    assert (manifest.labels[0], manifest.labels[79]) == ("person", "toothbrush")
    assert manifest.preprocessing.size_hw == (640, 640)
    assert "AGPL-3.0" in manifest.licence
    assert manifest.step.config["stride"] == "32"
    assert manifest.outputs[0].shape[1:] == (84, 8400)


def test_imported_twice_is_one_artifact(store: Store, model_file: ModelFile) -> None:
    path = model_file()
    assert import_onnx(store, path).digest == import_onnx(store, path).digest
    assert store.names() == ["tiny"]
    assert len(list(store.root.iterdir())) == 1


def test_a_graph_that_takes_images_already_gets_no_second_prologue(
    store: Store, model_file: ModelFile
) -> None:
    for index, variant in enumerate([{}, {"batch": "batch"}, {"size_hw": (64, 96)}]):
        first = import_onnx(store, model_file(**variant), name=f"first-{index}")
        again = import_onnx(store, first.file("onnx"), name=f"again-{index}")
        assert again.file("onnx").read_bytes() == first.file("onnx").read_bytes()
        assert again.manifest.inputs == first.manifest.inputs
        assert again.manifest.outputs == first.manifest.outputs
        assert again.manifest.preprocessing == first.manifest.preprocessing


def test_another_file_of_the_same_name_is_refused_or_replaces(
    store: Store, model_file: ModelFile
) -> None:
    import_onnx(store, model_file())
    other = model_file(names=("red", "green"))
    with pytest.raises(InvalidInput, match="already has another artifact named 'tiny'"):
        import_onnx(store, other)
    assert import_onnx(store, other, name="other").manifest.labels == ("red", "green")
    assert import_onnx(store, other, replace=True).manifest.labels == ("red", "green")


def test_a_classifier_is_refused_with_what_was_seen_and_what_is_accepted(
    store: Store, tmp_path: Path
) -> None:
    pool = helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"])
    flat = helper.make_node("Flatten", ["pooled"], ["logits"])
    graph = helper.make_graph(
        [pool, flat],
        "classifier",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "resnet.onnx")
    with pytest.raises(UnknownFamily) as refusal:
        import_onnx(store, tmp_path / "resnet.onnx")
    assert "resnet.onnx is not a detector of a known family" in refusal.value.message
    assert "pixels float32 [-1, 3, 224, 224]" in refusal.value.message
    assert "logits float32 [-1, 3]" in refusal.value.message
    assert "an export of Ultralytics" in refusal.value.hint
    assert store.names() == []


def test_an_ultralytics_classifier_or_segmenter_is_refused_by_its_task(
    store: Store, model_file: ModelFile
) -> None:
    for task in ("segment", "classify", "pose"):
        with pytest.raises(InvalidArtifact, match=f"task '{task}'") as refusal:
            import_onnx(store, model_file(metadata={"task": task}))
        assert "detection model" in refusal.value.hint


def test_labels_that_do_not_fit_the_output(store: Store, model_file: ModelFile) -> None:
    for names in ("{0: 'red'}", "{0: 'a', 1: 'b', 2: 'c', 3: 'd'}"):
        with pytest.raises(InvalidArtifact, match=r"\[1, 7, 64\].*fits neither"):
            import_onnx(store, model_file(metadata={"names": names}))


def test_an_export_without_its_metadata(store: Store, model_file: ModelFile) -> None:
    with pytest.raises(InvalidArtifact, match="task None"):
        import_onnx(store, model_file(metadata={"task": ""}))
    with pytest.raises(InvalidArtifact, match="class names"):
        import_onnx(store, model_file(metadata={"names": ""}))
    nothing = {"author": "", "description": ""}
    with pytest.raises(UnknownFamily, match="it may be yolo"):
        import_onnx(store, model_file(metadata=nothing))


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_file_that_is_cut_off(store: Store, model_file: ModelFile, keep: float) -> None:
    path = model_file()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InvalidArtifact, match=r"tiny\.onnx"):
        import_onnx(store, path)
    assert store.names() == []


def test_a_file_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidArtifact, match="does not exist"):
        import_onnx(store, tmp_path / "gone.onnx")


@pytest.mark.parametrize("name", ["yolo11n", "a", "0", "ssd-mobilenet-v2", "a.b_c-d", "x" * 100])
def test_names_that_are_fine(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", ".hidden", "-x", "A", "a b", "é", "x" * 101, "a\n", "a\0"],
)
def test_names_that_are_not(store: Store, model_file: ModelFile, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name an artifact"):
        check_name(name)
    with pytest.raises(InvalidInput, match="cannot name an artifact"):
        import_onnx(store, model_file(), name=name)


def test_a_file_whose_own_name_does_not_do_asks_for_one(
    store: Store, model_file: ModelFile
) -> None:
    path = model_file("my model (1).onnx")
    with pytest.raises(InvalidInput, match="cannot name an artifact"):
        import_onnx(store, path)
    assert import_onnx(store, path, name="mine").manifest.name == "mine"
