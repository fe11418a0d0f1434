"""Parents of exports: what a finished graph cannot become, and what a file says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import onnx
import pytest

from seatrial.artifact import Artifact, Store
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.export.options import ExportOptions
from seatrial.export.parent import describe, open_parent
from seatrial.export.run import export
from seatrial.models.import_onnx import import_onnx

ModelFile = Callable[..., Path]


@pytest.fixture
def tiny(store: Store, model_file: ModelFile) -> Artifact:
    return import_onnx(store, model_file())


def test_what_a_finished_graph_cannot_become(
    store: Store, tiny: Artifact, model_file: ModelFile, cell_images: Path
) -> None:
    half = import_onnx(store, model_file("half.onnx", half=True))
    final = import_onnx(store, model_file("final.onnx", layout="end_to_end"))
    for parent, options, message in (
        (tiny, ExportOptions("onnx", imgsz=(96, 96)), "fixed to 64 x 64"),
        (tiny, ExportOptions("onnx", imgsz=(100, 96)), "fixed to 64 x 64"),
        (tiny, ExportOptions("onnx", dynamic_batch=True), "fixed to 1 image"),
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


def test_the_parent_of_a_graph_is_the_graph_itself_and_an_engine_of_it(tiny: Artifact) -> None:
    parent = open_parent(tiny, ExportOptions("openvino"), threads=1)
    try:
        assert parent.manifest == tiny.manifest
        assert parent.module is None
        assert parent.graph == onnx.load(tiny.file("onnx"))
        assert (parent.engine.name, parent.engine.precision) == ("onnxruntime", "f32")
        assert parent.engine.narrow[0].threads == 1
        assert parent.probe().names[-1] == "output0"
    finally:
        parent.engine.close()


@pytest.mark.parametrize(
    "options", [ExportOptions("tensorrt", "f16"), ExportOptions("tensorrt", fuse_nms=True)]
)
def test_int8_goes_to_tensorrt_as_it_is(tiny: Artifact, options: ExportOptions) -> None:
    manifest = msgspec.structs.replace(tiny.manifest, precision="int8")
    int8 = Artifact(tiny.path, manifest, tiny.digest)
    with pytest.raises(InvalidInput) as refusal:
        open_parent(int8, options, threads=1)
    assert refusal.value.hint == "leave out --precision and --fuse-nms"
    with pytest.raises(InvalidInput, match="is int8: what was rounded off is gone"):
        open_parent(int8, ExportOptions("onnx"), threads=1)


def test_a_file_describes_itself_and_keeps_what_it_said(tiny: Artifact, tmp_path: Path) -> None:
    graph = onnx.load(tiny.file("onnx"))
    before = {entry.key: entry.value for entry in graph.metadata_props}
    describe(graph, tiny.manifest)
    assert {entry.key: entry.value for entry in graph.metadata_props} == before  # Ultralytics' own
    del graph.metadata_props[:]
    describe(graph, tiny.manifest)
    onnx.save(graph, tmp_path / "described.onnx")
    again = import_onnx(Store(tmp_path / "other"), tmp_path / "described.onnx").manifest
    assert again.labels == tiny.manifest.labels
    assert again.preprocessing == tiny.manifest.preprocessing
    assert again.licence == tiny.manifest.licence
