"""Images and labels as transformers' detectors take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import msgspec
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from seatrial.datasets.labels import LabelledSet
from seatrial.detect.decode import read_image
from seatrial.detect.detector import MAX_PIXELS
from seatrial.detect.preprocess import fit
from seatrial.manifest import Preprocessing
from seatrial.train.augment import TrainingImage, augment
from seatrial.train.plan import TrainingPlan, canvas
from seatrial.train.sampler import (
    MULTIPLE_PX,
    Draw,
    Sampler,
    image_generator,
    plain,
)
from seatrial.train.training_labels import training_labels
from seatrial.train.validation import Normalisation


class Item(TypedDict):
    """One image: (H, W, 3) uint8, classes (N,) int64, boxes (N, 4) float32 cx, cy, w, h, 0-1."""

    pixels: Any
    class_labels: Any
    boxes: Any


class Batch(TypedDict, total=False):
    """Inputs of a network, and the number of objects in the whole step of this process.

    Attributes:
        pixel_values: (B, 3, H, W) float32.
        pixel_mask: (B, H, W) int64, 1 inside the image; only for networks that know padding.
        labels: ``class_labels`` and ``boxes`` of each image.
        objects: Objects in all parts of this process' share of the step.
    """

    pixel_values: Any
    pixel_mask: Any
    labels: list[dict[str, Any]]
    objects: int


class TrainingImages(Dataset[Item]):
    """The training set, augmented; equal draws give equal images."""

    def __init__(self, labelled: LabelledSet, plan: TrainingPlan) -> None:
        self._labels = training_labels(labelled, plan.classes)
        self._recipe = plan.recipe
        self._canvas = canvas(plan)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, draw: Draw) -> Item:
        classes, cxcywh = self._labels.of(draw.image)
        image = read_image(
            self._labels.paths[draw.image], max_pixels=MAX_PIXELS, hint="seatrial data check"
        )
        size = np.tile(image.shape[1::-1], 2)
        corners = np.hstack([cxcywh[:, :2] - cxcywh[:, 2:] / 2, cxcywh[:, :2] + cxcywh[:, 2:] / 2])
        varied = augment(
            TrainingImage(image, corners * size, classes),
            self._recipe.augmentation,
            image_generator(self._recipe, draw),
            plain=plain(self._recipe, draw.epoch),
        )
        height, width = varied.image.shape[:2]
        fitted, where = fit(varied.image, scaled(self._canvas, draw.factor))
        pixels = fitted[0]
        if self._canvas.resize == "shortest_edge":  # batches are padded to their largest image
            scale_x, scale_y = where.scale_xy
            pixels = pixels[: round(height * scale_y), : round(width * scale_x)]
        xyxy = varied.xyxy / [width, height, width, height]
        boxes = np.hstack([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]])
        return Item(
            pixels=torch.from_numpy(np.ascontiguousarray(pixels)),
            class_labels=torch.from_numpy(varied.classes.copy()),
            boxes=torch.from_numpy(boxes.astype(np.float32)),
        )


def scaled(size: Preprocessing, factor: float) -> Preprocessing:
    """A canvas enlarged by a factor; sides that change become multiples of 32."""
    if factor == 1.0:
        return size
    if size.edges_px is not None:
        edges = (round(size.edges_px[0] * factor), size.edges_px[1])
        return msgspec.structs.replace(size, edges_px=edges)
    height, width = (
        max(MULTIPLE_PX, round(side * factor / MULTIPLE_PX) * MULTIPLE_PX) for side in size.size_hw
    )
    return msgspec.structs.replace(size, size_hw=(height, width))


class Collate:
    """Makes a batch of items: normalised and padded to the largest image.

    Args:
        normalisation: Normalisation of pixel values.
        masked: The network takes a mask of the padding.
    """

    def __init__(self, normalisation: Normalisation, *, masked: bool) -> None:
        self._masked = masked
        self._scale = normalisation.scale
        mean, std = normalisation.mean_std or ((0.0,) * 3, (1.0,) * 3)
        self._mean = torch.tensor(mean).reshape(3, 1, 1)
        self._std = torch.tensor(std).reshape(3, 1, 1)

    def __call__(self, items: Sequence[Item]) -> Batch:
        """The batch of some items."""
        height, width = (max(item["pixels"].shape[side] for item in items) for side in (0, 1))
        values = torch.zeros(len(items), 3, height, width)
        mask = torch.zeros(len(items), height, width, dtype=torch.int64)
        for number, item in enumerate(items):
            pixels = item["pixels"].permute(2, 0, 1).to(torch.float32) / self._scale
            rows, columns = pixels.shape[1:]
            values[number, :, :rows, :columns] = (pixels - self._mean) / self._std
            mask[number, :rows, :columns] = 1
        labels = [{"class_labels": i["class_labels"], "boxes": i["boxes"]} for i in items]
        objects = sum(len(one["class_labels"]) for one in labels)
        batch = Batch(pixel_values=values, labels=labels, objects=objects)
        if self._masked:
            batch["pixel_mask"] = mask
        return batch


class TrainingBatches(DataLoader[Any]):
    """Batches of one process; each holds the number of objects of its whole step.

    Attributes:
        sampler: Order of the images.
        parts: Batches of a step.
    """

    sampler: Sampler
    parts: int

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        waiting: list[Batch] = []
        for batch in super().__iter__():
            waiting.append(batch)
            if len(waiting) == self.parts:
                total = sum(one["objects"] for one in waiting)
                for one in waiting:
                    one["objects"] = total
                    yield one
                waiting.clear()


def training_batches(
    labelled: LabelledSet,
    plan: TrainingPlan,
    normalisation: Normalisation,
    *,
    masked: bool,
    rank: int,
) -> TrainingBatches:
    """The training batches of one process."""
    images, recipe = TrainingImages(labelled, plan), plan.recipe
    batches = TrainingBatches(
        images,
        batch_size=recipe.micro_batch,
        sampler=Sampler(len(images), recipe, rank=rank),
        num_workers=recipe.compute.workers,
        collate_fn=Collate(normalisation, masked=masked),
        drop_last=True,
        pin_memory=recipe.compute.device == "cuda",
    )
    batches.parts = recipe.accumulate
    return batches
