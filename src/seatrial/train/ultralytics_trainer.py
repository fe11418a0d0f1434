"""Training through Ultralytics (an optional extra: AGPL-3.0).

Its trainer, losses, augmentation and optimisers are used as they are. Replaced are: the labels
(nothing is written beside the images), the order of the images and the random numbers of their
augmentation, mAP on validation, and checkpoints (its own hold the average in half precision only).
"""

from __future__ import annotations

import copy
import math
import os
import shutil
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ultralytics.data.dataset import YOLODataset
from ultralytics.engine import trainer as engine
from ultralytics.models.yolo.detect.train import DetectionTrainer
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import autocast

from seatrial.datasets.labels import LabelledSet
from seatrial.errors import OutOfMemory
from seatrial.models.import_checkpoint import load_ultralytics, ultralytics_manifest
from seatrial.system.files import staged_file
from seatrial.train import diagnosis
from seatrial.train.after_step import AfterStep
from seatrial.train.journal import StepRecord
from seatrial.train.network import frozen_prefixes, new_head_message
from seatrial.train.plan import TrainingPlan
from seatrial.train.sampler import Sampler, seed_everything
from seatrial.train.ultralytics_inputs import UltralyticsBatches, UltralyticsImages, arguments
from seatrial.train.validation import Normalisation, Validator

STATE = "state.pt"
WEIGHTS = "model.pt"


@dataclass(frozen=True, slots=True)
class RunContext:
    """Plan, folder, sets and options of `AfterStep`, beside Ultralytics' own arguments."""

    plan: TrainingPlan
    run: Path
    sets: tuple[LabelledSet, LabelledSet]
    options: dict[str, Any] = field(default_factory=dict)


def train(
    plan: TrainingPlan, run: Path, sets: tuple[LabelledSet, LabelledSet], **options: Any
) -> None:
    """Train to the end; see `seatrial.train.worker.train`. The options are those of `AfterStep`."""
    LOGGER.setLevel("ERROR")
    # Its check fetches a model; the recipe decides on half precision.
    engine.check_amp = lambda model: True
    engine.autocast = _autocast
    # Its integrations report every run to MLflow, Weights & Biases and others once installed.
    engine.callbacks.add_integration_callbacks = lambda trainer: None
    UltralyticsTrainer(RunContext(plan, run, sets, options)).train()


def _autocast(enabled: bool | torch.dtype, device: str = "cuda") -> Any:
    """Ultralytics' autocast, which knows bfloat16 on GPUs only, and bfloat16 on CPUs."""
    if device == "cpu":
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled is torch.bfloat16)
    return autocast(enabled, device)


class NoValidator:
    """Takes the place of Ultralytics' validator, without figures."""

    metrics = types.SimpleNamespace(keys=[])


