"""Training through Ultralytics (an optional extra: AGPL-3.0).

Its trainer, losses, augmentation and optimisers are used as they are. Ours are: the labels, so
that nothing is written beside the pictures; the order of the pictures and the draws of their
augmentation; mAP on validation; and checkpoints, since its own halve the weights and go on from
their average.
"""

from __future__ import annotations

import copy
import math
import os
import random
import shutil
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from ultralytics.data.augment import Mosaic
from ultralytics.data.dataset import YOLODataset
from ultralytics.engine import trainer as engine
from ultralytics.models.yolo.detect.train import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import autocast

from seatrial.datasets.labels import LabelledSet
from seatrial.errors import OutOfMemory
from seatrial.models.import_checkpoint import load_ultralytics, ultralytics_manifest
from seatrial.train import diagnosis
from seatrial.train.after_step import AfterStep, tell
from seatrial.train.freeze import prefixes
from seatrial.train.journal import StepRecord
from seatrial.train.plan import Plan
from seatrial.train.recipe import Recipe
from seatrial.train.sampler import Draw, Sampler, picture_generator, seed_everything
from seatrial.train.training_labels import TrainingLabels, targets
from seatrial.train.validation import Normalisation, Validator

STATE = "state.pt"
WEIGHTS = "model.pt"
NAMES = {"adamw": "AdamW", "sgd": "SGD", "musgd": "MuSGD", "auto": "auto"}


class Context:
    """What the trainer is given beside its own arguments; Ultralytics makes it by itself.

    Args:
        plan: Of the run.
        run: Its folder.
        sets: Training and validation.
        options: For `AfterStep`.
    """

    def __init__(
        self, plan: Plan, run: Path, sets: tuple[LabelledSet, LabelledSet], **options: Any
    ) -> None:
        self.plan = plan
        self.run = run
        self.sets = sets
        self.options = options


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
        options: For `AfterStep`.

    Raises:
        TrainingFailed: See `AfterStep`.
        OutOfMemory: On a GPU.
    """
    LOGGER.setLevel("ERROR")
    # It would look up a model on the network; the recipe has asked for half precision.
    engine.check_amp = lambda model: True
    engine.autocast = _autocast
    # MLflow, Weights & Biases and others would be told of every run as soon as they are installed.
    engine.callbacks.add_integration_callbacks = lambda trainer: None
    trainer = Trainer(Context(plan, run, sets, **options))
    trainer.train()


def _autocast(enabled: bool | torch.dtype, device: str = "cuda") -> Any:
    """Its own, which knows bfloat16 on GPUs only."""
    if device == "cpu":
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled is torch.bfloat16)
    return autocast(enabled, device)


def arguments(plan: Plan, run: Path) -> dict[str, Any]:
    """The recipe in Ultralytics' words."""
    recipe = plan.recipe
    optimiser, schedule, varied = recipe.optimiser, recipe.schedule, recipe.augmentation
    steps = Sampler(1, recipe).steps
    return {
        "task": "detect",
        "mode": "train",
        "model": "unused.yaml",
        "data": "unused.yaml",
        "project": str(run),
        "name": "ultralytics",
        "exist_ok": True,
        "epochs": recipe.epochs,
        "batch": recipe.batch // recipe.accumulate,
        "nbs": recipe.batch,
        "imgsz": recipe.image_size,
        "device": _device(plan),
        "workers": recipe.compute.workers,
        "seed": recipe.seed,
        "deterministic": True,
        "optimizer": NAMES[optimiser.kind],
        "lr0": optimiser.learning_rate,
        "lrf": schedule.final,
        "cos_lr": schedule.kind == "cosine",
        "momentum": optimiser.momentum,
        "weight_decay": optimiser.weight_decay,
        "warmup_epochs": max(schedule.warmup_epochs, schedule.warmup_steps / steps),
        # A bias that starts at 0.1 is meant for SGD.
        "warmup_bias_lr": 0.1 if optimiser.kind in ("sgd", "musgd") else 0.0,
        "patience": 0,
        "amp": {"f32": False, "bf16": "bf16", "f16": True}[recipe.precision],
        "hsv_h": varied.hue,
        "hsv_s": varied.saturation,
        "hsv_v": varied.brightness,
        "fliplr": varied.flip,
        "flipud": varied.vertical_flip,
        "translate": varied.translate,
        "scale": varied.scale,
        "mosaic": varied.mosaic,
        "close_mosaic": min(varied.plain_epochs, recipe.epochs),
        "multi_scale": varied.multi_scale[1] - 1.0,
        "plots": False,
        "verbose": False,
        "cache": False,
    }


