"""The recipe: what a finetuning is done with, as a TOML file that all trainers read.

A key that is left out has the value that the model's family was published with, see `published`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from seatrial.config import decode_toml, encode_toml, readable
from seatrial.contract import Fraction, Positive
from seatrial.errors import InvalidConfig

Natural = Annotated[int, msgspec.Meta(ge=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Above = Annotated[float, msgspec.Meta(gt=0)]
Factor = Annotated[float, msgspec.Meta(gt=0, le=8)]


class Optimiser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How weights are changed.

    Attributes:
        kind: ``adamw`` or ``sgd``; Ultralytics also knows ``musgd``, and ``auto``, which chooses
            kind and learning rate by the number of steps and classes.
        learning_rate: After warm-up; whatever the number of processes.
        backbone_learning_rate: Of the backbone.
        weight_decay: Of weights; not of biases and norms, except in DETR.
        momentum: Of SGD; of AdamW its first beta.
        clip_norm: Longest gradient; 0 for any.
    """

    kind: Literal["adamw", "sgd", "musgd", "auto"] = "adamw"
    learning_rate: Above = 1e-4
    backbone_learning_rate: NotNegative = 1e-5
    weight_decay: NotNegative = 1e-4
    momentum: Fraction = 0.9
    clip_norm: NotNegative = 0.1


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the learning rate changes.

    Attributes:
        kind: After warm-up: ``constant``; ``linear`` or ``cosine`` down to ``final``; ``step``:
            a tenth from ``step_at`` on.
        warmup_steps: It rises from 0 over so many optimiser steps ...
        warmup_epochs: ... and over so many epochs; the longer one counts.
        final: Last learning rate, as a fraction of the first.
        step_at: As a fraction of the training.
    """

    kind: Literal["constant", "linear", "cosine", "step"] = "constant"
    warmup_steps: Natural = 0
    warmup_epochs: NotNegative = 0.0
    final: Fraction = 0.01
    step_at: Fraction = 2 / 3


class Ema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exponential moving average of the weights: what is validated and kept.

    Attributes:
        decay: In the long run; 0 keeps the weights as they are.
        warmup_steps: ``decay * (1 - exp(-step / warmup_steps))``, so that it follows at first.
    """

    decay: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.9999
    warmup_steps: Natural = 2000


