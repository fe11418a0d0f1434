"""The verdict on an export: what is compared with what, and what is asked of the parent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from seatrial.artifact import Artifact
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidArtifact, InvalidDataset
from seatrial.export.formats import Written
from seatrial.export.options import ExportOptions
from seatrial.export.output_errors import output_errors
from seatrial.export.parent import open_parent
from seatrial.export.report import ExportReport
from seatrial.export.tolerances import OUTPUT_ERROR
from seatrial.export.verify import ParentAnswers, answer, verify
from seatrial.models.import_onnx import import_onnx
from seatrial.progress import silent

Verify = Callable[..., ExportReport]
OPTIONS = ExportOptions("onnx")


@pytest.fixture
def images(picture: Callable[..., Any]) -> list[np.ndarray]:
    scenes: list[dict[tuple[int, int], str]] = [{(2, 3): "red"}, {(4, 2): "blue", (5, 5): "green"}]
    return [np.asarray(picture(scene)) for scene in scenes]


@pytest.fixture
def compared(tiny_artifact: Artifact, images: list[np.ndarray], tmp_path: Path) -> Verify:
    """Verifies an export whose weights are the parent's times a factor."""

    def run(factor: float = 1.0, known: ParentAnswers | None = None, **given: Any) -> ExportReport:
        parent = given.get("parent") or open_parent(tiny_artifact, OPTIONS, threads=1)
        graph = onnx.load(tiny_artifact.file("onnx"))
        (weights, *_) = (w for w in graph.graph.initializer if len(w.dims) == 4)
        values = onnx.numpy_helper.to_array(weights) * np.float32(factor)
        weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
        onnx.save(graph, tmp_path / tiny_artifact.manifest.formats["onnx"])
        written = Written(tmp_path, tiny_artifact.manifest, "onnxruntime", "f32")
        return verify(
            tiny_artifact, parent, written, written.open(1), given.get("images", images),
            given.get("labelled"),
            given.get("options", OPTIONS), known=known or ParentAnswers(), on_progress=silent,
        )  # fmt: skip

    return run


def test_an_export_that_computes_the_same_holds(compared: Verify) -> None:
    report = compared()
    assert report.verdict.outcome == "holds"
    assert (report.first_difference, report.parent_noise, report.notes) == (None, None, ())
    assert report.images == 2


def test_an_export_that_computes_something_else_fails_where_it_begins_to(
    compared: Verify, tiny_artifact: Artifact, images: list[np.ndarray], tmp_path: Path
) -> None:
    report = compared(0.0)
    assert report.verdict.outcome == "fails"
    assert report.first_difference is not None
    assert report.first_difference.first is not None
    manifest, parent = tiny_artifact.manifest, open_parent(tiny_artifact, OPTIONS, threads=1)
    child = Written(tmp_path, manifest, "onnxruntime", "f32").open(1)
    before = answer(parent.manifest, parent.engine, images, multi_label=True)
    after = answer(manifest, child, images, multi_label=True)
    wanted = output_errors(before.outputs, after.outputs, ordered=True, limit=OUTPUT_ERROR)
    assert report.outputs == wanted


def test_the_parent_answers_once_for_all_exports(
    compared: Verify, tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, known = open_parent(tiny_artifact, OPTIONS, threads=1), ParentAnswers()
    lane, asked = parent.engine.narrow[0], []
    real = lane.infer
    monkeypatch.setattr(lane, "infer", lambda feeds: asked.append(1) or real(feeds))
    first = compared(known=known, parent=parent)
    assert len(asked) == 2
    assert compared(known=known, parent=parent).outputs == first.outputs
    assert len(asked) == 2


def test_errors_are_measured_in_the_parents_values(compared: Verify) -> None:
    known = ParentAnswers()
    (before,) = compared(known=known).outputs
    for outputs in next(iter(known.images.values())).outputs:
        outputs["output0"] *= 2
    (after,) = compared(known=known).outputs
    assert after.scale == 2 * before.scale


def test_the_batch_is_given_to_the_export_not_to_its_parent(
    compared: Verify, store: Any, model_file: Callable[..., Path]
) -> None:
    options = ExportOptions("onnx", dynamic_batch=True)
    parent = open_parent(import_onnx(store, model_file(batch="batch")), options, threads=1)
    with pytest.raises(InvalidArtifact, match="does not take 2 images at once"):
        compared(parent=parent, options=options)  # a graph of batch size 1


def test_where_the_parent_sees_nothing_there_is_nothing_to_compare(compared: Verify) -> None:
    with pytest.raises(InvalidDataset, match="sees nothing on any of the images"):
        compared(images=[np.zeros((64, 64, 3), np.uint8)])


def test_accuracy_is_compared_where_there_are_labels(compared: Verify, scenes: Path) -> None:
    labelled, known = read_labelled(f"coco:{scenes}"), ParentAnswers()
    for _ in range(2):  # the parent's boxes are kept
        same = compared(labelled=labelled, known=known).accuracy
        assert same is not None
        assert (same.a, same.b) == (pytest.approx(1), pytest.approx(1))
    blind = compared(0.0, labelled=labelled, known=known).accuracy
    assert blind is not None
    assert sorted([blind.a, blind.b]) == [0, pytest.approx(1)]
    assert len(known.images) == len(known.labelled) == 1
