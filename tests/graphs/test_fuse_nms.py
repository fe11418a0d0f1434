"""Postprocessing in the graph answers as postprocessing beside it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from seatrial.artifact import Artifact, Store
from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.families.registry import family_of
from seatrial.detect.preprocess import Letterbox
from seatrial.errors import InvalidInput
from seatrial.graphs.fuse_nms import IOU, MOST_BOXES, SCORE_FLOOR, fuse
from seatrial.manifest import Manifest, TensorSpec
from seatrial.models.import_onnx import import_onnx

QUERIES, LABELS = 40, ("cat", "dog", "bird")
SOURCE_HW = (120, 200)
LETTERBOX = Letterbox(SOURCE_HW, (64, 64), (0.32, 64 / 120), (0, 0), (64, 64))


def run(model: Any, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    wanted = {value.name for value in session.get_inputs()}
    values = session.run(names, {name: feeds[name] for name in wanted})
    return dict(zip(names, values, strict=True))


def close(found: Detections, wanted: Detections) -> None:
    assert len(found) == len(wanted) > 0
    np.testing.assert_allclose(found.score, wanted.score, atol=1e-6)
    np.testing.assert_array_equal(found.class_id, wanted.class_id)
    np.testing.assert_allclose(found.xyxy, wanted.xyxy, atol=1e-3)


def detr(variant: str, batch: int | str, template: Manifest) -> tuple[Any, Manifest]:
    """A graph that gives its two inputs as its outputs, and its manifest."""
    columns = len(LABELS) + (variant == "detr")
    shapes = {"logits": [batch, QUERIES, columns], "pred_boxes": [batch, QUERIES, 4]}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    given = [
        helper.make_tensor_value_info(f"in_{name}", TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    nodes = [helper.make_node("Identity", [f"in_{name}"], [name]) for name in shapes]
    graph = helper.make_graph(nodes, "detr", given, list(values.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    size = -1 if isinstance(batch, str) else batch
    outputs = tuple(
        TensorSpec(name, "float32", (size, *shape[1:])) for name, shape in shapes.items()
    )
    inputs = tuple(msgspec.structs.replace(spec, name=f"in_{spec.name}") for spec in outputs)
    return model, msgspec.structs.replace(
        template, family="detr", variant=variant, inputs=inputs, outputs=outputs, labels=LABELS
    )


@pytest.mark.parametrize("variant", ["detr", "sigmoid"])
@pytest.mark.parametrize("batch", [1, 2, "batch"])
def test_detr_answers_in_pixels_of_each_source_image(
    tiny_artifact: Artifact, variant: str, batch: int | str
) -> None:
    model, manifest = detr(variant, batch, tiny_artifact.manifest)
    fused = fuse(model, manifest)
    onnx.checker.check_model(model, full_check=True)
    assert (fused.variant, fused.labels) == ("native", LABELS)
    assert [spec.name for spec in fused.outputs] == ["labels", "boxes", "scores"]
    open_batch = -1 if isinstance(batch, str) else batch
    assert [spec.shape[0] for spec in (*fused.inputs, *fused.outputs)] == [open_batch] * 6
    dims = [value.type.tensor_type.shape.dim[0] for value in model.graph.output]
    assert [dim.dim_param or dim.dim_value for dim in dims] == [batch] * 3

    chance = np.random.default_rng(3)
    count = 2 if batch != 1 else 1
    columns = manifest.outputs[0].shape[2]
    raw = {
        "logits": chance.normal(0, 2, (count, QUERIES, columns)).astype(np.float32),
        "pred_boxes": chance.uniform(0.1, 0.6, (count, QUERIES, 4)).astype(np.float32),
    }
    sizes = np.array([[200, 120], [90, 300]][:count], np.int64)
    feeds = {f"in_{name}": value for name, value in raw.items()}
    answers = run(model, {**feeds, "orig_target_sizes": sizes})
    options = Thresholds(confidence=0.1)
    for index, (width, height) in enumerate(sizes.tolist()):
        place = Letterbox((height, width), (64, 64), (64 / width, 64 / height), (0, 0), (64, 64))
        one = {name: value[index : index + 1] for name, value in answers.items()}
        plain = {name: value[index : index + 1] for name, value in raw.items()}
        close(
            family_of(fused).detections(one, place, options),
            family_of(manifest).detections(plain, place, options),
        )


def test_yolo_answers_with_fixed_rows_after_nms(
    store: Store, model_file: Callable[..., Path]
) -> None:
    artifact = import_onnx(store, model_file())
    model = onnx.load(artifact.file("onnx"))
    picture = np.random.default_rng(5).integers(0, 256, (1, 64, 64, 3), np.uint8)
    raw = run(model, {"image": picture})
    fused = fuse(model, artifact.manifest)
    onnx.checker.check_model(model, full_check=True)
    (output,) = fused.outputs
    assert (fused.variant, output.shape) == ("end_to_end", (1, MOST_BOXES, 6))
    answers = run(model, {"image": picture})
    assert answers[output.name].shape == output.shape
    options = Thresholds(confidence=SCORE_FLOOR, iou=IOU)
    close(
        family_of(fused).detections(answers, LETTERBOX, options),
        family_of(artifact.manifest).detections(raw, LETTERBOX, options),
    )
    rows = answers[output.name][0]
    filling = rows[:, 4] == 0
    assert filling.any()
    assert not rows[filling].any()
    assert (np.diff(rows[:, 4]) <= 0).all()


def test_an_open_batch_of_yolo_is_refused(store: Store, model_file: Callable[..., Path]) -> None:
    artifact = import_onnx(store, model_file(batch="batch"))
    with pytest.raises(InvalidInput, match="one image at a time") as refusal:
        fuse(onnx.load(artifact.file("onnx")), artifact.manifest)
    assert refusal.value.hint == "leave out --dynamic-batch or --fuse-nms"


def test_a_layout_with_postprocessing_is_refused(tiny_artifact: Artifact) -> None:
    done = msgspec.structs.replace(tiny_artifact.manifest, variant="end_to_end")
    with pytest.raises(InvalidInput, match="yolo end_to_end") as refusal:
        fuse(onnx.load(tiny_artifact.file("onnx")), done)
    assert "yolo anchors" in refusal.value.message
    assert refusal.value.hint == "leave out --fuse-nms"