class Augmentation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How pictures are varied. `USED_BY` tells which families know which key.

    Attributes:
        flip: Probability of a mirror image, left to right.
        vertical_flip: The same, upside down.
        colour: Probability that the colours of a picture are changed.
        hue: Largest shift, as a fraction of the circle.
        saturation: Largest change, as a fraction.
        brightness: The same.
        contrast: The same.
        zoom_out: Probability that a picture is put on a larger, empty canvas (up to four times).
        crop: Probability of a crop that keeps objects whole or cuts them (SSD's by IoU).
        multi_scale: Smallest and largest side, as a factor of ``image_size``.
        translate: Largest shift, as a fraction of the picture.
        scale: Largest change of size, as a fraction.
        mosaic: Probability that four pictures are put together.
        plain_epochs: In so many last epochs, pictures are only flipped.
    """

    flip: Fraction = 0.5
    vertical_flip: Fraction = 0.0
    colour: Fraction = 0.0
    hue: Fraction = 0.0
    saturation: Fraction = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    zoom_out: Fraction = 0.0
    crop: Fraction = 0.0
    multi_scale: tuple[Factor, Factor] = (1.0, 1.0)
    translate: Fraction = 0.0
    scale: Fraction = 0.0
    mosaic: Fraction = 0.0
    plain_epochs: Natural = 0


_DETR = frozenset({"detr", "rt_detr", "rt_detr_v2", "d_fine"})
_YOLO = frozenset({"yolo"})
USED_BY = {
    "colour": _DETR,
    "contrast": _DETR,
    "zoom_out": _DETR,
    "crop": _DETR,
    "translate": _YOLO,
    "scale": _YOLO,
    "mosaic": _YOLO,
}


class Compute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What it runs on.

    Attributes:
        device: ``cpu`` or ``cuda``; never another one silently.
        processes: They share each batch (DDP: gloo on CPUs, NCCL on GPUs, one process each).
        threads: Of each process; 0 for its share of the usable cores.
        workers: Processes that load pictures, for each; 0 loads in the training process.
        memory_gib: Most memory that each process may take; 0 for what there is. CPUs only.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    processes: Positive = 1
    threads: Natural = 0
    workers: Natural = 0
    memory_gib: NotNegative = 0.0


class Diagnosis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do about a training that goes wrong.

    Attributes:
        action: ``stop`` ends it where a cause was found; ``warn`` goes on.
        blind_epochs: After so many epochs an mAP of 0 is a finding.
        rising_steps: A loss that has risen for so many steps is a finding.
    """

    action: Literal["stop", "warn"] = "stop"
    blind_epochs: Positive = 5
    rising_steps: Positive = 50


class Export(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the result becomes: see ``seatrial export``."""

    to: Literal["onnx", "openvino", "torch"] = "onnx"
    precision: Literal["f32", "f16", "bf16"] = "f32"


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a finetuning is done with.

    Attributes:
        epochs: Times that each picture is seen.
        batch: Pictures of one optimiser step, over all processes.
        accumulate: A step's batch is taken in so many parts, one after the other.
        image_size: Side of the canvas, pixels, or (height, width); of DETR the shorter edge. 0
            keeps the base model's.
        patience: Epochs without a better mAP on validation after which training ends; 0 for none.
        seed: Of everything that is drawn.
        precision: ``f32``; ``bf16``; ``f16``, which takes a GPU.
        freeze: Parts that stay as they are: ``backbone``, or names of modules.
    """

    epochs: Positive = 50
    batch: Positive = 16
    accumulate: Positive = 1
    # Limits in a union with a tuple make msgspec 0.22 read other memory: `check` has them.
    image_size: int | tuple[int, int] = 0
    patience: Natural = 0
    seed: Natural = 0
    precision: Literal["f32", "bf16", "f16"] = "f32"
    freeze: tuple[str, ...] = ()
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    ema: Ema = Ema()
    augmentation: Augmentation = Augmentation()
    compute: Compute = Compute()
    diagnosis: Diagnosis = Diagnosis()
    export: Export = Export()

    @property
    def micro_batch(self) -> int:
        """Pictures that one process takes at a time."""
        return self.batch // (self.compute.processes * self.accumulate)

    def to_toml(self, comments: dict[str, str] | None = None) -> str:
        """The TOML text that gives this recipe back.

        Args:
            comments: Key, ``table.key`` for those of tables -> text to put behind it.
        """
        return encode_toml(self, comments)


def read_recipe(
    path: Path | None, family: str, overrules: Mapping[str, Any] | None = None
) -> Recipe:
    """Read a recipe and fill in what the family was published with.

    Args:
        path: TOML file; None for the published values alone.
        family: Key of `PUBLISHED`.
        overrules: Values that go before those of the file, in tables as it has them.

    Raises:
        InvalidConfig: The file cannot be read; a key is unknown or not for this family; values
            are out of range or do not go together.
    """
    from seatrial.train.published import PUBLISHED

    given: dict[str, Any] = {}
    if path is not None:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InvalidConfig(f"{path} cannot be read: {error.strerror}") from error
        decode_toml(data, Recipe, origin=str(path))  # unknown keys and wrong values are named here
        given = tomllib.loads(data.decode())
    given = _merged(given, overrules or {})
    values = _merged(PUBLISHED[family].values, given)
    if "learning_rate" in given.get("optimiser", {}):
        values["optimiser"] |= _rates_by_hand(given["optimiser"], PUBLISHED[family].values)
    try:
        recipe = msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        raise InvalidConfig(f"options: {readable(error)}") from error
    check(recipe, family, frozenset(given.get("augmentation", {})))
    return recipe


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for key, value in above.items():
        found[key] = _merged(found.get(key, {}), value) if isinstance(value, dict) else value
    return found


def _rates_by_hand(given: dict[str, Any], published: dict[str, Any]) -> dict[str, Any]:
    """What follows from a learning rate that was given: it is meant, and the backbone's follows."""
    usual = published["optimiser"]
    follows: dict[str, Any] = {}
    if "kind" not in given and usual["kind"] == "auto":
        follows["kind"] = "adamw"
    if "backbone_learning_rate" not in given:
        ratio = usual["backbone_learning_rate"] / usual["learning_rate"]
        follows["backbone_learning_rate"] = given["learning_rate"] * ratio
    return follows


def check(recipe: Recipe, family: str, varied: frozenset[str] = frozenset()) -> None:
    """See that values go together.

    Args:
        recipe: Complete.
        family: Of the model.
        varied: Keys of ``augmentation`` that were given by hand.

    Raises:
        InvalidConfig: They do not, with what would.
    """
    for key in sorted(varied):
        if family not in USED_BY.get(key, {family}):
            raise InvalidConfig(
                f"augmentation.{key} is not for {family}",
                hint=f"it is for {', '.join(sorted(USED_BY[key]))}",
            )
    shares = recipe.compute.processes * recipe.accumulate
    if recipe.batch % shares:
        raise InvalidConfig(
            f"a batch of {recipe.batch} cannot be shared by {recipe.compute.processes} processes "
            f"in {recipe.accumulate} parts",
            hint=f"use a multiple of {shares}: batch counts the pictures of all processes",
        )
    if recipe.precision == "f16" and recipe.compute.device == "cpu":
        raise InvalidConfig("training in f16 takes a GPU", hint='precision = "bf16", or "f32"')
    sides = (recipe.image_size,) if isinstance(recipe.image_size, int) else recipe.image_size
    if recipe.image_size != 0 and not all(32 <= side <= 4096 for side in sides):
        raise InvalidConfig(f"image_size {recipe.image_size}", hint="use 32 to 4096 pixels")
    low, high = recipe.augmentation.multi_scale
    if low > high:
        raise InvalidConfig(f"augmentation.multi_scale [{low:g}, {high:g}] is no range")
    if family != "yolo" and recipe.optimiser.kind in ("auto", "musgd"):
        raise InvalidConfig(
            f"optimiser.kind {recipe.optimiser.kind!r} is Ultralytics' own",
            hint="use adamw or sgd",
        )
    if family == "yolo":
        _check_yolo(recipe)


def _check_yolo(recipe: Recipe) -> None:
    low, high = recipe.augmentation.multi_scale
    if abs((1 - low) - (high - 1)) > 1e-6:
        raise InvalidConfig(
            f"augmentation.multi_scale [{low:g}, {high:g}]: Ultralytics' range is symmetric",
            hint="for example [0.75, 1.25]",
        )
    if isinstance(recipe.image_size, tuple):
        raise InvalidConfig("Ultralytics trains on squares", hint="image_size = 640")
    if recipe.schedule.kind not in ("linear", "cosine"):
        raise InvalidConfig(
            f"Ultralytics has no schedule {recipe.schedule.kind!r}", hint="use linear or cosine"
        )
    if recipe.compute.processes > 1 and recipe.compute.device == "cpu":
        raise InvalidConfig(
            "Ultralytics shares a batch among GPUs only",
            hint='compute.processes = 1, or device = "cuda"',
        )
    if recipe.ema.decay == 0:
        raise InvalidConfig("Ultralytics always averages the weights", hint="ema.decay over 0")
    if recipe.optimiser.learning_rate > 1:
        raise InvalidConfig(
            f"optimiser.learning_rate {recipe.optimiser.learning_rate:g}",
            hint="Ultralytics takes learning rates up to 1",
        )
    if recipe.optimiser.clip_norm != 10.0:
        raise InvalidConfig("Ultralytics always clips gradients at 10", hint="leave out clip_norm")
