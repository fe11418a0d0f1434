"""The first inner tensor that differs between two graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seatrial.graphs.first_difference import find, relative_error
from seatrial.graphs.probes import OnnxProbe


def chain(length: int, *, wrong: int | None = None) -> Any:
    """A chain of layers; one of them computes something else."""
    chance = np.random.default_rng(0)
    nodes, constants = [], []
    last = "x"
    for number in range(length):
        weight = chance.normal(0, 0.35, (8, 8)).astype(np.float32)
        weight += np.float32(0.05) if number == wrong else np.float32(0)
        constants.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(
            helper.make_node(
                "MatMul", [last, f"w{number}"], [f"m{number}"], name=f"/l{number}/MatMul"
            )
        )
        nodes.append(
            helper.make_node("Tanh", [f"m{number}"], [f"t{number}"], name=f"/l{number}/Tanh")
        )
        last = f"t{number}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, 8])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("wrong", [0, 1, 57, 99])
def test_the_wrong_layer_is_found_from_less_than_a_third_of_the_tensors(wrong: int) -> None:
    good, bad = chain(100), chain(100, wrong=wrong)
    onnx.checker.check_model(good)
    feeds = {"x": np.ones((1, 8), np.float32)}
    nodes = {name: node for node in good.graph.node for name in node.output}
    found = find(OnnxProbe(good), OnnxProbe(bad), feeds, limit=1e-3, nodes=nodes)
    assert found.first is not None
    assert (found.first.node, found.first.operator) == (f"/l{wrong}/MatMul", "MatMul")
    assert (found.before is None) == (wrong == 0)
    assert found.compared == 200
    assert found.measured < 60


def test_graphs_that_agree_have_no_first_difference() -> None:
    feeds = {"x": np.ones((1, 8), np.float32)}
    found = find(OnnxProbe(chain(20)), OnnxProbe(chain(20)), feeds, limit=1e-6)
    assert found.first is None
    assert found.steepest == ()


def test_relative_error_of_odd_values() -> None:
    ones = np.ones(4, np.float32)
    assert relative_error(ones, ones * 2) == pytest.approx(1.0)
    assert relative_error(ones, np.array([1, 1, np.nan, 1], np.float32)) == float("inf")
    assert relative_error(np.array([1, np.inf], np.float32), ones[:2]) == 0.0
    assert relative_error(ones * 0, ones) == 1.0
    assert relative_error(ones, ones[:2]) == 0.0
