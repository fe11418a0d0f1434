"""Training through the `Trainer` of transformers: its loop, precision, processes, checkpoints.

Ours are the batches, the optimiser's groups and schedule, the average of the weights, and mAP.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import TrainerCallback, TrainingArguments

from seatrial.datasets.labels import LabelledSet
from seatrial.train.network import rest_frozen
from seatrial.train.optimise import factor, optimiser
from seatrial.train.plan import Plan
from seatrial.train.sampler import seed_everything
from seatrial.train.session import Session, open_session

STATES = "states"
SEAL = "sealed"  # a checkpoint without it was being written when the run was killed
NETWORK, AVERAGE = "network.pt", "average.pt"


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
    transformers.utils.logging.disable_progress_bar()
    arguments = settings(plan, run)  # also starts the group of processes
    session = open_session(
        plan, run, sets, rank=arguments.process_index, device=str(arguments.device), **options
    )
    checkpoint = last_checkpoint(run)
    trainer = Trainer(session, arguments)
    if checkpoint is not None:
        state = torch.load(checkpoint / AVERAGE, map_location=arguments.device, weights_only=True)
        session.average.restore(state)
    session.progress.begin(_step(checkpoint) if checkpoint is not None else 0)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
    session.progress.close()


def settings(plan: Plan, run: Path) -> TrainingArguments:
    """The recipe in transformers' words."""
    recipe = plan.recipe
    several = recipe.compute.processes > 1
    return TrainingArguments(
        output_dir=str(run / STATES),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.accumulate,
        max_grad_norm=recipe.optimiser.clip_norm,
        seed=recipe.seed,
        bf16=recipe.precision == "bf16",
        fp16=recipe.precision == "f16",
        use_cpu=recipe.compute.device == "cpu",
        ddp_backend=("gloo" if recipe.compute.device == "cpu" else "nccl") if several else None,
        ddp_find_unused_parameters=True if several else None,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=None,  # `Callback` keeps the last one, once it is sealed
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_num_workers=recipe.compute.workers,
    )


def last_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint that was written to its end; those that were not are removed."""
    found = sorted((run / STATES).glob("checkpoint-*"), key=_step)
    whole = [folder for folder in found if (folder / SEAL).is_file()]
    return whole[-1] if whole else None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


class Trainer(transformers.Trainer):
    """transformers' trainer, with what is ours in its places."""

    optimizer: Any
    lr_scheduler: Any

    def __init__(self, session: Session, arguments: TrainingArguments) -> None:
        self.session = session
        super().__init__(
            model=session.network,
            args=arguments,
            eval_dataset=session.loader.dataset,  # it asks for one; `evaluate` has its own
            callbacks=[Callback(session, self)],
        )
        self.remove_callback(transformers.PrinterCallback)
        # Every loss is the mean of its part; `step_loss` weighs the parts.
        self.loss_is_scaled_for_ga = False
        self.model_accepts_loss_kwargs = False

    def get_train_dataloader(self) -> Any:
        """Batches in our order."""
        return self.session.loader

    def create_optimizer(self, model: Any = None) -> Any:
        """Our groups."""
        if self.optimizer is None:
            self.optimizer = optimiser(self.session.network, self.session.plan)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Our schedule."""
        if self.lr_scheduler is None:
            recipe = self.session.plan.recipe
            of = factor(
                recipe.schedule,
                steps=num_training_steps,
                per_epoch=num_training_steps // recipe.epochs,
            )
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, of)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Our weighing of parts and processes."""
        rest_frozen(model)
        return self.session.loss(model, inputs)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The weights under the names that they have here.

        `save_pretrained` writes the names of the hub's files, and the trainer would look for those
        in vain, without a word, when it goes on (transformers 5.23).
        """
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.session.network.state_dict(), folder / NETWORK)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        file = Path(resume_from_checkpoint) / NETWORK
        state = torch.load(file, map_location="cpu", weights_only=True)
        self.session.network.load_state_dict(state)

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """Our mAP of the averaged weights, and whether to end."""
        epoch = round(self.state.epoch or 0)
        if self.session.epoch(epoch, self.state.global_step):
            self.control.should_training_stop = True
        return {"eval_ap": self.session.progress.journal.epochs[-1].ap}


class Callback(TrainerCallback):
    """Seeds epochs, notes steps, seals checkpoints."""

    def __init__(self, session: Session, trainer: Trainer) -> None:
        self._session = session
        self._trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """The order of the pictures, and what the network draws."""
        epoch = round(state.epoch or 0)
        self._session.loader.order.set_epoch(epoch)
        seed_everything(self._session.plan.recipe, epoch, self._session.rank, torch)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """The learning rate that the step is taken with."""
        self._rate = float(self._trainer.optimizer.param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Note it."""
        epoch = -(-state.global_step // self._session.loader.order.steps)
        self._session.step(state.global_step, epoch, self._rate)

    def on_save(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Everything is written but the average: add it, seal, and drop what came before."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # the others' random states are in it too
        if self._session.rank:
            return
        torch.save(self._session.average.state(), folder / AVERAGE)
        for file in folder.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        (folder / SEAL).touch()
        for other in Path(args.output_dir).glob("checkpoint-*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        self._session.progress.sealed()
