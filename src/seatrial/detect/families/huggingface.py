"""What a Hugging Face detector's ``config.json`` and ``preprocessor_config.json`` say.

Read without transformers or torch: a checkpoint is understood where it arrives, and run where
those are installed.

Source: transformers ``models/*/configuration_*.py`` and ``image_processing_pil_*.py``.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from seatrial.artifact import Preprocessing
from seatrial.errors import InvalidArtifact

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
BILINEAR = 2  # PIL.Image.Resampling.BILINEAR, as preprocessor_config.json writes it
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIZES_PX = range(32, 4097)


class Architecture(msgspec.Struct, frozen=True):
    """A kind of checkpoint that is known.

    Attributes:
        variant: Of the family ``detr``: how its logits are read.
        masked: It takes a ``pixel_mask``, so its pictures may be padded.
        head: Name of the classification weight in the checkpoint, ``(classes, width)``; one of
            several where the decoder's layers have one each.
        queries: Default number of queries.
        size: Default of its image processor.
        normalised: The same: by ImageNet's mean and deviation.
    """

    variant: Literal["detr", "sigmoid"]
    masked: bool
    head: str
    queries: int
    size: dict[str, int]
    normalised: bool


_STRETCHED = {"height": 640, "width": 640}
_RT_DETR = Architecture("sigmoid", False, "decoder.class_embed.0.weight", 300, _STRETCHED, False)
ARCHITECTURES = {
    "detr": Architecture(
        "detr",
        True,
        "class_labels_classifier.weight",
        100,
        {"shortest_edge": 800, "longest_edge": 1333},
        True,
    ),
    "rt_detr": _RT_DETR,
    "rt_detr_v2": _RT_DETR,
    "d_fine": _RT_DETR,
}


class Facts(msgspec.Struct, frozen=True):
    """What the two files say together.

    Attributes:
        model_type: Key of `ARCHITECTURES`.
        labels: Class names; the index is ``class_id``.
        queries: Boxes a picture.
        preprocessing: How pictures are fitted.
        scale: Pixel values, 0-255, are divided by this.
        mean_std: Means and deviations of the scaled values, None where it wants them as they are.
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


def read(config: bytes, preprocessor: bytes | None) -> Facts:
    """Read the two files.

    Args:
        config: Content of ``config.json``.
        preprocessor: Content of ``preprocessor_config.json``; None takes the defaults of the
            architecture's image processor.

    Raises:
        InvalidArtifact: Not JSON, not a detector that is known, or a setting that is not
            reproduced here.
    """
    plain = _json(config, CONFIG)
    model_type = str(plain.get("model_type"))
    if model_type not in ARCHITECTURES:
        raise InvalidArtifact(
            f"{CONFIG} describes a model of type {model_type!r}",
            hint=f"detectors that are known: {', '.join(ARCHITECTURES)}",
        )
    heads = [str(name) for name in plain.get("architectures") or []]
    if heads and not any(name.endswith("ForObjectDetection") for name in heads):
        raise InvalidArtifact(f"{CONFIG} describes {', '.join(heads)}, which detects no objects")
    if plain.get("use_focal_loss") is False:
        raise InvalidArtifact(f"{CONFIG} has use_focal_loss false: its logits are no sigmoids")
    architecture = ARCHITECTURES[model_type]
    settings = _json(preprocessor, PREPROCESSOR) if preprocessor is not None else {}
    return Facts(
        model_type,
        _labels(plain),
        int(plain.get("num_queries", architecture.queries)),
        _preprocessing(settings, architecture),
        1.0 / settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0,
        _mean_std(settings, architecture),
    )


def _json(data: bytes, name: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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
    return tuple(str(table[number]) for number in numbers)


def _preprocessing(settings: dict[str, Any], architecture: Architecture) -> Preprocessing:
    if settings.get("resample", BILINEAR) != BILINEAR:
        raise InvalidArtifact(f"{PREPROCESSOR} resamples by {settings['resample']}, not bilinearly")
    if not settings.get("do_resize", True):
        raise InvalidArtifact(f"{PREPROCESSOR} leaves pictures at their own sizes")
    size = settings.get("size", architecture.size)
    if isinstance(size, int):  # until transformers 4.27: 800, with max_size beside it
        size = {"shortest_edge": size, "longest_edge": settings.get("max_size", 1333)}
    if not isinstance(size, dict):
        raise _unknown_size(size)
    keys = set(size)
    if keys == {"height", "width"}:
        canvas = (_side(size["height"]), _side(size["width"]))
        return Preprocessing(canvas, "stretch", 0, antialias=True)
    if keys == {"shortest_edge", "longest_edge"} and architecture.masked:
        edges = (_side(size["shortest_edge"]), _side(size["longest_edge"]))
        pad = settings.get("pad_size") or {"height": edges[1], "width": edges[1]}
        canvas = (_side(pad["height"]), _side(pad["width"]))
        return Preprocessing(canvas, "shortest_edge", 0, antialias=True, edges_px=edges)
    raise _unknown_size(size)


def _side(value: Any) -> int:
    if not isinstance(value, int) or value not in SIZES_PX:
        raise InvalidArtifact(f"{PREPROCESSOR} asks for a side of {value!r} pixels")
    return value


def _unknown_size(size: Any) -> InvalidArtifact:
    return InvalidArtifact(
        f"{PREPROCESSOR} has the size {size!r}",
        hint="known: height and width; and for DETR shortest_edge and longest_edge",
    )


def _mean_std(
    settings: dict[str, Any], architecture: Architecture
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if not settings.get("do_normalize", architecture.normalised):
        return None
    mean = tuple(float(x) for x in settings.get("image_mean", IMAGENET[0]))
    std = tuple(float(x) for x in settings.get("image_std", IMAGENET[1]))
    if len(mean) != 3 or len(std) != 3 or not all(std):
        raise InvalidArtifact(f"{PREPROCESSOR} has image_mean {mean} and image_std {std}")
    return mean, std
