"""Inner tensors of graphs, read by name: equal in every runtime that has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seatrial.artifact import Artifact
from seatrial.graphs.probes import ModuleProbe, OnnxProbe, OpenVinoProbe, ProgramProbe

PICTURE = {"image": np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), np.uint8)}


def test_onnx_and_openvino_see_the_same_tensors(tiny_artifact: Artifact) -> None:
    path = tiny_artifact.file("onnx")
    first, second = OnnxProbe(onnx.load(path)), OpenVinoProbe(path, "f32")
    shared = [name for name in first.names if name in second.names]
    assert len(shared) >= 5
    wanted, found = first.values(shared, PICTURE), second.values(shared, PICTURE)
    assert set(wanted) == set(found) == set(shared)
    for name in shared:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5)


def test_the_names_are_in_the_order_of_computation(tiny_artifact: Artifact) -> None:
    probe = OnnxProbe(onnx.load(tiny_artifact.file("onnx")))
    assert probe.names[-1] == "output0"
    assert probe.producers["output0"].output[0] == "output0"
    assert probe.names.index("seatrial_float") < probe.names.index("seatrial_step0")


def test_reading_leaves_the_graph_as_it_is(tiny_artifact: Artifact) -> None:
    model = onnx.load(tiny_artifact.file("onnx"))
    before = model.SerializeToString()
    probe = OnnxProbe(model)
    probe.values(probe.names[:2], PICTURE)
    assert model.SerializeToString() == before


def test_half_precision_is_read_as_float32() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [2])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT16, [2])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    found = OnnxProbe(model).values(["y"], {"x": np.array([1, -2], np.float16)})["y"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [-1, 2])


def traced() -> tuple[Any, Any]:
    """A module of two layers, one of which is called twice, and its graph as tracing names it."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Twice(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(3, 3)
            self.again = torch.nn.Tanh()

        def forward(self, x: Any) -> Any:
            return (self.again(self.again(self.first(x))),)

    module = Twice().eval()
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["f"], name="/first/Gemm", transB=1),
        helper.make_node("Tanh", ["f"], ["t"], name="/again/Tanh"),
        helper.make_node("Tanh", ["t"], ["y"], name="/again_1/Tanh"),
    ]
    weights = [
        numpy_helper.from_array(tensor.detach().numpy(), name)
        for tensor, name in ((module.first.weight, "w"), (module.first.bias, "b"))
    ]
    value, out = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in "xy")
    graph = helper.make_graph(nodes, "g", [value], [out], weights)
    return module, helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )


def test_a_module_is_seen_through_the_tensors_of_its_graph(tmp_path: Path) -> None:
    module, graph = traced()
    import torch

    from seatrial.manifest import TensorSpec

    probe = ModuleProbe(module, ["x"], ["y"], graph)
    assert probe.names == ("f",)  # what is called twice stands for no one tensor
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    wanted = OnnxProbe(graph).values(["f", "y"], feeds)
    found = probe.values(["f", "y"], feeds)
    for name in ("f", "y"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)
    assert not module.first._forward_hooks

    torch.export.save(
        torch.export.export(module, (torch.from_numpy(feeds["x"]),)), tmp_path / "m.pt2"
    )

    class Specs:
        inputs = (TensorSpec("x", "float32", (2, 3)),)
        outputs = (TensorSpec("y", "float32", (2, 3)),)

    program = ProgramProbe(tmp_path / "m.pt2", Specs(), graph, "f32")  # type: ignore[arg-type]
    assert program.names == ("f",)
    seen = program.values(["f", "y"], feeds)
    for name in ("f", "y"):
        np.testing.assert_allclose(seen[name], wanted[name], atol=1e-6)
