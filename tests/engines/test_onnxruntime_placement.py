"""Where ONNX Runtime placed the nodes of a graph."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnxruntime as ort
import pytest

from seatrial.artifact import Artifact
from seatrial.engines.onnxruntime import (
    CPU,
    CUDA,
    TENSORRT,
)
from seatrial.engines.onnxruntime_placement import check_placement, placement
from seatrial.errors import DeviceUnavailable


def cpu_session(artifact: Artifact) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return ort.InferenceSession(artifact.file("onnx"), options, providers=[CPU])


def test_a_graph_that_lands_on_the_cpu_is_an_error_that_names_the_nodes(
    tiny_artifact: Artifact,
) -> None:
    placed = placement(cpu_session(tiny_artifact))
    assert placed[CPU]["Conv"] == 1
    check_placement(placed, (CPU,))
    with pytest.raises(DeviceUnavailable, match=rf"asked for {CUDA} and put .* on the CPU: .*Conv"):
        check_placement(placed, (CUDA,))


def test_of_many_operators_on_the_cpu_the_five_most_frequent_are_named() -> None:
    placed = {CPU: Counter({f"Operator{count}": count for count in range(1, 8)})}
    with pytest.raises(DeviceUnavailable) as caught:
        check_placement(placed, (CUDA,))
    listed = ", ".join(f"{count} x Operator{count}" for count in (7, 6, 5, 4, 3))
    assert caught.value.message.endswith(f"put 28 nodes of the graph on the CPU: {listed}")


@pytest.mark.parametrize(
    ("placed", "said"),
    [
        ({CUDA: {"Conv": 80}}, None),
        ({CUDA: {"Conv": 80}, CPU: {"Shape": 3, "Gather": 3, "Concat": 1}}, None),
        ({CUDA: {"Conv": 80}, CPU: {"Shape": 3, "NonMaxSuppression": 1}}, "1 x NonMaxSuppression"),
        ({CPU: {"Shape": 3}}, "took no node"),
        ({}, "took no node"),
    ],
)
def test_arithmetic_on_shapes_may_stay_on_the_cpu_and_nothing_else(
    placed: dict[str, dict[str, int]], said: str | None
) -> None:
    counted = {provider: Counter(nodes) for provider, nodes in placed.items()}
    if said is None:
        check_placement(counted, (CUDA,))
        return
    with pytest.raises(DeviceUnavailable, match=said):
        check_placement(counted, (CUDA,))


def test_tensorrt_may_leave_nodes_to_cuda_but_not_all() -> None:
    check_placement({TENSORRT: Counter(Conv=80), CUDA: Counter(TopK=1)}, (TENSORRT, CUDA))
    with pytest.raises(DeviceUnavailable, match=f"{TENSORRT}, which took no node"):
        check_placement({CUDA: Counter(Conv=80)}, (TENSORRT, CUDA))
