"""Symptoms of a training that is in vain, in the labels and in the course of the training.

Every symptom has what was seen, its likely cause, and what to do.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.confusion import confusion, pair, shift
from seatrial.datasets.labels import LabelledSet
from seatrial.train.journal import StepRecord
from seatrial.train.published import PUBLISHED
from seatrial.train.recipe import Recipe
from seatrial.train.validation import Validation

OUTSIDE = 0.02  # largest share of boxes outside their images that is no symptom
SLACK = 0.01  # tolerance for rounded labels, as a fraction of the image's side
FITS = 0.99  # least share of boxes that another reading puts inside
FEW = 3  # boxes that are too few to judge
TOO_HIGH = 3.0  # factor over the published learning rate
EXPLODED = 20.0  # factor over the loss of the first steps
BLIND = 1e-3  # mAP at IoU 0.5 that counts as 0


class Symptom(msgspec.Struct, frozen=True):
    """Something that is wrong, or probably wrong.

    Attributes:
        code: Stable name of the kind.
        seen: Observation, with numbers.
        cause: Likely cause.
        hint: What to do.
        fatal: True where to continue would be in vain.
        step: Optimiser steps taken so far.
    """

    code: str
    seen: str
    cause: str
    hint: str
    fatal: bool
    step: int = 0

    @property
    def message(self) -> str:
        """Observation and cause in one sentence."""
        return f"{self.seen}: {self.cause}"


def of_labels(dataset: LabelledSet, *, which: str) -> list[Symptom]:
    """Symptoms in the labels of one set.

    Args:
        dataset: The set.
        which: ``training`` or ``validation``.
    """
    found = (_box_format(dataset, which), _unused_first(dataset, which))
    return [finding for finding in found if finding is not None]


Reading = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""(N, 4) numbers of the file and (N, 2) sizes -> (N, 4) left, top, right, bottom, pixels."""


