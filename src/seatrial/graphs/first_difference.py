"""Which layer is to blame: the first inner tensor that two graphs disagree on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.engines.base import Arrays
from seatrial.export.report import FirstDifference, TensorDifference
from seatrial.graphs.probes import Probe

AT_A_TIME = 16  # inner tensors held at once: a detector has hundreds, of megabytes each
STEEPEST = 5
# Root mean square error, relative, from which on a tensor differs.
LIMITS = {"f32": 1e-3, "f16": 2e-2, "bf16": 5e-2, "int8": 5e-2}


def find(
    parent: Probe, child: Probe, feeds: Arrays, *, limit: float, nodes: dict[str, Any] | None = None
) -> FirstDifference:
    """Narrow down where two graphs part, by looking at a few tensors at a time.

    Args:
        parent: The reference.
        child: The other graph; tensors of the same names are compared.
        feeds: One picture.
        limit: A tensor with a greater error differs.
        nodes: Tensor name -> ``onnx.NodeProto`` that gives it, for names and operators.
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
    order = sorted(errors)
    growth = {
        at: errors[at] / max(errors[before], limit / 100)
        for before, at in itertools.pairwise(order)
    }
    steepest = sorted(growth, key=growth.__getitem__, reverse=True)[:STEEPEST]

    def parting(at: int) -> TensorDifference:
        node = (nodes or {}).get(shared[at])
        return TensorDifference(
            shared[at],
            node.op_type if node is not None else "",
            (node.name if node is not None else "") or shared[at],
            errors[at],
        )

    return FirstDifference(
        compared=len(shared),
        looked_at=len(errors),
        limit=limit,
        first=parting(high) if high in errors else None,
        before=parting(low) if low in errors else None,
        steepest=tuple(parting(at) for at in steepest if errors[at] > limit),
    )


def _errors(parent: Probe, child: Probe, names: Sequence[str], feeds: Arrays) -> dict[str, float]:
    wanted, found = parent.values(names, feeds), child.values(names, feeds)
    return {
        name: relative_error(wanted[name], found[name])
        if name in wanted and name in found
        else 0.0  # a submodule that gave no tensor says nothing
        for name in names
    }


def relative_error(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    """Root mean square of the difference, as a share of that of the wanted values."""
    if wanted.shape != found.shape or not np.issubdtype(wanted.dtype, np.floating):
        return 0.0  # indices may differ where values tie; a reshaped tensor is another tensor
    known = np.isfinite(wanted)
    if not np.isfinite(found[known]).all():
        return float("inf")
    difference = found[known].astype(np.float64) - wanted[known]
    size = float(np.sqrt(np.mean(np.square(wanted[known], dtype=np.float64)))) if known.any() else 0
    error = float(np.sqrt(np.mean(np.square(difference)))) if known.any() else 0.0
    return error / size if size > 0 else float(error > 0)
