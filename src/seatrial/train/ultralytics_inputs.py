"""Inputs of Ultralytics' trainer: the recipe as its arguments, and the labelled sets."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from ultralytics.data import base
from ultralytics.data.augment import Mosaic
from ultralytics.data.dataset import YOLODataset

from seatrial.datasets.labels import LabelledSet
from seatrial.detect.decode import read_image
from seatrial.detect.detector import MAX_PIXELS
from seatrial.train.plan import TrainingPlan
from seatrial.train.recipe import Recipe
from seatrial.train.sampler import Draw, Sampler, image_generator
from seatrial.train.training_labels import TrainingLabels, training_labels


def _read_bgr(file: str, **options: Any) -> Any:
    """(H, W, 3) uint8 BGR of an image, decoded and turned as everywhere else."""
    rgb = read_image(Path(file), max_pixels=MAX_PIXELS, hint="seatrial data check")
    return np.ascontiguousarray(rgb[:, :, ::-1])


# OpenCV knows fewer formats, and turns an image by its EXIF only.
base.imread = _read_bgr

OPTIMISERS = {"adamw": "AdamW", "sgd": "SGD", "musgd": "MuSGD", "auto": "auto"}


def arguments(plan: TrainingPlan, run: Path) -> dict[str, Any]:
    """The recipe as arguments of Ultralytics' trainer."""
    recipe = plan.recipe
    optimiser, schedule, varied = recipe.optimiser, recipe.schedule, recipe.augmentation
    gpus = ",".join(str(index) for index in range(recipe.compute.processes))
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
        "device": "cpu" if recipe.compute.device == "cpu" else gpus,
        "workers": recipe.compute.workers,
        "seed": recipe.seed,
        "deterministic": True,
        "optimizer": OPTIMISERS[optimiser.kind],
        "lr0": optimiser.learning_rate,
        "lrf": schedule.final,
        "cos_lr": schedule.kind == "cosine",
        "momentum": optimiser.momentum,
        "weight_decay": optimiser.weight_decay,
        "warmup_epochs": max(
            schedule.warmup_epochs, schedule.warmup_steps / Sampler(1, recipe).steps
        ),
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


class UltralyticsImages(YOLODataset):
    """A labelled set as Ultralytics takes it; nothing is written beside the images.

    Args:
        labelled: The set.
        classes: Class of each of its categories.
        recipe: Holds the seed.
        settings: Arguments of `YOLODataset`.
    """

    def __init__(
        self, labelled: LabelledSet, classes: Sequence[int], recipe: Recipe, **settings: Any
    ) -> None:
        self._recipe = recipe
        self._labels: TrainingLabels = training_labels(labelled, classes)
        super().__init__(img_path="", task="detect", **settings)

    def get_img_files(self, img_path: Any) -> list[str]:
        """Paths of the images, in the set's order."""
        return [str(path) for path in self._labels.paths]

    def get_labels(self) -> list[dict[str, Any]]:
        """Labels in the form that Ultralytics reads from files."""
        rows: list[dict[str, Any]] = []
        for number, path in enumerate(self._labels.paths):
            classes, boxes = self._labels.of(number)
            width, height = self._labels.sizes[number]
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
        """Ultralytics' augmentation, with mosaics of the whole set, not of the last images."""
        transforms = super().build_transforms(hyp)
        waiting = [transforms]
        while waiting:
            one = waiting.pop()
            if isinstance(one, Mosaic):
                one.buffer_enabled = False
            waiting += getattr(one, "transforms", None) or []
        return transforms

    def __getitem__(self, draw: Any) -> Any:
        """One image, augmented with random numbers of its own: see `seatrial.train.sampler`."""
        if not isinstance(draw, Draw):
            return super().__getitem__(draw)
        seed = int(image_generator(self._recipe, draw).integers(2**31))
        random.seed(seed)
        np.random.seed(seed)
        return super().__getitem__(draw.image)


class UltralyticsBatches(DataLoader[Any]):
    """A data loader with the methods that Ultralytics' trainer calls on its own."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()

    def reset(self) -> None:
        """Do nothing: no image is read before its epoch begins."""