def _centre_size(numbers: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.hstack([numbers[:, :2] - numbers[:, 2:] / 2, numbers[:, :2] + numbers[:, 2:] / 2])


def _corner_size(numbers: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.hstack([numbers[:, :2], numbers[:, :2] + numbers[:, 2:]])


def _corners(numbers: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    return numbers


CENTRE, CORNER, CORNERS = "[centre x, centre y, width, height]", "[left, top, width, height]", (
    "[left, top, right, bottom]"
)  # fmt: skip
# Format -> meaning of its numbers, and other meanings that they may have.
READINGS: dict[str, tuple[str, dict[str, Reading]]] = {
    "coco": (CORNER, {CORNERS: _corners, CENTRE: _centre_size}),
    "yolo": (CENTRE, {CORNERS: _corners, CORNER: _corner_size}),
}


def _box_format(dataset: LabelledSet, which: str) -> Symptom | None:
    known = np.array([i.width is not None and i.height is not None for i in dataset.images])
    rows = np.flatnonzero(known[dataset.truth.image])
    if len(rows) < FEW:
        return None
    kind = dataset.source.partition(":")[0]
    sizes = np.array([(i.width or 1, i.height or 1) for i in dataset.images], np.float64)
    size, xywh = sizes[dataset.truth.image[rows]], dataset.truth.xywh[rows]
    corners = _corner_size(xywh, size)
    outside = np.logical_not(_inside(corners, size))
    if outside.sum() < FEW or outside.mean() <= OUTSIDE:
        return None
    seen = (
        f"{outside.sum()} of {len(rows)} boxes of the {which} set leave their images, "
        f"the first in {dataset.images[int(dataset.truth.image[rows[outside]][0])].name}"
    )
    meant, readings = READINGS.get(kind, READINGS["coco"])
    numbers = xywh if kind != "yolo" else np.hstack([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]])
    for name, reading in readings.items():
        other = reading(numbers, size)
        ordered = (other[:, 2:] >= other[:, :2]).all(axis=1)
        if (_inside(other, size) & ordered).mean() >= FITS:
            return Symptom(
                "box-format", seen, f"their numbers are {name}, where {meant} is expected",
                f"write them as {meant}", fatal=True,
            )  # fmt: skip
    return Symptom(
        "box-format", seen, "they were drawn on images of other sizes, or in another format",
        "preview the labels: seatrial data preview", fatal=True,
    )  # fmt: skip


def _inside(corners: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.bool_]:
    slack = np.maximum(SLACK * size, 1.0)
    within = (corners[:, :2] >= -slack) & (corners[:, 2:] <= size + slack)
    inside: NDArray[np.bool_] = within[:, 0] & within[:, 1]
    return inside


def _unused_first(dataset: LabelledSet, which: str) -> Symptom | None:
    counts = np.bincount(dataset.truth.category, minlength=len(dataset.categories))
    if len(counts) < 3 or counts[0] or not counts[1:].all():
        return None
    return Symptom(
        "labels-off-by-one",
        f"in the {which} set the first class, {dataset.categories[0].name!r}, has no object, and "
        "every other class has some",
        "class numbers that start at 1 give this pattern, where 0 is the first class",
        "subtract 1 from the numbers, or take the first name off the list if it is a placeholder",
        fatal=False,
    )


def of_known_classes(dataset: LabelledSet, seen: Validation) -> Symptom | None:
    """The symptom of class numbers that are off by one, against a model that knows the classes.

    Args:
        dataset: Part of the training set.
        seen: Detections of the base model on it.
    """
    counts = confusion(dataset, seen.predictions).paired
    off = shift(counts)
    if not off:
        return None
    names = [category.name for category in dataset.categories]
    example = int(np.argmax(np.diagonal(counts, off))) + max(0, -off)
    return Symptom(
        "labels-off-by-one",
        f"the base model sees {names[example + off]!r} in most objects that are labelled "
        f"{names[example]!r}, and so on through the list",
        f"the labels' class numbers are off by one ({-off:+d})",
        f"{'add 1 to' if off > 0 else 'subtract 1 from'} the class numbers, or mend the names",
        fatal=True,
    )


def of_parameters(
    parameters: Iterable[tuple[str, int, bool]], head: Sequence[str], *, new_head: bool
) -> Symptom | None:
    """The symptom of a network, or a new head, without weights to train.

    Args:
        parameters: Name, number of values, and whether it is trained.
        head: Parts of the names of the classification head's weights.
        new_head: The head starts from random weights.
    """
    rows = list(parameters)
    total, trained = sum(n for _, n, _ in rows), sum(n for _, n, on in rows if on)
    if not trained:
        return Symptom(
            "everything-frozen", f"0 of {total} weights are trained",
            "the recipe's freeze covers the whole model", "leave the head out of it", fatal=True,
        )  # fmt: skip
    stuck = [name for name, _, on in rows if not on and any(part in name for part in head)]
    if new_head and stuck:
        return Symptom(
            "everything-frozen",
            f"the classification head is new and frozen ({stuck[0]} and {len(stuck) - 1} more)",
            "the recipe's freeze covers it: its weights would stay random",
            "leave the head out of freeze", fatal=True,
        )  # fmt: skip
    return None


def of_loss(recipe: Recipe, family: str, steps: Sequence[StepRecord]) -> Symptom | None:
    """The symptom of a loss that explodes, rises or is not a number."""
    last = steps[-1]
    if not math.isfinite(last.loss):
        return _not_a_number(recipe, family, steps)
    window = recipe.diagnosis.rising_steps
    first = statistics.median(row.loss for row in steps[:5])
    recent = [row.loss for row in steps[-5:]]
    if len(steps) >= 10 and min(recent) > EXPLODED * max(first, 1e-3):
        seen = f"the loss went from {first:.3g} to {last.loss:.3g} in {last.step} steps"
        return _too_high(recipe, family, seen, last.step)
    if len(steps) < 3 * window or len(steps) % window:
        return None
    means = [
        statistics.fmean(row.loss for row in steps[i : i + window])
        for i in range(len(steps) % window, len(steps), window)
    ]
    lowest = min(means[:-1])
    if means[-1] > 1.3 * lowest and means[-1] > means[0]:
        seen = (
            f"the loss rises: {means[-1]:.3g} over the last {window} steps, after {lowest:.3g} "
            f"at best and {means[0]:.3g} at first"
        )
        return _too_high(recipe, family, seen, last.step)
    return None


def _usual_rate(family: str) -> float:
    rate: float = PUBLISHED[family].values["optimiser"]["learning_rate"]
    return rate


def _rate_ratio(recipe: Recipe, family: str) -> float:
    rate = recipe.optimiser.learning_rate
    return 1.0 if recipe.optimiser.kind == "auto" else rate / _usual_rate(family)


def _rate_text(recipe: Recipe, family: str) -> str:
    rate, usual = recipe.optimiser.learning_rate, _usual_rate(family)
    return f"optimiser.learning_rate is {rate:g}, {rate / usual:.3g} times the published {usual:g}"


def _too_high(recipe: Recipe, family: str, seen: str, step: int) -> Symptom:
    far = _rate_ratio(recipe, family) > 1.5
    lower = _usual_rate(family) if far else recipe.optimiser.learning_rate / 5
    cause = "the learning rate is too high"
    if recipe.optimiser.kind != "auto":
        cause += f" ({_rate_text(recipe, family)})"
    return Symptom(
        "learning-rate-too-high", seen, cause,
        f"optimiser.learning_rate = {lower:.2g}, or a longer warm-up", fatal=True, step=step,
    )  # fmt: skip


def _not_a_number(recipe: Recipe, family: str, steps: Sequence[StepRecord]) -> Symptom:
    last = steps[-1]
    before = [row.loss for row in steps[-4:-1]]
    seen = f"the loss is {last.loss} at step {last.step}"
    seen += f", after {', '.join(f'{loss:.3g}' for loss in before)}" if before else ""
    if _rate_ratio(recipe, family) > TOO_HIGH:
        cause = f"the learning rate is too high ({_rate_text(recipe, family)})"
        hint = f"optimiser.learning_rate = {_usual_rate(family)}"
    elif recipe.precision == "f16":
        cause, hint = "half precision overflows", 'precision = "bf16", or "f32"'
    elif not before:
        cause = "the base's weights, or the images, hold values that are not numbers"
        hint = "evaluate the base model on the training set"
    else:
        cause = "a step was too large: the learning rate is too high for these data"
        hint = f"optimiser.learning_rate = {recipe.optimiser.learning_rate / 5:.2g}"
        if not recipe.optimiser.clip_norm:
            hint += ", and optimiser.clip_norm = 0.1"
    return Symptom("loss-not-a-number", seen, cause, hint, fatal=True, step=last.step)


def of_validation(
    recipe: Recipe,
    family: str,
    dataset: LabelledSet,
    found: Validation,
    *,
    epochs_ap50: Sequence[float],
    losses: Sequence[float],
    step: int,
) -> Symptom | None:
    """The symptom of a validation without detections, or with classes that are off by one.

    Args:
        recipe: Recipe of the run.
        family: Family of the model.
        dataset: The validation set.
        found: Detections on it.
        epochs_ap50: mAP at IoU 0.5 of all epochs so far.
        losses: Mean loss of all epochs so far.
        step: Optimiser steps taken so far.
    """
    off = shift(confusion(dataset, found.predictions).paired)
    if off:
        names = [category.name for category in dataset.categories]
        return Symptom(
            "labels-off-by-one",
            f"the model detects class k{off:+d} where validation objects are labelled k "
            f"(the {len(names)} classes in their order)",
            "the class numbers of the training and of the validation set are off by one "
            "against each other",
            "number the classes of both sets alike",
            fatal=True,
            step=step,
        )
    if len(epochs_ap50) < recipe.diagnosis.blind_epochs or max(epochs_ap50) >= BLIND:
        return None
    cause, hint = _why_blind(recipe, family, dataset, found, losses, step)
    seen = f"mAP is 0 after {len(epochs_ap50)} epochs ({step} steps)"
    return Symptom("blind", seen, cause, hint, fatal=True, step=step)


def _why_blind(
    recipe: Recipe,
    family: str,
    dataset: LabelledSet,
    found: Validation,
    losses: Sequence[float],
    step: int,
) -> tuple[str, str]:
    objects = max(1, int((~dataset.truth.crowd).sum()))
    placed = len(pair(dataset, found.predictions, confidence=0.001).truth) / objects
    if placed > 0.3 and len(dataset.categories) > 1:
        return (
            f"{placed:.0%} of the objects are found under wrong names: the classes of the two "
            "sets are numbered differently",
            "compare the lists of names, and preview both sets: seatrial data preview",
        )
    warmup = recipe.schedule.warmup_steps
    if warmup > step:
        return (
            f"the learning rate is still rising: schedule.warmup_steps is {warmup}",
            f"schedule.warmup_steps = {max(1, step // 10)} for a set of this size",
        )
    if len(losses) > 1 and losses[-1] < 0.5 * losses[0]:
        return (
            f"the loss fell from {losses[0]:.3g} to {losses[-1]:.3g}, so the training set is "
            "learned: the validation set has other images, or boxes in another format",
            "preview both sets: seatrial data preview",
        )
    ratio = _rate_ratio(recipe, family)
    if ratio > TOO_HIGH:
        return (
            f"the learning rate is too high ({_rate_text(recipe, family)})",
            f"optimiser.learning_rate = {_usual_rate(family)}",
        )
    if ratio < 0.2:
        return (
            f"the learning rate is too low ({_rate_text(recipe, family)})",
            "remove optimiser.learning_rate",
        )
    return (
        "the detector has not learned yet: from random weights it takes thousands of steps, a DETR "
        "tens of thousands",
        "start from pretrained weights, or allow more: diagnosis.blind_epochs = "
        f"{4 * recipe.diagnosis.blind_epochs}",
    )
