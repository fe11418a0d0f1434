"""What training through transformers and through Lightning have in common."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from seatrial.datasets.labels import LabelledSet
from seatrial.models.import_checkpoint import transformers_manifest
from seatrial.train import network as networks
from seatrial.train.after_step import AfterStep, tell
from seatrial.train.journal import StepRecord
from seatrial.train.loader import Loader, loader
from seatrial.train.loss import step_loss
from seatrial.train.optimise import WeightAverage, share_batch_norms
from seatrial.train.plan import Plan, canvas, read_facts
from seatrial.train.validation import Validator

NO_NUMBERS = re.compile(r"\b(nan|inf|invalid numeric)\b")


@dataclass(frozen=True, slots=True)
class Session:
    """One process of a training.

    Attributes:
        plan: Of the run.
        run: Its folder.
        rank: Of this process.
        network: Being trained.
        average: Of its weights: what is validated and kept.
        loader: Training batches.
        progress: Notes.
        losses: Of the parts of the step that is being taken, with their parts by name.
    """

    plan: Plan
    run: Path
    rank: int
    network: Any
    average: WeightAverage
    loader: Loader
    progress: AfterStep
    losses: list[tuple[Any, dict[str, Any]]]

    def loss(self, network: Any, batch: dict[str, Any]) -> Any:
        """Loss of a part of a step: see `step_loss`; kept until the step is taken.

        Raises:
            TrainingFailed: The network's boxes are no numbers.
        """
        try:
            loss, parts = step_loss(network, batch, self.plan)
        except ValueError as error:
            if NO_NUMBERS.search(str(error)):
                self._no_loss()
            raise
        self.losses.append((loss.detach(), parts))
        return loss

    def _no_loss(self) -> None:
        """Before there is a loss, transformers' matcher refuses boxes that are no numbers."""
        steps = self.progress.journal.steps
        rate = self.plan.recipe.optimiser.learning_rate
        last = steps[-1] if steps else StepRecord(0, 1, math.nan, rate)
        self.progress.step(StepRecord(last.step + 1, last.epoch, math.nan, last.learning_rate))

    def step(self, step: int, epoch: int, rate: float) -> None:
        """A step was taken.

        Args:
            step: From 1.
            epoch: From 1.
            rate: Learning rate that it was taken with.
        """
        self.average.update(self.network)
        names = list(self.losses[0][1])
        rows = torch.stack(
            [torch.stack([loss, *(parts[n] for n in names)]).float() for loss, parts in self.losses]
        ).mean(dim=0)
        self.losses.clear()
        if self.plan.recipe.compute.processes > 1:
            torch.distributed.all_reduce(rows)
            rows /= self.plan.recipe.compute.processes
        loss, *values = rows.tolist()
        self.progress.step(
            StepRecord(step, epoch, loss, rate, dict(zip(names, values, strict=True)))
        )

    def epoch(self, epoch: int, step: int) -> bool:
        """Validate; whether to end: see `AfterStep.epoch`."""
        return self.progress.epoch(
            epoch, step, self.average.network, lambda folder: self.save(folder)
        )

    def save(self, folder: Path) -> None:
        """Write the averaged network as a hub has it."""
        networks.save(self.average.network, self.plan, folder)


def open_session(
    plan: Plan,
    run: Path,
    sets: tuple[LabelledSet, LabelledSet],
    *,
    rank: int,
    device: str,
    **options: Any,
) -> Session:
    """Build what a process trains with.

    Args:
        plan: Of the run.
        run: Its folder.
        sets: Training and validation.
        rank: Of this process.
        device: As PyTorch names it.
        options: For `AfterStep`.

    Raises:
        SeatrialError: The base does not load, or nothing would be trained.
    """
    facts = read_facts(Path(plan.base.path))
    network, fresh = networks.build(plan)
    problem = networks.freeze(network, plan)
    facts = msgspec.structs.replace(facts, labels=plan.labels, preprocessing=canvas(plan))
    manifest = transformers_manifest(facts, name=plan.base.name)
    normalisation = networks.normalisation(plan)
    processes = plan.recipe.compute.processes
    validator = Validator(
        manifest, normalisation, sets[1], device=device, rank=rank, world=processes
    )
    progress = AfterStep(plan, run, validator, rank=rank, **options)
    progress.finding(problem)
    if rank == 0 and plan.new_head and not plan.base.scratch:
        tell(networks.head_in_words(fresh, plan))
    network.to(device)
    average = WeightAverage(network, plan.recipe.ema)
    if processes > 1:
        share_batch_norms(network, plan.recipe.compute.device)
    masked = facts.architecture.masked
    batches = loader(sets[0], plan, normalisation, masked=masked, rank=rank)
    return Session(plan, run, rank, network, average, batches, progress, [])
