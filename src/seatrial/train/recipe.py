"""The recipe: what a finetuning is done with, as a TOML file that all trainers read.

A key that is left out has the value that the model's family was published with, see `published`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from seatrial.config import Fraction, Positive, encode_toml

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
