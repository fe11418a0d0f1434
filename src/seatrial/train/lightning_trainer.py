"""Training through Lightning: its loop, precision, processes; the module is thin.

Optimiser groups, schedule, average of the weights and mAP are those of the other trainer; so are
the batches and their order.
"""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from seatrial.datasets.labels import LabelledSet
from seatrial.train.network import rest_frozen
from seatrial.train.optimise import factor, optimiser
from seatrial.train.plan import Plan
from seatrial.train.sampler import seed_everything
from seatrial.train.session import Session, open_session

STATE = "state.ckpt"
PRECISION = {"f32": "32-true", "bf16": "bf16-mixed", "f16": "16-mixed"}


def train(
    plan: Plan,
    run: Path,
    sets: tuple[LabelledSet, LabelledSet],
    **options: Any,
) -> None:
    """Train to the end, or on from the last checkpoint.

    Args:
        plan: Of the run.
        run: Its folder.
        sets: Training and validation.
        options: For `Progress`.

    Raises:
        TrainingFailed: See `Progress`.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # It advises on loaders, loggers and precision.
    warnings.filterwarnings("ignore", module="lightning")
    trainer = _trainer(plan)
    device = plan.recipe.compute.device
    place = f"cuda:{trainer.local_rank}" if device == "cuda" else "cpu"
    session = open_session(plan, run, sets, rank=trainer.global_rank, device=place, **options)
    module = Module(session)
    file = run / STATE
    trainer.fit(
        module,
        train_dataloaders=session.loader,
        ckpt_path=str(file) if file.is_file() else None,
        weights_only=False,
    )
    session.progress.close()


def _trainer(plan: Plan) -> lightning.Trainer:
    """The recipe in Lightning's words."""
    recipe = plan.recipe
    several, cpu = recipe.compute.processes > 1, recipe.compute.device == "cpu"
    backend = "gloo" if cpu else "nccl"
    shared = DDPStrategy(process_group_backend=backend, find_unused_parameters=True)
    return lightning.Trainer(
        max_epochs=recipe.epochs,
        accelerator=recipe.compute.device,
        devices=recipe.compute.processes,
        strategy=shared if several else "auto",
        precision=PRECISION[recipe.precision],  # type: ignore[arg-type]
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.optimiser.clip_norm or None,
        use_distributed_sampler=False,  # the order is shared out already
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        default_root_dir=os.devnull,
    )


class Module(lightning.LightningModule):
    """A detector of transformers."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.network = session.network
        self.session = session

    def forward(self, **given: Any) -> Any:
        """As the network."""
        return self.network(**given)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Our groups and schedule."""
        recipe = self.session.plan.recipe
        per_epoch = self.session.loader.order.steps
        chosen = optimiser(self.network, self.session.plan)
        of = factor(recipe.schedule, steps=per_epoch * recipe.epochs, per_epoch=per_epoch)
        scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, of)
        return {"optimizer": chosen, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """The notes go on where the checkpoint was written."""
        self.session.progress.begin(self.trainer.global_step)

    def on_train_epoch_start(self) -> None:
        """What the network draws; Lightning told the sampler of the epoch."""
        self.train()  # networks come from their files in evaluation mode
        rest_frozen(self.network)
        session = self.session
        seed_everything(session.plan.recipe, self.current_epoch, session.rank, torch)

    def training_step(self, batch: dict[str, Any], number: int) -> Any:
        """Loss of a part of a step."""
        return self.session.loss(self.network, batch)

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """The learning rate that the step is taken with."""
        self._rate = float(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        super().optimizer_step(*arguments, **named)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip all together, in the network's order: sums round as in the other trainer."""
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def on_train_batch_end(self, outputs: Any, batch: Any, number: int) -> None:
        """Note the step, if it was taken."""
        if (number + 1) % self.session.plan.recipe.accumulate == 0:
            self.session.step(self.trainer.global_step, self.current_epoch + 1, self._rate)

    def on_train_epoch_end(self) -> None:
        """Our mAP of the averaged weights, and whether to end."""
        session = self.session
        if session.epoch(self.current_epoch + 1, self.trainer.global_step):
            self.trainer.should_stop = True
        part = session.run / f".{STATE}"
        self.trainer.save_checkpoint(part)
        if session.rank == 0:
            os.replace(part, session.run / STATE)
            session.progress.sealed()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The average goes with it."""
        checkpoint["average"] = self.session.average.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The average comes from it."""
        self.session.average.restore(checkpoint["average"])
