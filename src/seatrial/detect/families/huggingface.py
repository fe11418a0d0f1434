"""The facts in ``config.json`` and ``preprocessor_config.json`` of a Hugging Face detector.

They are read without transformers or torch, which only a machine that runs the checkpoint needs.

Source: transformers ``models/*/configuration_*.py`` and ``image_processing_pil_*.py``.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any, Literal

import msgspec

from seatrial.config import UNDECODABLE
from seatrial.errors import InvalidArtifact
from seatrial.manifest import Preprocessing
from seatrial.system.text import as_utf8

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # transformers 5 writes it where a processor has parts
BILINEAR = 2  # PIL.Image.Resampling.BILINEAR, as preprocessor_config.json writes it
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIZES_PX = range(32, 4097)


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """A known kind of checkpoint.

    Attributes:
        variant: Variant of the family ``detr``: how its logits are read.
        masked: Whether it takes a ``pixel_mask``, so that its images may be padded.
        head: Name of the classification weight in the checkpoint, ``(classes, width)``; one of
            several where each decoder layer has one.
        queries: Default number of queries.
        size: Default size of its image processor.
        normalised: Whether its image processor normalises by ImageNet's mean and deviation by
            default.
    """

    variant: Literal["detr", "sigmoid"]
    masked: bool
    head: str
    queries: int
    size: dict[str, int]
    normalised: bool


_STRETCHED = {"height": 640, "width": 640}
_RT_DETR = Architecture(
    variant="sigmoid",
    masked=False,
    head="decoder.class_embed.0.weight",
    queries=300,
    size=_STRETCHED,
    normalised=False,
)
ARCHITECTURES = {
    "detr": Architecture(
        variant="detr",
        masked=True,
        head="class_labels_classifier.weight",
        queries=100,
        size={"shortest_edge": 800, "longest_edge": 1333},
        normalised=True,
    ),
    "rt_detr": _RT_DETR,
    "rt_detr_v2": _RT_DETR,
    "d_fine": _RT_DETR,
}


class CheckpointFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts in the two files.

    Attributes:
        model_type: Key of `ARCHITECTURES`.
        labels: Class names; the index is ``class_id``.
        queries: Number of boxes for one image.
        preprocessing: How images are fitted.
        scale: Divisor of pixel values, 0-255.
        mean_std: Means and deviations of the scaled values; None where they are not normalised.
    """

    model_type: str
    labels: tuple[str, ...]
    queries: int
    preprocessing: Preprocessing
    scale: float
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None

    @property
    def architecture(self) -> Architecture:
        """See `Architecture`."""
        return ARCHITECTURES[self.model_type]


def image_processor(preprocessor: bytes | None, processor: bytes | None) -> bytes | None:
    """Settings of the image processor, as ``AutoImageProcessor`` chooses them.

    Args:
        preprocessor: Content of ``preprocessor_config.json``.
        processor: Content of ``processor_config.json``: the image processor in it goes first.

    Returns:
        Content for ``preprocessor_config.json``; None if neither file has the settings.

    Raises:
        InvalidArtifact: ``processor_config.json`` is not JSON.
    """
    nested = None if processor is None else _json(processor, PROCESSOR).get("image_processor")
    if nested is None:
        return preprocessor
    if not isinstance(nested, dict):
        raise InvalidArtifact(f"{PROCESSOR} has the image_processor {nested!r}: it must be a table")
    return msgspec.json.format(msgspec.json.encode(nested))


def read(config: bytes, preprocessor: bytes | None) -> CheckpointFacts:
    """Read the two files.

    Args:
        config: Content of ``config.json``.
        preprocessor: Content of ``preprocessor_config.json``; None takes the defaults of the
            architecture's image processor.

    Raises:
        InvalidArtifact: A file is not JSON, the detector is not a known one, or a setting cannot
            be reproduced.
    """
    plain = _json(config, CONFIG)
    model_type = str(plain.get("model_type"))
    if model_type not in ARCHITECTURES:
        raise InvalidArtifact(
            f"{CONFIG} describes a model of type {model_type!r}",
            hint=f"known detectors: {', '.join(ARCHITECTURES)}",
        )
    heads = plain.get("architectures") or []
    if not isinstance(heads, list):
        raise InvalidArtifact(f"{CONFIG} has architectures {heads!r}: it must be a list")
    heads = [str(name) for name in heads]
    if heads and not any(name.endswith("ForObjectDetection") for name in heads):
        raise InvalidArtifact(f"{CONFIG} describes {', '.join(heads)}, which detects no objects")
    if plain.get("use_focal_loss") is False:
        raise InvalidArtifact(
            f"{CONFIG} has use_focal_loss false: its scores are not made by a sigmoid"
        )
    architecture = ARCHITECTURES[model_type]
    settings = _json(preprocessor, PREPROCESSOR) if preprocessor is not None else {}
    # transformers takes its default for null, too.
    settings = {key: value for key, value in settings.items() if value is not None}
    queries = plain.get("num_queries", architecture.queries)
    if type(queries) is not int or queries < 1:
        raise InvalidArtifact(
            f"{CONFIG} has num_queries {queries!r}: it must be a whole number from 1 on"
        )
    scale = 1.0
    if settings.get("do_rescale", True):
        factor = _number(settings.get("rescale_factor", 1 / 255), "rescale_factor")
        scale = 1.0 / factor
        if not math.isfinite(scale):
            raise InvalidArtifact(f"{PREPROCESSOR} has {factor!r} for rescale_factor: it is 0")
    return CheckpointFacts(
        model_type=model_type,
        labels=_labels(plain),
        queries=queries,
        preprocessing=_preprocessing(settings, architecture),
        scale=scale,
        mean_std=_mean_std(settings, architecture),
    )


