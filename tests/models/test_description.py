"""The description in ONNX files that Seatrial wrote."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import exported_heads as heads
from seatrial.artifact import Store
from seatrial.errors import InvalidArtifact
from seatrial.graphs import onnx_file
from seatrial.models import description
from seatrial.models.facts import ModelFacts
from seatrial.models.import_onnx import import_onnx


def test_a_file_of_the_store_is_imported_as_what_it_was(store: Store, tmp_path: Path) -> None:
    path = heads.yolox(tmp_path / "x.onnx", size_hw=(96, 128), classes=80)
    told = ModelFacts(family="yolox", labels="coco", std=(2.0, 2.0, 2.0))
    first = import_onnx(store, path, told=told)
    again = import_onnx(store, first.file("onnx"), name="again")
    assert again.file("onnx").read_bytes() == first.file("onnx").read_bytes()
    for field in description.ModelDescription.__struct_fields__:
        assert getattr(again.manifest, field) == getattr(first.manifest, field), field


def test_metadata_that_was_there_stays() -> None:
    graph = onnx.helper.make_graph([], "empty", [], [])
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, {"stride": "32"})
    assert description.read(onnx_file.signature(model)) is None
    onnx.helper.set_model_props(model, {"stride": "32", description.METADATA_KEY: "{}"})
    with pytest.raises(InvalidArtifact, match=r"seatrial\.model"):
        description.read(onnx_file.signature(model))


def test_a_description_of_another_graph_is_refused(store: Store, tmp_path: Path) -> None:
    path = heads.yolox(tmp_path / "x.onnx", size_hw=(96, 128), classes=80)
    told = ModelFacts(family="yolox", labels="coco")
    model = onnx.load(path)
    description.write(model, import_onnx(store, path, told=told).manifest)
    onnx.save(model, path)
    with pytest.raises(InvalidArtifact, match="takes uint8 images"):
        import_onnx(store, path, name="float")
