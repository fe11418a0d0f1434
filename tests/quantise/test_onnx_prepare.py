"""ONNX graphs before quantisation: opsets, names, and float parts put back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantised_graphs import LAYERS, onnx_model, plain, producers
from seatrial.artifact import Artifact
from seatrial.errors import InvalidArtifact
from seatrial.models import proof
from seatrial.progress import silent
from seatrial.quantise import onnx_prepare
from seatrial.quantise.calibration_images import CalibrationImages, find_images
from seatrial.quantise.registry import open_backend
from seatrial.quantise.workspace import Workspace
from small_detector import build_small


def test_an_opset_that_is_too_new_is_refused(
    small: Callable[..., Artifact], work: Workspace
) -> None:
    with pytest.raises(InvalidArtifact, match="opset 21"):
        open_backend("onnxruntime").prepare(small(opset=21), work)


def test_an_old_opset_is_raised_to_one_with_a_scale_for_each_channel(
    small: Callable[..., Artifact], scene: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its boxes are narrower than a pixel, which the import would refuse.
    monkeypatch.setattr(proof, "prove", lambda *_, **__: None)
    artifact, backend = small(opset=11), open_backend("onnxruntime")
    backend.prepare(artifact, work)
    images = CalibrationImages(find_images(scene)[:4], artifact.manifest)
    folder = backend.quantise("minmax", images, work, silent)
    assert {plain(name) for name in backend.layers(folder, work)} == LAYERS
    model = onnx_model(folder)
    assert next(o.version for o in model.opset_import if not o.domain) == 13
    constants = {t.name: t for t in model.graph.initializer}
    made = producers(model)
    conv = next(n for n in model.graph.node if n.name == "block0.up/Conv")
    assert list(constants[made[conv.input[1]].input[1]].dims) == [6]


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    """The small detector after preparation; its metadata is that of the source."""
    onnx.save(build_small(), tmp_path / "small.onnx")
    onnx_prepare.write(tmp_path / "small.onnx", tmp_path / "float.onnx", lambda model: None)
    return onnx.load(tmp_path / "float.onnx")


def test_all_nodes_have_names_and_the_metadata_is_kept(prepared: Any) -> None:
    names = [node.name for node in prepared.graph.node]
    assert all(names)
    assert len({*names}) == len(names)
    kept = {entry.key: entry.value for entry in prepared.metadata_props}
    assert kept == {entry.key: entry.value for entry in build_small().metadata_props}
    assert [opset.domain for opset in prepared.opset_import] == [""]


def test_a_file_with_weights_that_are_no_numbers_is_refused(tmp_path: Path) -> None:
    model = build_small()
    tensor = next(t for t in model.graph.initializer if t.name == "scores.weight")
    broken = onnx.numpy_helper.to_array(tensor) * np.float32("nan")
    tensor.CopyFrom(onnx.numpy_helper.from_array(broken, tensor.name))
    onnx.save(model, tmp_path / "nan.onnx")
    with pytest.raises(InvalidArtifact, match=r"nan\.onnx .*in scores\.weight"):
        onnx_prepare.write(tmp_path / "nan.onnx", tmp_path / "float.onnx", lambda model: None)


def test_a_graph_that_onnx_runtime_does_not_open_is_refused(tmp_path: Path) -> None:
    model = build_small()
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    model.graph.node[0].op_type, model.graph.node[0].domain = "MyConv", "com.example"
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(InvalidArtifact, match="ONNX Runtime does not open the graph"):
        onnx_prepare.write(tmp_path / "foreign.onnx", tmp_path / "float.onnx", lambda model: None)


def test_only_computed_float_tensors_have_ranges(prepared: Any) -> None:
    found = onnx_prepare.float_tensors(prepared, prepared.graph.node)
    assert {"images", "block0.up", "scores", "output0"} <= {*found}
    assert len({*found}) == len(found)
    assert not {tensor.name for tensor in prepared.graph.initializer} & {*found}
    conv = next(node for node in prepared.graph.node if node.name == "block0.up/Conv")
    assert onnx_prepare.float_tensors(prepared, [conv]) == ["images", "block0.up"]


def test_what_no_output_depends_on_is_dropped(prepared: Any) -> None:
    nodes = len(prepared.graph.node)
    prepared.graph.node.append(onnx.helper.make_node("Neg", ["scores"], ["unused"], name="unused"))
    constant = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "nobody")
    prepared.graph.initializer.append(constant)
    onnx_prepare.drop_unused(prepared)
    assert len(prepared.graph.node) == nodes
    assert "nobody" not in {tensor.name for tensor in prepared.graph.initializer}
    onnx.checker.check_model(prepared)


def test_a_restored_layer_is_float_with_its_own_constants_and_activation(prepared: Any) -> None:
    # As a quantiser leaves it: the bias is rounded and has the name of the float one.
    model = type(prepared)()
    model.CopyFrom(prepared)
    bias = next(t for t in model.graph.initializer if t.name == "block0.up.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(6, 7, np.int32), bias.name))
    sigmoid = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    sigmoid.op_type = "Tanh"  # stands for what the quantiser did to the activation
    onnx_prepare.put_back(model, prepared, ["block0.up/Conv"])
    conv = next(node for node in model.graph.node if node.name == "block0.up/Conv")
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert conv.input[2] == "block0.up.bias/float"
    assert constants[conv.input[2]].dtype == np.float32
    assert (constants["block0.up.bias"] == 7).all()
    assert [n.op_type for n in model.graph.node if n.name == sigmoid.name] == ["Sigmoid"]
    other = next(node for node in model.graph.node if node.name == "block1.up/Conv")
    assert not any(name.endswith("/float") for name in other.input)
    assert [n.name for n in model.graph.node] == [n.name for n in prepared.graph.node]