class UltralyticsTrainer(DetectionTrainer):
    """Ultralytics' trainer, with our labels, order, validation and checkpoints in their places.

    Attributes:
        context: Plan, folder and sets of the run.
        plan: Plan of the run.
        steps_taken: Optimiser steps taken so far.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.plan = context.plan
        self.steps_taken = 0
        self._parts: list[dict[str, float]] = []
        self._stepped = self._built = False
        threads = torch.get_num_threads()
        super().__init__(overrides=arguments(context.plan, context.run))
        # On a CPU it sets one thread less than there are cores, and no process that loads.
        torch.set_num_threads(threads)
        self.args.workers = self.plan.recipe.compute.workers
        self.add_callback("on_train_epoch_start", _begin_epoch)
        self.add_callback("on_train_batch_end", _end_batch)

    def get_dataset(self) -> dict[str, Any]:
        """Names of the classes; the context holds the sets."""
        names = dict(enumerate(self.plan.labels))
        return {"train": "train", "val": "val", "nc": len(names), "names": names, "channels": 3}

    def setup_model(self) -> None:
        """Build the network: weights of the base where they fit, random ones elsewhere."""
        seed_everything(self.plan.recipe, -1, 0, torch)
        weights = None
        if not self.plan.base.scratch:
            weights = load_ultralytics(Path(self.plan.base.path)).model
        config = f"{self.plan.base.path}.yaml" if weights is None else weights.yaml
        self.model = self.get_model(cfg=config, weights=weights, verbose=False)
        self.set_model_attributes()
        self._open(weights)

    def _open(self, weights: Any) -> None:
        """Build `AfterStep` and freeze the recipe's parts."""
        manifest = ultralytics_manifest(
            self.model, name=self.plan.base.name, size_px=self.args.imgsz
        )
        context = self.context
        validator = Validator(
            manifest,
            Normalisation(),
            context.sets[1],
            device=str(self.device),
            rank=max(0, engine.RANK),
            world=max(1, self.world_size),
        )
        rank = max(0, engine.RANK)
        self.after = AfterStep(self.plan, context.run, validator, rank=rank, **context.options)
        names = [name for name, _ in self.model.named_parameters()]
        backbone = tuple(f"model.{i}." for i in range(len(self.model.yaml["backbone"])))
        frozen = frozen_prefixes(names, self.plan.recipe.freeze, {"backbone": backbone})
        # Ultralytics adds "model." before and "." behind.
        self.args.freeze = [name.removeprefix("model.").removesuffix(".") for name in frozen]
        self.backbone_names = backbone
        head = f"model.{len(self.model.model) - 1}."
        classes = tuple(f"{head}{branch}." for branch in ("cv3", "one2one_cv3"))
        rows = [
            # Ultralytics always keeps the fixed weights of its distribution layer.
            (name, weight.numel(), not name.startswith(frozen) and ".dfl" not in name)
            for name, weight in self.model.named_parameters()
        ]
        last = [c for c in classes if any(name.startswith(c) for name in names)]
        self.after.symptom(diagnosis.of_parameters(rows, last, new_head=self.plan.new_head))
        if self.plan.new_head and weights is not None:
            before = weights.state_dict()
            fresh = [
                name
                for name, weight in self.model.state_dict().items()
                if name not in before or before[name].shape != weight.shape
            ]
            self.after.tell(new_head_message(self.plan, fresh))

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """One of the two sets."""
        labelled = self.context.sets[0 if mode == "train" else 1]
        # Validation images are only counted here.
        none = (0,) * len(labelled.categories)
        return UltralyticsImages(
            labelled,
            self.plan.classes if mode == "train" else none,
            self.plan.recipe,
            data=self.data,
            imgsz=self.args.imgsz,
            batch_size=batch,
            augment=mode == "train",
            hyp=self.args,
            stride=32,
            pad=0.0,
        )

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> Any:
        """Batches in the sampler's order."""
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        order = Sampler(len(dataset), self.plan.recipe, rank=max(0, rank))
        return UltralyticsBatches(
            dataset,
            batch_size=batch_size,
            sampler=order if mode == "train" else None,
            num_workers=self.args.workers if mode == "train" else 0,
            collate_fn=YOLODataset.collate_fn,
            drop_last=mode == "train",
            pin_memory=self.device.type == "cuda",
        )

    def get_validator(self) -> Any:
        """A validator that does nothing: `validate` measures."""
        return NoValidator()

    def build_optimizer(self, model: Any, **settings: Any) -> Any:
        """Ultralytics' optimiser, with separate groups for the backbone's learning rate."""
        optimiser = super().build_optimizer(model, **settings)
        rates = self.plan.recipe.optimiser
        ratio = rates.backbone_learning_rate / rates.learning_rate
        if ratio == 1.0:
            return optimiser
        own = {
            id(weight)
            for name, weight in model.named_parameters()
            if name.removeprefix("module.").startswith(self.backbone_names)
        }
        for group in list(optimiser.param_groups):
            inside = [weight for weight in group["params"] if id(weight) in own]
            if inside:
                group["params"] = [w for w in group["params"] if id(w) not in own]
                settings = {key: value for key, value in group.items() if key != "params"}
                optimiser.param_groups.append(
                    {**settings, "params": inside, "lr": group["lr"] * ratio}
                )
        return optimiser

    def _build_train_pipeline(self) -> None:
        # The trainer calls this again only to halve a batch that did not fit.
        if self._built:
            raise OutOfMemory(f"a batch of {self.plan.recipe.batch} does not fit into memory")
        self._built = True
        super()._build_train_pipeline()

    def optimizer_step(self) -> None:
        """Take a step and record it."""
        rate = float(self.optimizer.param_groups[0]["lr"])
        self._parts.append(self._losses())
        parts = {k: math.fsum(p[k] for p in self._parts) / len(self._parts) for k in self._parts[0]}
        self._parts.clear()
        self._stepped = True
        super().optimizer_step()
        self.steps_taken += 1
        loss = math.fsum(parts.values())
        self.after.step(StepRecord(self.steps_taken, self.epoch + 1, loss, rate, parts))

    def end_batch(self) -> None:
        """Keep the losses of a part of a step until the step is taken."""
        if not self._stepped:
            self._parts.append(self._losses())
        self._stepped = False

    def _losses(self) -> dict[str, float]:
        found = {name: value.detach().float() for name, value in self.loss_items.items()}
        if self.world_size > 1:
            for value in found.values():
                torch.distributed.all_reduce(value, torch.distributed.ReduceOp.AVG)
        return {name: float(value) for name, value in found.items()}

    def validate(self) -> tuple[dict[str, float], float]:
        """Validate the average, see `AfterStep.epoch`."""
        self.stop |= self.after.epoch(
            self.epoch + 1, self.steps_taken, self.ema.ema, self._write_weights
        )
        row = self.after.journal.epochs[-1]
        return {"val/ap": row.ap, "val/ap50": row.ap50}, row.ap

    def _handle_nan_recovery(self, epoch: int) -> bool:
        return False  # a loss that is not a number has ended the run

    def _write_weights(self, folder: Path) -> None:
        network = copy.deepcopy(self.ema.ema)
        network.criterion = None
        network.requires_grad_(True)
        network.args = vars(self.args)
        torch.save(
            {
                "model": network,
                "train_args": vars(self.args),
                "license": "AGPL-3.0 (https://ultralytics.com/license)",
            },
            folder / WEIGHTS,
        )

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Do nothing: the journal has them."""

    def save_model(self) -> bool:
        """Write a checkpoint, atomically."""
        criterion = engine.unwrap_model(self.model).criterion
        state = {
            "epoch": self.epoch,
            "steps": self.steps_taken,
            "model": engine.unwrap_model(self.model).state_dict(),
            "ema": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "criterion": getattr(criterion, "updates", None),
        }
        with staged_file(self.context.run / STATE) as part, part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        self.after.sealed()
        return True

    def resume_training(self, ckpt: Any) -> None:
        """Load the checkpoint, if there is one; called just before the first epoch."""
        ema = self.plan.recipe.ema
        self.ema.decay = lambda x: ema.decay * (1 - math.exp(-x / max(1, ema.warmup_steps)))
        file = self.context.run / STATE
        if file.is_file():
            state = torch.load(file, map_location=self.device, weights_only=True)
            network = engine.unwrap_model(self.model)
            network.load_state_dict(state["model"])
            self.ema.ema.load_state_dict(state["ema"])
            self.ema.updates = state["updates"]
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            if state["criterion"] is not None:
                network.criterion = network.init_criterion()
                network.criterion.updates = state["criterion"] - 1
                network.criterion.update()
            self.start_epoch = state["epoch"] + 1
            self.steps_taken = state["steps"]
        self.after.begin(self.steps_taken)

    def final_eval(self) -> None:
        """Close; the best weights were validated when they were kept."""
        self.after.close()
        shutil.rmtree(self.save_dir, ignore_errors=True)


def _begin_epoch(trainer: UltralyticsTrainer) -> None:
    seed_everything(trainer.plan.recipe, trainer.epoch, max(0, engine.RANK), torch)
    trainer.train_loader.sampler.set_epoch(trainer.epoch)
    trainer.after.steps_per_epoch = trainer.train_loader.sampler.steps


def _end_batch(trainer: UltralyticsTrainer) -> None:
    trainer.end_batch()