def _device(plan: Plan) -> str:
    compute = plan.recipe.compute
    if compute.device == "cpu":
        return "cpu"
    return ",".join(str(index) for index in range(compute.processes))


class UltralyticsImages(YOLODataset):
    """A labelled set as Ultralytics takes it."""

    def __init__(
        self, labelled: LabelledSet, classes: Sequence[int], recipe: Recipe, **settings: Any
    ) -> None:
        self._recipe = recipe
        self._targets: TrainingLabels = targets(labelled, classes)
        super().__init__(img_path="", task="detect", **settings)

    def get_img_files(self, img_path: Any) -> list[str]:
        """Paths of the pictures, in the set's order."""
        return [str(path) for path in self._targets.paths]

    def get_labels(self) -> list[dict[str, Any]]:
        """Labels as it reads them from files."""
        rows: list[dict[str, Any]] = []
        for number, path in enumerate(self._targets.paths):
            classes, boxes = self._targets.of(number)
            width, height = self._targets.sizes[number]
            rows.append(
                {
                    "im_file": str(path),
                    "shape": (height, width),
                    "cls": classes[:, None].astype(np.float32),
                    "bboxes": boxes.astype(np.float32),
                    "segments": [],
                    "keypoints": None,
                    "normalized": True,
                    "bbox_format": "xywh",
                }
            )
        return rows

    def build_transforms(self, hyp: Any) -> Any:
        """Its augmentation; the mosaic draws from the whole set, not from what was read last."""
        transforms = super().build_transforms(hyp)
        waiting = [transforms]
        while waiting:
            one = waiting.pop()
            if isinstance(one, Mosaic):
                one.buffer_enabled = False
            waiting += getattr(one, "transforms", None) or []
        return transforms

    def __getitem__(self, draw: Any) -> Any:
        """One picture, augmented by draws of its own: see `seatrial.train.sampler`."""
        if not isinstance(draw, Draw):
            return super().__getitem__(draw)
        seed = int(picture_generator(self._recipe, draw).integers(2**31))
        random.seed(seed)
        np.random.seed(seed)
        return super().__getitem__(draw.picture)


class Loader(DataLoader[Any]):
    """A loader that the trainer may ask for an iterator and drop it."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()

    def reset(self) -> None:
        """Nothing is read ahead over the end of an epoch."""


class NoValidator:
    """Stands where Ultralytics' own validator would: it has no figures."""

    metrics = types.SimpleNamespace(keys=[])


