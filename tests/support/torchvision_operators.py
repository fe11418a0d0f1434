"""torchvision where its build is not that of torch: a CPU build of torch beside a CUDA one of it.

Such a torchvision does not load its compiled operators, and then does not import at all.
transformers and Ultralytics import it and, on the paths of the tests, call nothing of it but
``nms``. So the operators are declared here, ``nms`` with an implementation.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

_DECLARED: list[Any] = []  # operators go when the library that declared them does


def provide() -> None:
    """Make ``import torchvision`` work, if it is installed; where it works already, do nothing."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # "operator torchvision::nms does not exist"
        declare()
        importlib.import_module("torchvision")
        importlib.import_module("torchvision.extension")._has_ops = lambda: True


def declare() -> None:
    """Declare the operators; only where torchvision's own do not load."""
    torch = importlib.import_module("torch")
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _DECLARED.append(library)


def for_children() -> list[str]:
    """What goes before ``PYTHONPATH`` of processes that may import torchvision."""
    support = Path(__file__).resolve().parent
    return [str(support / "startup"), str(support)]


def _nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Greedy, the most confident first.

    Args:
        boxes: (N, 4) left, top, right, bottom.
        scores: (N,).
        iou_threshold: Boxes that overlap a kept one by more are dropped.

    Returns:
        (K,) int64 indices of the kept, most confident first.
    """
    torch = importlib.import_module("torch")
    order = scores.argsort(descending=True, stable=True)
    left_top, right_bottom = boxes[order, :2], boxes[order, 2:]
    sides = torch.minimum(right_bottom[:, None], right_bottom) - torch.maximum(
        left_top[:, None], left_top
    )
    shared = sides.clamp(min=0).prod(dim=2)
    area = (right_bottom - left_top).prod(dim=1)
    overlaps = shared > iou_threshold * (area[:, None] + area - shared)
    dropped = torch.zeros(len(order), dtype=torch.bool)
    for row in range(len(order)):
        if not dropped[row]:
            dropped[row + 1 :] |= overlaps[row, row + 1 :]
    return order[~dropped]
