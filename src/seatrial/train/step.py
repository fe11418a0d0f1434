"""One training step, as transformers' trainer and Lightning's both take it.

The library owns the loop: precision, gradient scaling, backward, DDP. Everything else of a step
is here, and the trainer calls it in this order::

    step.begin_epoch(epoch)                # order of the images, seeds, training mode
    for batch in step.batches:             # `accumulate` batches make one optimiser step
        loss = step.loss(network, batch)   # forward; the parts of a step add up to one batch
        loss.backward()                    # the library
    step.clip()                            # one norm over all gradients
    optimiser.step(); schedule.step()      # the library; `optimiser` and `schedule` build them
    step.finish(number, epoch, rate)       # average of the weights, journal, diagnosis
    step.end_epoch(epoch, number)          # mAP of the average, best weights, patience
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed
from torch import nn
from transformers.loss import loss_for_object_detection as detr

from seatrial.datasets.labels import LabelledSet
from seatrial.models.import_checkpoint import transformers_manifest
from seatrial.train import network as networks
from seatrial.train.after_step import AfterStep
from seatrial.train.batch_norm import share_batch_norms
from seatrial.train.journal import StepRecord
from seatrial.train.loader import TrainingBatches, training_batches
from seatrial.train.network import BACKBONE, NORMS
from seatrial.train.plan import TrainingPlan, canvas, read_facts
from seatrial.train.recipe import Schedule
from seatrial.train.sampler import seed_everything
from seatrial.train.validation import Validator
from seatrial.train.weight_average import WeightAverage

NO_NUMBERS = re.compile(r"\b(nan|inf|invalid numeric)\b")


@dataclass(slots=True)
class TrainingStep:
    """Network, optimiser and settings with which one process takes its steps.

    Attributes:
        plan: TrainingPlan of the run.
        run: Folder of the run.
        rank: Rank of this process.
        network: Network being trained.
        average: Moving average of the network's weights; it is validated and kept.
        batches: Training batches of this process.
        after: Journal, diagnosis, validation and best weights.
    """

    plan: TrainingPlan
    run: Path
    rank: int
    network: nn.Module
    average: WeightAverage
    batches: TrainingBatches
    after: AfterStep
    _losses: list[tuple[torch.Tensor, dict[str, torch.Tensor]]] = field(default_factory=list)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return self.batches.sampler.steps

    def begin_epoch(self, epoch: int) -> None:
        """Set the order of the images and the seeds of an epoch, counted from 0."""
        self.batches.sampler.set_epoch(epoch)
        self.network.train()  # `from_pretrained` leaves networks in evaluation mode
        seed_everything(self.plan.recipe, epoch, self.rank, torch)

    def loss(self, network: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        """Loss of one part of a step; the mean over parts and processes is that of the step.

        Args:
            network: `self.network`, possibly wrapped for DDP.
            batch: See `seatrial.train.loader.Batch`.

        Raises:
            TrainingFailed: The network's boxes are not numbers.
        """
        networks.keep_frozen_norms(self.network)
        try:
            loss, parts = weighed_loss(network, batch, self.plan)
        except ValueError as error:
            # transformers' matcher refuses boxes that are not numbers, before there is a loss.
            if NO_NUMBERS.search(str(error)):
                steps = self.after.journal.steps
                rate = self.plan.recipe.optimiser.learning_rate
                last = steps[-1] if steps else StepRecord(0, 1, math.nan, rate)
                self.after.step(
                    msgspec.structs.replace(last, step=last.step + 1, loss=math.nan, parts={})
                )
            raise
        self._losses.append((loss.detach(), parts))
        return loss

    def clip(self) -> None:
        """Clip all gradients together, to the recipe's norm.

        transformers' trainer clips by itself, over the same weights in the same order.
        """
        longest = self.plan.recipe.optimiser.clip_norm
        if longest:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), longest)

    def finish(self, step: int, epoch: int, rate: float) -> None:
        """Average the weights, write the journal, look for trouble.

        Args:
            step: Optimiser steps taken, this one included.
            epoch: Epoch, counted from 1.
            rate: Learning rate of this step.

        Raises:
            TrainingFailed: The loss is not a number, or explodes.
        """
        self.average.update(self.network)
        names = list(self._losses[0][1])
        rows = [torch.stack([loss, *(parts[n] for n in names)]) for loss, parts in self._losses]
        figures = torch.stack([row.float() for row in rows]).mean(dim=0)  # (1 + parts,)
        self._losses.clear()
        processes = self.plan.recipe.compute.processes
        if processes > 1:
            torch.distributed.all_reduce(figures)
            figures /= processes
        loss, *values = figures.tolist()
        self.after.step(StepRecord(step, epoch, loss, rate, dict(zip(names, values, strict=True))))

    def end_epoch(self, epoch: int, step: int) -> bool:
        """Validate the average and keep it if it is the best; True where patience has run out.

        Args:
            epoch: Epoch, counted from 1.
            step: Optimiser steps taken so far.
        """

        def save(folder: Path) -> None:
            networks.save(self.average.network, self.plan, folder)

        return self.after.epoch(epoch, step, self.average.network, save)

    def optimiser(self) -> torch.optim.Optimizer:
        """The recipe's optimiser over the weights that are trained."""
        return optimiser(self.network, self.plan)

    def schedule(self, chosen: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
        """The recipe's learning rates, step by step."""
        per_epoch, recipe = self.steps_per_epoch, self.plan.recipe
        factor = rate_factor(recipe.schedule, steps=per_epoch * recipe.epochs, per_epoch=per_epoch)
        return torch.optim.lr_scheduler.LambdaLR(chosen, factor)


def open_step(
    plan: TrainingPlan,
    run: Path,
    sets: tuple[LabelledSet, LabelledSet],
    *,
    rank: int,
    device: str,
    **options: Any,
) -> TrainingStep:
    """Build what a process trains with; the options are those of `AfterStep`.

    Raises:
        SeatrialError: The base does not load, or no weight would be trained.
    """
    facts = read_facts(Path(plan.base.path))
    network, fresh = networks.build(plan)
    symptom = networks.freeze(network, plan)
    facts = msgspec.structs.replace(facts, labels=plan.labels, preprocessing=canvas(plan))
    manifest = transformers_manifest(facts, name=plan.base.name)
    normalisation = networks.normalisation(plan)
    processes = plan.recipe.compute.processes
    validator = Validator(
        manifest, normalisation, sets[1], device=device, rank=rank, world=processes
    )
    after = AfterStep(plan, run, validator, rank=rank, **options)
    after.symptom(symptom)
    if plan.new_head and not plan.base.scratch:
        after.tell(networks.new_head_message(plan, fresh))
    network.to(device)
    average = WeightAverage(network, plan.recipe.ema)
    if processes > 1:
        share_batch_norms(network, plan.recipe.compute.device)
    masked = facts.architecture.masked
    batches = training_batches(sets[0], plan, normalisation, masked=masked, rank=rank)
    after.steps_per_epoch = batches.sampler.steps
    return TrainingStep(plan, run, rank, network, average, batches, after)


def optimiser(network: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    """The optimiser, with groups for the backbone and for weights without decay.

    Args:
        network: A network of transformers; its frozen weights are left out.
        plan: TrainingPlan of the run.
    """
    settings = plan.recipe.optimiser
    decay_all = plan.base.family == "detr"  # it was trained with decay of norms and biases too
    norms = {id(w) for m in network.modules() if isinstance(m, NORMS) for w in m.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in network.named_parameters():
        if not weight.requires_grad:
            continue
        inside = name.startswith(BACKBONE)
        rate = settings.backbone_learning_rate if inside else settings.learning_rate
        decays = decay_all or not (id(weight) in norms or name.endswith("bias"))
        groups.setdefault((rate, settings.weight_decay if decays else 0.0), []).append(weight)
    # The journal holds the learning rate of the first group: the one outside the backbone.
    order = sorted(groups, key=lambda key: (key[0] != settings.learning_rate, -key[1]))
    rows = [{"params": groups[key], "lr": key[0], "weight_decay": key[1]} for key in order]
    if settings.kind == "sgd":
        return torch.optim.SGD(rows, momentum=settings.momentum, nesterov=settings.momentum > 0)
    return torch.optim.AdamW(rows, betas=(settings.momentum, 0.999))


def rate_factor(schedule: Schedule, *, steps: int, per_epoch: int) -> Callable[[int], float]:
    """The factor on the learning rates, as a function of the step from 0.

    Args:
        schedule: Schedule of the recipe.
        steps: Optimiser steps of the whole training.
        per_epoch: Optimiser steps of an epoch.
    """
    warmup = max(schedule.warmup_steps, round(schedule.warmup_epochs * per_epoch))

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        share = min(1.0, max(0, step - warmup) / max(1, steps - warmup))
        if schedule.kind == "linear":
            return rise * (1 - (1 - schedule.final) * share)
        if schedule.kind == "cosine":
            wave = (1 + math.cos(math.pi * share)) / 2
            return rise * (schedule.final + (1 - schedule.final) * wave)
        if schedule.kind == "step" and step >= schedule.step_at * steps:
            return rise * 0.1
        return rise

    return factor


def weighed_loss(
    network: Any, batch: dict[str, Any], plan: TrainingPlan
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss of a part of a step, weighed so that the mean over all parts is that of one batch.

    transformers divides a loss by the objects of the part. The loss of the whole step is divided
    by the objects of all parts in all processes.

    Args:
        network: Network in training mode, possibly wrapped for DDP.
        batch: See `seatrial.train.loader.Batch`.
        plan: TrainingPlan of the run.

    Returns:
        The loss, and the losses of the last decoder layer by name.
    """
    inputs = {name: value for name, value in batch.items() if name != "objects"}
    pieces = plan.recipe.accumulate * plan.recipe.compute.processes
    if pieces == 1:
        answer = network(**inputs)
        return answer.loss, _parts(answer)
    own = sum(len(one["class_labels"]) for one in batch["labels"])
    total = float(batch["objects"])
    if plan.recipe.compute.processes > 1:
        summed = torch.tensor(total, device=batch["pixel_values"].device)
        torch.distributed.all_reduce(summed)
        total = float(summed)
    if plan.base.family != "detr":
        # Sums over objects, divided by the objects of the part (RTDetrLoss.forward).
        answer = network(**inputs)
        scale = max(1, own) * pieces / max(1.0, total)
        return answer.loss * scale, _parts(answer, scale)
    with _objects_counted_as(max(1.0, total / pieces)):
        answer = network(**inputs)
    # The classification loss is divided by the weights of its queries; those of no object count
    # less.
    queries = answer.logits.shape[1] * plan.recipe.micro_batch
    empty = float(getattr(network, "module", network).config.eos_coefficient)
    scale = (own + (queries - own) * empty) * pieces
    scale /= total + (queries * pieces - total) * empty
    classes = sum(value for name, value in answer.loss_dict.items() if name.startswith("loss_ce"))
    return answer.loss + (scale - 1) * classes, _parts(answer)


def _parts(answer: Any, scale: float = 1.0) -> dict[str, torch.Tensor]:
    return {
        name: value.detach() * scale
        for name, value in answer.loss_dict.items()
        if name.startswith("loss") and not name[-1].isdigit()
    }


@contextlib.contextmanager
def _objects_counted_as(number: float) -> Iterator[None]:
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
