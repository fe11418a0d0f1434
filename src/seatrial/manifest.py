"""Manifests: the description of an artifact, as it stands in its ``manifest.json``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec

from seatrial.errors import InvalidArtifact, InvalidInput

SCHEMA: Literal[1] = 1
Resize = Literal["letterbox", "stretch", "shortest_edge"]
Align = Literal["center", "top_left"]
Interpolation = Literal["linear", "area"]


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output of a graph.

    Attributes:
        name: Tensor name in the graph.
        dtype: numpy name, for example ``"uint8"``.
        shape: Sizes; -1 where the graph takes any size.
        layout: One letter for each dimension, for example ``"NHWC"``; empty where not known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str = ""


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image becomes the input of the graph; normalisation is in the graph.

    Attributes:
        size_hw: Canvas (height, width), pixels.
        resize: ``letterbox`` keeps the aspect ratio and pads the rest; ``stretch`` fills the
            canvas; ``shortest_edge`` keeps the aspect ratio, by the lengths in ``edges_px``, and
            pads right and below.
        pad_value: Grey level of the padding, 0-255.
        half_pixel_centers: Where a pixel of a stretched image is sampled: at its centre (OpenCV,
            PIL, PyTorch) or at its corner (TensorFlow 1's ``resize_bilinear``, OpenCV's
            ``warpPerspective``).
        antialias: Whether an image that is made smaller is averaged over the pixels that fall
            together (PIL, torchvision) instead of sampled between two (OpenCV).
        edges_px: For ``shortest_edge``: length of the shorter side, and largest length of the
            longer side.
        align: For ``letterbox``: ``center`` pads on both sides, as Ultralytics does; ``top_left``
            pads right and below, and rounds the sides down, as YOLOX does.
        interpolation: ``linear``; or ``area``, OpenCV's ``INTER_AREA``, where an image is made
            smaller.

    Raises:
        InvalidArtifact: A value is out of its range, or two fields exclude one another.
    """

    size_hw: tuple[int, int]
    resize: Resize
    pad_value: int = 114
    half_pixel_centers: bool = True
    antialias: bool = False
    edges_px: tuple[int, int] | None = None
    align: Align = "center"
    interpolation: Interpolation = "linear"

    def __post_init__(self) -> None:
        smaller = self.antialias or self.interpolation == "area"
        wrong = {
            f"size_hw {self.size_hw}": min(self.size_hw) < 1,
            f"pad_value {self.pad_value}": not 0 <= self.pad_value <= 255,
            f"align with {self.resize}": self.align != "center" and self.resize != "letterbox",
            f"edges_px with {self.resize}": bool(self.edges_px) and self.resize != "shortest_edge",
            f"half_pixel_centers = false with {self.resize}": not self.half_pixel_centers
            and self.resize != "stretch",
            "half_pixel_centers = false with antialias or area": not self.half_pixel_centers
            and smaller,
            "antialias with area": self.antialias and self.interpolation == "area",
        }
        if found := [what for what, is_wrong in wrong.items() if is_wrong]:
            raise InvalidArtifact(
                f"there is no preprocessing of {found[0]}",
                hint="see Preprocessing in docs/guides/add-a-family.md for what goes together",
            )


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of an artifact: path in the folder, sha256 in hex, size in bytes."""

    path: str
    sha256: str
    size_bytes: int


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the model came from: a URI that a person can follow, and the sha256 of the content."""

    uri: str
    sha256: str


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The step that made the artifact, its configuration, and the tools' versions."""

    name: str
    config: dict[str, Any] = {}
    versions: dict[str, str] = {}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Description of an artifact.

    Attributes:
        name: Name of the artifact, unique in a store.
        family: Name in the table of families, for example ``"yolo"``.
        variant: Output layout within the family.
        formats: Format name (``onnx``, ``openvino``) -> file in the folder that an engine opens.
        precision: Numeric type of the weights in the files, for example ``"f32"``.
        labels: Class names; ``class_id`` is the index.
        confidence: Lowest confidence reported where neither a deployment nor a call says another.
        iou: The same for the overlap above which boxes of one class are one object (NMS).
        licence: Licence of the weights.
        parent: Digest of the manifest that this artifact was made from; None for an acquired one.
        step: Step that made this artifact.
        metrics: Figures measured on this artifact, for example ``{"coco_ap": 0.44}``.
        files: All files in the folder but the manifest.
    """

    schema: Literal[1] = SCHEMA
    name: str
    family: str
    variant: str = ""
    task: Literal["object-detection"] = "object-detection"
    formats: dict[str, str]
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    confidence: float = 0.25
    iou: float = 0.7
    licence: str
    source: Provenance
    parent: str | None = None
    step: Step
    metrics: dict[str, float] = {}
    files: tuple[ModelFile, ...] = ()


# A folder, a part of a URL and a model of Triton have this name.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
# Words of tables, ours and those of other packages; empty where there is none.
_WORD = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._+-]{0,99})?")
_TYPE = re.compile(r"[A-Za-z0-9_]{0,40}")
_DIGEST = re.compile(r"[0-9a-f]{0,64}")
_PATH = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,1024}")


def check_name(name: str) -> str:
    """Check the name of an artifact, which is also the name of a folder and a part of a URL.

    Raises:
        InvalidInput: Its characters or its length do not fit.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot name an artifact",
            hint="use a-z, 0-9, '.', '_' and '-'; the first a letter or a digit",
        )
    return name


def check_texts(manifest: Manifest, origin: Path) -> None:
    """Refuse a manifest with a text that is unsafe where it becomes a part of a path or of a file.

    Labels, tensors' names, licence and source are any texts: whoever writes them quotes them.

    Args:
        manifest: The manifest, of whoever made the artifact.
        origin: Its file, for the error.

    Raises:
        InvalidArtifact: The name, a path, a word or a digest is none.
    """
    try:
        check_name(manifest.name)
    except InvalidInput as error:
        raise InvalidArtifact(
            f"{origin}: name: {error.message}",
            hint=f"{error.hint}; import or pull the model again under such a name (--name)",
        ) from error
    again = "pull or import the model again, with --replace"
    for text in (*(entry.path for entry in manifest.files), *manifest.formats.values()):
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidArtifact(
                f"{origin} names the file {text!r}, which is outside of the artifact's folder",
                hint=again,
            )
        if not path.parts or not _PATH.fullmatch(text):
            raise InvalidArtifact(f"{origin}: {text!r} is not the path of a file", hint=again)
    for key, text, pattern in _words(manifest):
        if not pattern.fullmatch(text):
            raise InvalidArtifact(f"{origin}: {key} cannot be {text!r}", hint=again)


def _words(manifest: Manifest) -> Iterator[tuple[str, str, re.Pattern[str]]]:
    """Key, text and form of each text that is a word, a type or a digest."""
    yield "family", manifest.family, _WORD
    yield "variant", manifest.variant, _WORD
    yield "precision", manifest.precision, _WORD
    yield "step.name", manifest.step.name, _WORD
    yield "parent", manifest.parent or "", _DIGEST
    for name in manifest.formats:
        yield "a name of formats", name, _WORD
    for tensor in (*manifest.inputs, *manifest.outputs):
        yield "a tensor's dtype", tensor.dtype, _TYPE
        yield "a tensor's layout", tensor.layout, _TYPE
    for entry in manifest.files:
        yield f"the sha256 of {entry.path}", entry.sha256, _DIGEST