def _json(data: bytes, name: str) -> dict[str, Any]:
    try:
        text = as_utf8(data, origin=name, error=InvalidArtifact)
        return msgspec.json.decode(text, type=dict[str, Any])
    except UNDECODABLE as error:
        raise InvalidArtifact(f"{name} cannot be read: {error}") from error


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    table = config.get("id2label")
    if not isinstance(table, dict) or not table:
        raise InvalidArtifact(
            f"{CONFIG} names no classes (id2label)", hint="add id2label: number -> name"
        )
    numbers = sorted(table, key=lambda key: (len(key), key))
    if numbers != [str(index) for index in range(len(table))]:
        raise InvalidArtifact(
            f"{CONFIG} has an id2label that does not number its {len(table)} classes from 0 on",
            hint="fill the gaps with N/A, as facebook/detr-resnet-50 does",
        )
    for number in numbers:
        name = table[number]
        if (
            isinstance(name, bool)
            or not isinstance(name, str | int | float)
            or not str(name).strip()
        ):
            raise InvalidArtifact(
                f"{CONFIG} has the name {name!r} for class {number}",
                hint="write its name, or N/A for a class that has none",
            )
    return tuple(str(table[number]) for number in numbers)


def _preprocessing(settings: dict[str, Any], architecture: Architecture) -> Preprocessing:
    if settings.get("resample", BILINEAR) != BILINEAR:
        raise InvalidArtifact(f"{PREPROCESSOR} resamples by {settings['resample']}, not bilinearly")
    if not settings.get("do_resize", True):
        raise InvalidArtifact(f"{PREPROCESSOR} does not resize images")
    size = settings.get("size", architecture.size)
    if isinstance(size, int):  # until transformers 4.27: 800, with max_size beside it
        size = {"shortest_edge": size, "longest_edge": settings.get("max_size", 1333)}
    if not isinstance(size, dict):
        raise _unknown_size(size)
    keys = set(size)
    if keys == {"height", "width"}:
        canvas = (_side(size["height"]), _side(size["width"]))
        padded = _pad_size(settings) if _pads(settings, architecture) else None
        if padded not in (None, canvas):
            raise InvalidArtifact(
                f"{PREPROCESSOR} stretches images to {canvas[0]} x {canvas[1]} pixels (height x "
                f"width) and pads them to {padded[0]} x {padded[1]} (pad_size), which is not "
                "reproduced here",
                hint='set "do_pad": false where the model was trained without padding; else train '
                "it again without pad_size",
            )
        return Preprocessing(canvas, "stretch", 0, antialias=True)
    if keys == {"shortest_edge", "longest_edge"} and architecture.masked:
        edges = (_side(size["shortest_edge"]), _side(size["longest_edge"]))
        # Also without do_pad: the mask leaves the padding out.
        canvas = _pad_size(settings) or (edges[1], edges[1])
        return Preprocessing(canvas, "shortest_edge", 0, antialias=True, edges_px=edges)
    raise _unknown_size(size)


def _pads(settings: dict[str, Any], architecture: Architecture) -> bool:
    """Whether images are padded; by default where the network takes a mask."""
    old = settings.get("pad_and_return_pixel_mask", architecture.masked)
    return bool(settings.get("do_pad", old))


def _pad_size(settings: dict[str, Any]) -> tuple[int, int] | None:
    """(height, width) that images are padded to; None for those of the largest in a batch."""
    pad = settings.get("pad_size")
    if not pad:
        return None
    if not isinstance(pad, dict) or not {"height", "width"} <= set(pad):
        raise InvalidArtifact(f"{PREPROCESSOR} has the pad_size {pad!r}: no height and width")
    return _side(pad["height"]), _side(pad["width"])


def _side(value: Any) -> int:
    if not isinstance(value, int) or value not in SIZES_PX:
        raise InvalidArtifact(f"{PREPROCESSOR} asks for a side of {value!r} pixels")
    return value


def _unknown_size(size: Any) -> InvalidArtifact:
    if isinstance(size, dict) and set(size) == {"max_height", "max_width"}:
        sides = {key.removeprefix("max_"): value for key, value in size.items()}
        return InvalidArtifact(
            f"{PREPROCESSOR} has the size {size!r}: transformers pads such images, and the files "
            "do not say whether boxes are fractions of the image or of the padded canvas",
            hint=f'train the model again with "size": {json.dumps(sides)}, without pad_size and '
            'with "do_pad": false, which stretches images; then import it',
        )
    return InvalidArtifact(
        f"{PREPROCESSOR} has the size {size!r}",
        hint="known: height and width; and for DETR shortest_edge and longest_edge",
    )


def _mean_std(
    settings: dict[str, Any], architecture: Architecture
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if not settings.get("do_normalize", architecture.normalised):
        return None
    found = []
    for key, default in zip(("image_mean", "image_std"), IMAGENET, strict=True):
        values = settings.get(key, default)
        if not isinstance(values, list | tuple) or len(values) != 3:
            raise InvalidArtifact(f"{PREPROCESSOR} has {key} {values!r}: three numbers are needed")
        found.append(tuple(_number(x, key, zero=key == "image_mean") for x in values))
    return found[0], found[1]


def _number(value: Any, key: str, *, zero: bool = False) -> float:
    """A setting as a number, above 0 unless it may be `zero` or less."""
    sound = isinstance(value, int | float) and not isinstance(value, bool)
    if (
        not sound
        or not -sys.float_info.max <= value <= sys.float_info.max
        or not (zero or value > 0)
    ):
        what = "a number" if zero else "a number above 0"
        raise InvalidArtifact(f"{PREPROCESSOR} has {value!r} for {key}: it is not {what}")
    return float(value)
