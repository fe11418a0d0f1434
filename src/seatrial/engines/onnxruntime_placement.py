"""Where ONNX Runtime placed the nodes of a graph: a requested GPU that is not used is an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from seatrial.errors import DeviceUnavailable

# Computations on shapes, a few integers each, that ONNX Runtime keeps on the CPU on purpose.
SHAPE_OPERATORS = frozenset(
    {
        "Cast",
        "Concat",
        "ConstantOfShape",
        "Gather",
        "Range",
        "Shape",
        "Size",
        "Slice",
        "Squeeze",
        "Unsqueeze",
    }
)


def check_placement(placed: Mapping[str, Counter[str]], providers: tuple[str, ...]) -> None:
    """Refuse a graph that was requested on a GPU and computes on the CPU.

    Args:
        placed: Provider -> operator -> nodes, as the session assigned them.
        providers: Requested providers, the wanted one first.

    Raises:
        DeviceUnavailable: The wanted provider got no node, or the CPU got one that is more than
            arithmetic on shapes.
    """
    computes = Counter(
        {
            operator: count
            for provider, nodes in placed.items()
            if provider not in providers
            for operator, count in nodes.items()
            if operator not in SHAPE_OPERATORS
        }
    )
    if computes:
        listed = ", ".join(f"{count} x {operator}" for operator, count in computes.most_common(5))
        raise DeviceUnavailable(
            f"ONNX Runtime was asked for {providers[0]} and put {computes.total()} nodes of the "
            f"graph on the CPU: {listed}",
            hint="export the graph in another opset or without fused postprocessing",
        )
    if not placed.get(providers[0]):
        raise DeviceUnavailable(
            f"ONNX Runtime was asked for {providers[0]}, which took no node of the graph",
            hint="seatrial doctor shows what works; most often a library is missing",
        )


def placement(session: Any) -> dict[str, Counter[str]]:
    """Provider -> operator -> number of nodes, of a session that recorded its assignment."""
    placed: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        operators = Counter(node.op_type for node in part.get_nodes())
        placed.setdefault(part.ep_name, Counter()).update(operators)
    return placed
