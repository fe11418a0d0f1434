"""The first inner tensor that differs between two graphs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.engines.base import Arrays
from seatrial.graphs.probes import Probe

AT_A_TIME = 16  # inner tensors held at once: a detector has hundreds, of megabytes each
STEEPEST = 5
# Relative root mean square error above which a tensor differs.
LIMITS = {"f32": 1e-3, "f16": 2e-2, "bf16": 5e-2, "int8": 5e-2}


class TensorDifference(msgspec.Struct, frozen=True, kw_only=True):
    """The difference of one inner tensor that both graphs have.

    Attributes:
        tensor: Name of the tensor.
        operator: Operator of the node that computes it; empty where that is not known.
        node: Name of that node; the tensor's name where it has none.
        error: Root mean square of the difference, as a share of the parent's.
    """

    tensor: str
    operator: str
    node: str
    error: float


class FirstDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Where two graphs begin to differ.

    Attributes:
        compared: Number of inner tensors that both graphs have.
        measured: Number of those whose difference was measured.
        limit: Relative error above which a tensor differs.
        first: The first tensor that differs; None where none does.
        before: The last measured tensor before it that agrees.
        steepest: The measured tensors at which the error grew most.
    """

    compared: int
    measured: int = msgspec.field(name="looked_at")  # the key in export.json
    limit: float
    first: TensorDifference | None
    before: TensorDifference | None
    steepest: tuple[TensorDifference, ...]


def find(
    parent: Probe, child: Probe, feeds: Arrays, *, limit: float, nodes: dict[str, Any] | None = None
) -> FirstDifference:
    """Find the first tensor that differs; measures a few tensors at a time.

    Args:
        parent: The reference.
        child: The other graph; tensors of the same names are compared.
        feeds: Inputs of one image.
        limit: Relative error above which a tensor differs.
        nodes: Tensor name -> the ``onnx.NodeProto`` that computes it, for names and operators.
    """
    have = set(child.names)
    shared = [name for name in parent.names if name in have]
    errors: dict[int, float] = {}
    low, high = -1, len(shared)  # the graph's input agrees, its output does not
    while high - low > 1:
        step = max(1, (high - low) // (AT_A_TIME + 1))
        places = [at for at in range(low + step, high, step) if at not in errors]
        if not places:
            break
        found = _errors(parent, child, [shared[at] for at in places], feeds)
        errors |= {at: found[shared[at]] for at in places}
        high = min((at for at in errors if errors[at] > limit and low < at), default=high)
        low = max((at for at in errors if at < high and errors[at] <= limit), default=low)
    growth = {
        at: errors[at] / max(errors[before], limit / 100)
        for before, at in itertools.pairwise(sorted(errors))
    }
    steepest = sorted(growth, key=growth.__getitem__, reverse=True)[:STEEPEST]

    def difference(at: int) -> TensorDifference:
        node = (nodes or {}).get(shared[at])
        return TensorDifference(
            tensor=shared[at],
            operator=node.op_type if node is not None else "",
            node=(node.name if node is not None else "") or shared[at],
            error=errors[at],
        )

    return FirstDifference(
        compared=len(shared),
        measured=len(errors),
        limit=limit,
        first=difference(high) if high in errors else None,
        before=difference(low) if low in errors else None,
        steepest=tuple(difference(at) for at in steepest if errors[at] > limit),
    )


def _errors(parent: Probe, child: Probe, names: Sequence[str], feeds: Arrays) -> dict[str, float]:
    wanted, found = parent.values(names, feeds), child.values(names, feeds)
    return {
        name: relative_error(wanted[name], found[name])
        if name in wanted and name in found
        else 0.0  # a submodule whose output is no tensor cannot be compared
        for name in names
    }


def relative_error(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    """Root mean square of the difference, as a share of that of the wanted values.

    0 for integers, which may differ where values tie, and for tensors of different shapes;
    infinite where a value is not finite that should be.
    """
    if wanted.shape != found.shape or not np.issubdtype(wanted.dtype, np.floating):
        return 0.0
    known = np.isfinite(wanted)
    if not known.any():
        return 0.0
    if not np.isfinite(found[known]).all():
        return float("inf")
    difference = found[known].astype(np.float64) - wanted[known]
    error = float(np.sqrt(np.mean(np.square(difference))))
    size = float(np.sqrt(np.mean(np.square(wanted[known], dtype=np.float64))))
    return error / size if size > 0 else float(error > 0)
