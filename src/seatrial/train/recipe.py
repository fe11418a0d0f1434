"""The recipe: the settings of a finetuning, as a TOML file that all trainers read.

A missing key has the value that the model's family was published with, see `published`.
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
    """The optimiser.

    Attributes:
        kind: ``adamw`` or ``sgd``; Ultralytics also knows ``musgd``, and ``auto``, which chooses
            kind and learning rate by the number of steps and classes.
        learning_rate: Learning rate after warm-up, for any number of processes.
        backbone_learning_rate: Learning rate of the backbone.
        weight_decay: Decay of weights; biases and norms have none, except in DETR.
        momentum: Momentum of SGD; first beta of AdamW.
        clip_norm: Largest norm of the gradient; 0 for no limit.
    """

    kind: Literal["adamw", "sgd", "musgd", "auto"] = "adamw"
    learning_rate: Above = 1e-4
    backbone_learning_rate: NotNegative = 1e-5
    weight_decay: NotNegative = 1e-4
    momentum: Fraction = 0.9
    clip_norm: NotNegative = 0.1


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The learning rate over the training.

    Attributes:
        kind: Course after warm-up: ``constant``; ``linear`` or ``cosine`` down to ``final``;
            ``step``: a tenth from ``step_at`` on.
        warmup_steps: Optimiser steps of the warm-up, over which the rate rises from 0.
        warmup_epochs: Epochs of the warm-up; the longer of both counts.
        final: Last learning rate, as a fraction of the first.
        step_at: Place of the step, as a fraction of the training.
    """

    kind: Literal["constant", "linear", "cosine", "step"] = "constant"
    warmup_steps: Natural = 0
    warmup_epochs: NotNegative = 0.0
    final: Fraction = 0.01
    step_at: Fraction = 2 / 3


class Ema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exponential moving average of the weights: what is validated and kept.

    Attributes:
        decay: Decay of the average in the long run; 0 for no average.
        warmup_steps: Steps over which the decay rises: ``decay * (1 - exp(-step /
            warmup_steps))``.
    """

    decay: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.9999
    warmup_steps: Natural = 2000


class Augmentation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The augmentation of training images. `USED_BY` has the families that know a key.

    Attributes:
        flip: Probability of a mirror image, left to right.
        vertical_flip: Probability of a mirror image, upside down.
        colour: Probability of each change of an image's colours.
        hue: Largest shift of the hue, as a fraction of the circle.
        saturation: Largest change of the saturation, as a fraction.
        brightness: Largest change of the brightness, as a fraction.
        contrast: Largest change of the contrast, as a fraction.
        zoom_out: Probability of a larger, empty canvas around an image (up to four times).
        crop: Probability of a crop (SSD's, by IoU), which may cut objects.
        multi_scale: Smallest and largest side, as a factor of ``image_size``.
        translate: Largest shift, as a fraction of the image.
        scale: Largest change of size, as a fraction.
        mosaic: Probability of a mosaic of four images.
        plain_epochs: Number of last epochs in which images are only flipped.
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
    """The device and the processes of a training.

    Attributes:
        device: ``cpu`` or ``cuda``; another device is an error.
        processes: Processes that share each batch (DDP: gloo on CPUs, NCCL on GPUs, one process
            each).
        threads: Threads of each process; 0 for its share of the usable cores.
        workers: Processes that load images for each process; 0 loads in the training process.
        memory_gib: Largest memory of each process; 0 for no limit. CPUs only.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    processes: Positive = 1
    threads: Natural = 0
    workers: Natural = 0
    memory_gib: NotNegative = 0.0


class Diagnosis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The watch over a training.

    Attributes:
        action: ``stop`` ends a training that is in vain; ``warn`` continues it.
        blind_epochs: Epochs after which an mAP of 0 is a finding.
        rising_steps: Steps after which a rising loss is a finding.
    """

    action: Literal["stop", "warn"] = "stop"
    blind_epochs: Positive = 5
    rising_steps: Positive = 50


class ExportSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The export of the result, see ``seatrial export``.

    Attributes:
        to: Format of the artifact: ``onnx``, ``openvino`` or ``torch``.
        precision: Precision of the artifact.
    """

    to: Literal["onnx", "openvino", "torch"] = "onnx"
    precision: Literal["f32", "f16", "bf16"] = "f32"


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of a finetuning.

    Attributes:
        epochs: Number of times that each image is seen.
        batch: Images of one optimiser step, over all processes.
        accumulate: Number of parts that a step's batch is taken in, one after the other.
        image_size: Side of the canvas, pixels, or (height, width); for DETR the shorter edge. 0
            keeps the base model's.
        patience: Epochs without a better mAP on validation after which training ends; 0 for no
            limit.
        seed: Seed of all random numbers.
        precision: ``f32``; ``bf16``; ``f16``, which needs a GPU.
        freeze: Parts that are not trained: ``backbone``, or names of modules.
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
    export: ExportSettings = ExportSettings()

    @property
    def micro_batch(self) -> int:
        """Number of images that one process takes at a time."""
        return self.batch // (self.compute.processes * self.accumulate)

    def to_toml(self, comments: dict[str, str] | None = None) -> str:
        """The TOML text that gives this recipe back.

        Args:
            comments: Key (``table.key`` in a table) -> comment behind its value.
        """
        return encode_toml(self, comments)
