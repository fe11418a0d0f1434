"""Training through the `Trainer` of transformers: its loop, precision, processes, checkpoints.

What happens in a step is in `seatrial.train.step`; this file hands it to the trainer.
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
from seatrial.train.plan import TrainingPlan
from seatrial.train.step import TrainingStep, open_step

STATES = "states"
SEAL = "sealed"  # a checkpoint without it was being written when the run was killed
NETWORK, AVERAGE = "network.pt", "average.pt"


def train(
    plan: TrainingPlan, run: Path, sets: tuple[LabelledSet, LabelledSet], **options: Any
) -> None:
    """Train to the end; see `seatrial.train.worker.train`. The options are those of `AfterStep`."""
    transformers.utils.logging.disable_progress_bar()
    arguments = training_arguments(plan, run)  # also starts the group of processes
    step = open_step(
        plan, run, sets, rank=arguments.process_index, device=str(arguments.device), **options
    )
    checkpoint = last_checkpoint(run)
    trainer = StepTrainer(step, arguments)
    if checkpoint is not None:
        state = torch.load(checkpoint / AVERAGE, map_location=arguments.device, weights_only=True)
        step.average.restore(state)
    step.after.begin(_number(checkpoint) if checkpoint is not None else 0)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
    step.after.close()


def training_arguments(plan: TrainingPlan, run: Path) -> TrainingArguments:
    """The recipe as arguments of transformers' trainer."""
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
        save_total_limit=None,  # `StepCallback` keeps the last one, once it is sealed
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_num_workers=recipe.compute.workers,
    )


def last_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint that is complete; None where there is none."""
    found = sorted((run / STATES).glob("checkpoint-*"), key=_number)
    complete = [folder for folder in found if (folder / SEAL).is_file()]
    return complete[-1] if complete else None


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


class StepTrainer(transformers.Trainer):
    """transformers' trainer, with the parts of `TrainingStep` in their places."""

    optimizer: Any
    lr_scheduler: Any

    def __init__(self, step: TrainingStep, arguments: TrainingArguments) -> None:
        self.step = step
        super().__init__(
            model=step.network,
            args=arguments,
            eval_dataset=step.batches.dataset,  # it asks for one; `evaluate` has its own
            callbacks=[StepCallback(step, self)],
        )
        self.remove_callback(transformers.PrinterCallback)
        # Every loss is the mean of its part; `weighed_loss` weighs the parts.
        self.loss_is_scaled_for_ga = False
        self.model_accepts_loss_kwargs = False

    def get_train_dataloader(self) -> Any:
        """Batches in the sampler's order."""
        return self.step.batches

    def create_optimizer(self, model: Any = None) -> Any:
        """See `TrainingStep.optimiser`."""
        if self.optimizer is None:
            self.optimizer = self.step.optimiser()
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """See `TrainingStep.schedule`."""
        if self.lr_scheduler is None:
            self.lr_scheduler = self.step.schedule(optimizer or self.optimizer)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """See `TrainingStep.loss`."""
        return self.step.loss(model, inputs)

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """See `TrainingStep.end_epoch`."""
        if self.step.end_epoch(round(self.state.epoch or 0), self.state.global_step):
            self.control.should_training_stop = True
        return {"eval_ap": self.step.after.journal.epochs[-1].ap}

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the weights under the names that they have in the network.

        `save_pretrained` writes the names of the hub's files. When it resumes, the trainer would
        not find those names and say nothing (transformers 5.23).
        """
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.step.network.state_dict(), folder / NETWORK)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        file = Path(resume_from_checkpoint) / NETWORK
        state = torch.load(file, map_location="cpu", weights_only=True)
        self.step.network.load_state_dict(state)


class StepCallback(TrainerCallback):
    """Begins epochs, finishes steps, seals checkpoints."""

    def __init__(self, step: TrainingStep, trainer: StepTrainer) -> None:
        self._step = step
        self._trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """See `TrainingStep.begin_epoch`."""
        self._step.begin_epoch(round(state.epoch or 0))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Remember the learning rate of the step."""
        self._rate = float(self._trainer.optimizer.param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """See `TrainingStep.finish`."""
        epoch = -(-state.global_step // self._step.steps_per_epoch)
        self._step.finish(state.global_step, epoch, self._rate)

    def on_save(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Add the average to a checkpoint, seal it and remove the older ones."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # the other processes' random states are in it too
        if self._step.rank:
            return
        torch.save(self._step.average.state(), folder / AVERAGE)
        for file in folder.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        (folder / SEAL).touch()
        for other in Path(args.output_dir).glob("checkpoint-*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        self._step.after.sealed()