class Trainer(DetectionTrainer):
    """Ultralytics' trainer, with what is ours in its places."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.plan = context.plan
        self.steps_taken = 0
        self._parts: list[dict[str, float]] = []
        self._stepped = self._built = False
        threads = torch.get_num_threads()
        super().__init__(overrides=arguments(context.plan, context.run))
        # On a CPU it takes one thread less than there are cores, and no process that loads.
        torch.set_num_threads(threads)
        self.args.workers = self.plan.recipe.compute.workers
        self.add_callback("on_train_epoch_start", _begin_epoch)
        self.add_callback("on_train_batch_end", _end_batch)

    def get_dataset(self) -> dict[str, Any]:
        """Names of the classes; the sets are in the context."""
        names = dict(enumerate(self.plan.labels))
        return {"train": "train", "val": "val", "nc": len(names), "names": names, "channels": 3}

    def setup_model(self) -> None:
        """Make the network: of the base's weights as many as fit, or of random ones."""
        seed_everything(self.plan.recipe, -1, 0, torch)
        weights = None
        if not self.plan.base.scratch:
            weights = load_ultralytics(Path(self.plan.base.path)).model
        config = f"{self.plan.base.path}.yaml" if weights is None else weights.yaml
        self.model = self.get_model(cfg=config, weights=weights, verbose=False)
        self.set_model_attributes()
        self._begin(weights)

    def _begin(self, weights: Any) -> None:
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
        self.progress = AfterStep(self.plan, context.run, validator, rank=rank, **context.options)
        names = [name for name, _ in self.model.named_parameters()]
        backbone = tuple(f"model.{i}." for i in range(len(self.model.yaml["backbone"])))
        frozen = prefixes(names, self.plan.recipe.freeze, {"backbone": backbone})
        # It puts "model." before and "." behind.
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
        self.progress.finding(diagnosis.of_parameters(rows, last, new_head=self.plan.new_head))
        if self.plan.new_head and weights is not None:
            tell(_head_in_words(self.model, weights, self.plan))

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """One of the two sets."""
        labelled = self.context.sets[0 if mode == "train" else 1]
        # Validation pictures are only counted here.
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
        """Pictures in our order."""
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        order = Sampler(len(dataset), self.plan.recipe, rank=max(0, rank))
        return Loader(
            dataset,
            batch_size=batch_size,
            sampler=order if mode == "train" else None,
            num_workers=self.args.workers if mode == "train" else 0,
            collate_fn=YOLODataset.collate_fn,
            drop_last=mode == "train",
            pin_memory=self.device.type == "cuda",
        )

    def get_validator(self) -> Any:
        """None of its own."""
        return NoValidator()

    def build_optimizer(self, model: Any, **settings: Any) -> Any:
        """Its optimiser, the backbone in groups with a learning rate of their own."""
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
        # The trainer comes here again only to halve a batch that did not fit.
        if self._built:
            raise OutOfMemory(f"a batch of {self.plan.recipe.batch} does not fit into memory")
        self._built = True
        super()._build_train_pipeline()

    def optimizer_step(self) -> None:
        """Take a step, and note it."""
        rate = float(self.optimizer.param_groups[0]["lr"])
        self._parts.append(self._losses())
        parts = {k: math.fsum(p[k] for p in self._parts) / len(self._parts) for k in self._parts[0]}
        self._parts.clear()
        self._stepped = True
        super().optimizer_step()
        self.steps_taken += 1
        loss = math.fsum(parts.values())
        self.progress.step(StepRecord(self.steps_taken, self.epoch + 1, loss, rate, parts))

    def note_part(self) -> None:
        """Keep the loss of a part of a batch until the step is taken."""
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
        """Our mAP of the averaged weights, and whether to end."""
        self.stop |= self.progress.epoch(
            self.epoch + 1, self.steps_taken, self.ema.ema, self._write_weights
        )
        row = self.progress.journal.epochs[-1]
        return {"val/ap": row.ap, "val/ap50": row.ap50}, row.ap

    def _handle_nan_recovery(self, epoch: int) -> bool:
        return False  # a loss that is no number has ended the run

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
        """The journal has them."""

    def save_model(self) -> bool:
        """Write all that going on needs, whole or not at all."""
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
        part = self.context.run / f".{STATE}"
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.context.run / STATE)
        self.progress.sealed()
        return True

    def resume_training(self, ckpt: Any) -> None:
        """Go on from our checkpoint, if there is one; the last thing before the first epoch."""
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
        self.progress.begin(self.steps_taken)

    def final_eval(self) -> None:
        """The best was validated when it was kept."""
        self.progress.close()
        shutil.rmtree(self.save_dir, ignore_errors=True)


def _begin_epoch(trainer: Trainer) -> None:
    seed_everything(trainer.plan.recipe, trainer.epoch, max(0, engine.RANK), torch)
    trainer.train_loader.sampler.set_epoch(trainer.epoch)


def _end_batch(trainer: Trainer) -> None:
    trainer.note_part()


def _head_in_words(network: DetectionModel, weights: Any, plan: Plan) -> str:
    before = weights.state_dict()
    fresh = [
        name
        for name, weight in network.state_dict().items()
        if name not in before or before[name].shape != weight.shape
    ]
    return (
        f"new head: {plan.base.name} detects {len(plan.base.labels)} classes, the training set "
        f"has {len(plan.labels)} others; {len(fresh)} tensors begin anew ({fresh[0]} first)"
        if fresh
        else f"new head: the classes of {plan.base.name} are replaced by {len(plan.labels)} others"
    )
