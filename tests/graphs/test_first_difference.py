"""The first inner tensor that differs between two graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seatrial.graphs.first_difference import AT_A_TIME, find, relative_error
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


class ScriptedProbe:
    """A probe whose tensors hold one number each."""

    def __init__(self, values: dict[str, float], missing: tuple[str, ...] = ()) -> None:
        self.names = tuple(values)
        self.asked: list[int] = []
        self._values = values
        self._missing = missing

    def values(self, names: Any, feeds: Any) -> dict[str, Any]:
        self.asked.append(len(names))
        return {n: np.array([self._values[n]]) for n in names if n not in self._missing}


def compared(errors: list[float], *, limit: float = 0.25, missing: tuple[str, ...] = ()) -> Any:
    """Of a graph that computes 1 everywhere, and one that is off by these errors."""
    names = [f"t{number}" for number in range(len(errors))]
    parent = ScriptedProbe(dict.fromkeys(names, 1.0))
    child = ScriptedProbe({n: 1 + e for n, e in zip(names, errors, strict=True)}, missing)
    found = find(parent, child, {}, limit=limit)
    assert max(parent.asked, default=0) < 2 * (AT_A_TIME + 1)
    return found


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 18, 19, 33, 34, 35, 36, 50])
def test_wherever_graphs_begin_to_differ_it_is_found(length: int) -> None:
    for wrong in range(length):
        found = compared([0.0] * wrong + [0.5] * (length - wrong))
        assert found.first.tensor == f"t{wrong}"
        assert (found.before and found.before.tensor) == (f"t{wrong - 1}" if wrong else None)
        assert found.before is None or found.before.error == 0.0
    assert compared([0.0] * length).first is None


def test_a_thousand_tensors_take_three_rounds() -> None:
    for wrong in (0, 1, 58, 500, 999):
        found = compared([0.0] * wrong + [0.5] * (1000 - wrong))
        assert found.first.tensor == f"t{wrong}"
        assert found.measured <= 3 * AT_A_TIME + 10


def test_graphs_without_a_tensor_in_common() -> None:
    found = find(ScriptedProbe({"a": 1.0}), ScriptedProbe({"b": 1.0}), {}, limit=0.1)
    assert (found.compared, found.measured, found.first, found.before) == (0, 0, None, None)


def test_a_difference_of_the_limit_itself_is_none() -> None:
    found = compared([0.0, 0.25, 0.25, 0.5])
    assert found.first.tensor == "t3"
    assert [one.tensor for one in found.steepest] == ["t3"]
    assert compared([0.25, 0.25]).first is None


def test_the_steepest_are_those_where_the_error_grew_most() -> None:
    """Errors below a hundredth of the limit are noise: growing from there says nothing."""
    found = compared([0.0, 0.02, 0.02, 0.03, 1.5, 1.5, 6.0], limit=0.01)
    assert [one.tensor for one in found.steepest] == ["t1", "t4", "t6", "t3", "t2"]
    found = compared([0.02, 0.05, 0.06], limit=0.01)
    assert [one.tensor for one in found.steepest] == ["t1", "t2"]


def test_without_nodes_the_tensors_name_stands_for_the_node() -> None:
    first = compared([0.0, 0.5]).first
    assert (first.tensor, first.operator, first.node, first.error) == ("t1", "", "t1", 0.5)


def test_a_tensor_that_one_graph_does_not_give_agrees() -> None:
    found = compared([0.0, 0.5, 0.5], missing=("t1",))
    assert found.first.tensor == "t2"


@pytest.mark.parametrize(
    ("wanted", "found", "error"),
    [
        ([2.0, 2.0], [2.0, 3.0], 0.5**0.5 / 2),
        ([0.5], [0.25], 0.5),
        ([0.0], [0.5], 1.0),
        ([0.0], [0.0], 0.0),
        ([np.nan, 1.0], [5.0, 1.5], 0.5),
        ([np.nan, np.inf], [1.0, 2.0], 0.0),
        ([1.0, 1.0], [np.inf, 1.0], np.inf),
        ([1.0, 1.0], [[1.0, 2.0]], 0.0),
    ],
)
def test_relative_error(wanted: Any, found: Any, error: float) -> None:
    assert relative_error(np.array(wanted), np.array(found)) == pytest.approx(error)


def test_integers_may_differ() -> None:
    assert relative_error(np.array([1, 2]), np.array([2, 1])) == 0.0
