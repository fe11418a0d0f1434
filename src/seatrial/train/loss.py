"""The loss of a step that is taken in parts, by several processes: as if it were one batch.

transformers computes the loss of a part as if the part were all. Here each part is weighed so that
the mean over parts and processes is the loss of the whole step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from transformers.loss import loss_for_object_detection as detr

from seatrial.train.plan import Plan


def step_loss(network: Any, batch: dict[str, Any], plan: Plan) -> tuple[Any, dict[str, Any]]:
    """Loss of a part of a step.

    Args:
        network: In training mode, maybe wrapped for several processes.
        batch: See `seatrial.train.loader.Batch`.
        plan: Of the run.

    Returns:
        The loss, and its parts by name, of the last decoder layer.
    """
    given = {name: value for name, value in batch.items() if name != "objects"}
    pieces = plan.recipe.accumulate * plan.recipe.compute.processes
    if pieces == 1:
        answer = network(**given)
        return answer.loss, _parts(answer, 1.0)
    own = sum(len(one["class_labels"]) for one in batch["labels"])
    total = _of_all(float(batch["objects"]), batch["pixel_values"].device, plan)
    if plan.base.family != "detr":
        # Sums over objects, divided by the objects of the part (RTDetrLoss.forward).
        answer = network(**given)
        scale = max(1, own) * pieces / max(1.0, total)
        return answer.loss * scale, _parts(answer, scale)
    with _objects_count_as(max(1.0, total / pieces)):
        answer = network(**given)
    parts = _parts(answer, 1.0)
    queries = answer.logits.shape[1] * plan.recipe.micro_batch
    scale = _class_weight(own, queries, network) * pieces
    scale /= _class_weight(total, queries * pieces, network)
    classes = sum(value for name, value in answer.loss_dict.items() if name.startswith("loss_ce"))
    return answer.loss + (scale - 1) * classes, parts


def _of_all(own: float, device: Any, plan: Plan) -> float:
    if plan.recipe.compute.processes == 1:
        return own
    total = torch.tensor(own, device=device)
    torch.distributed.all_reduce(total)
    return float(total)


def _parts(answer: Any, scale: float) -> dict[str, Any]:
    return {
        name: value.detach() * scale
        for name, value in answer.loss_dict.items()
        if name.startswith("loss") and not name[-1].isdigit()
    }


def _class_weight(objects: float, queries: int, network: Any) -> float:
    """What DETR's classification loss is divided by: queries without an object count less."""
    config = getattr(network, "module", network).config
    return objects + (queries - objects) * float(config.eos_coefficient)


@contextlib.contextmanager
def _objects_count_as(number: float) -> Iterator[None]:
    """Have DETR's loss divide by another number than the objects of the part.

    Its own count over processes is too small by their number: it takes the mean of the counts and
    divides that by the number of processes once more (transformers 5.23).
    """
    before = detr.ImageLoss.get_loss

    def get_loss(self: Any, loss: str, outputs: Any, targets: Any, indices: Any, boxes: Any) -> Any:
        return before(self, loss, outputs, targets, indices, number)

    detr.ImageLoss.get_loss = get_loss
    try:
        yield
    finally:
        detr.ImageLoss.get_loss = before
