"""Training through Lightning: its loop, precision, processes.

What happens in a step is in `seatrial.train.step`; this file hands it to the trainer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from seatrial.datasets.labels import LabelledSet
from seatrial.system.files import staged_file
from seatrial.train.plan import TrainingPlan
from seatrial.train.step import TrainingStep, open_step

STATE = "state.ckpt"
PRECISION = {"f32": "32-true", "bf16": "bf16-mixed", "f16": "16-mixed"}


def train(
    plan: TrainingPlan, run: Path, sets: tuple[LabelledSet, LabelledSet], **options: Any
) -> None:
    """Train to the end; see `seatrial.train.worker.train`. The options are those of `AfterStep`."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # It advises on loaders, loggers and precision.
    warnings.filterwarnings("ignore", module="lightning")
    trainer = lightning_trainer(plan)
    device = f"cuda:{trainer.local_rank}" if plan.recipe.compute.device == "cuda" else "cpu"
    step = open_step(plan, run, sets, rank=trainer.global_rank, device=device, **options)
    checkpoint = run / STATE
    trainer.fit(
        StepModule(step),
        train_dataloaders=step.batches,
        ckpt_path=str(checkpoint) if checkpoint.is_file() else None,
        weights_only=False,
    )
    step.after.close()


def lightning_trainer(plan: TrainingPlan) -> lightning.Trainer:
    """Lightning's trainer, set as the recipe says."""
    recipe = plan.recipe
    several, cpu = recipe.compute.processes > 1, recipe.compute.device == "cpu"
    backend = "gloo" if cpu else "nccl"
    ddp = DDPStrategy(process_group_backend=backend, find_unused_parameters=True)
    return lightning.Trainer(
        max_epochs=recipe.epochs,
        accelerator=recipe.compute.device,
        devices=recipe.compute.processes,
        strategy=ddp if several else "auto",
        precision=PRECISION[recipe.precision],  # type: ignore[arg-type]
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.optimiser.clip_norm or None,
        use_distributed_sampler=False,  # each process has its own share of the order already
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        default_root_dir=os.devnull,
    )


class StepModule(lightning.LightningModule):
    """A detector of transformers, with the parts of `TrainingStep` in Lightning's places."""

    def __init__(self, step: TrainingStep) -> None:
        super().__init__()
        self.network = step.network
        self.step = step

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """See `TrainingStep.optimiser` and `TrainingStep.schedule`."""
        chosen = self.step.optimiser()
        schedule = self.step.schedule(chosen)
        return {"optimizer": chosen, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Continue the journal where the checkpoint was written."""
        self.step.after.begin(self.trainer.global_step)

    def on_train_epoch_start(self) -> None:
        """See `TrainingStep.begin_epoch`."""
        self.step.begin_epoch(self.current_epoch)

    def training_step(self, batch: dict[str, Any], number: int) -> Any:
        """See `TrainingStep.loss`."""
        return self.step.loss(self.network, batch)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """See `TrainingStep.clip`; Lightning's own clips in the optimiser's order."""
        self.step.clip()

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Take the step, and remember its learning rate."""
        self._rate = float(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        super().optimizer_step(*arguments, **named)

    def on_train_batch_end(self, outputs: Any, batch: Any, number: int) -> None:
        """See `TrainingStep.finish`; not every batch ends a step."""
        if (number + 1) % self.step.plan.recipe.accumulate == 0:
            self.step.finish(self.trainer.global_step, self.current_epoch + 1, self._rate)

    def on_train_epoch_end(self) -> None:
        """See `TrainingStep.end_epoch`; then write the checkpoint."""
        step, checkpoint = self.step, self.step.run / STATE
        if step.end_epoch(self.current_epoch + 1, self.trainer.global_step):
            self.trainer.should_stop = True
        first = step.rank == 0  # all processes take part; the first one writes
        with staged_file(checkpoint) if first else contextlib.nullcontext(checkpoint) as file:
            self.trainer.save_checkpoint(file)
        if first:
            step.after.sealed()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the average into a checkpoint."""
        checkpoint["average"] = self.step.average.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the average from a checkpoint."""
        self.step.average.restore(checkpoint["average"])
