"""Options of an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import msgspec
from cyclopts import Parameter

from seatrial.deployment import Precision
from seatrial.errors import InvalidInput
from seatrial.manifest import Manifest, Preprocessing
from seatrial.models.facts import read_size

Format = Literal["onnx", "openvino", "tensorrt", "torch"]
FORMATS: tuple[str, ...] = get_args(Format)
PRECISIONS = {
    "onnx": ("f32", "f16"),
    "openvino": ("f32", "f16", "bf16"),
    "tensorrt": ("f32", "f16"),
    "torch": ("f32", "bf16"),
}
HINTS = {
    ("onnx", "bf16"): "bf16 is what an engine computes in: export to openvino or torch, or serve a "
    "float32 artifact with --precision bf16",
    ("torch", "f16"): "export f32; a GPU serves it with --precision f16",
}
STRIDE_PX = 32  # stride of the coarsest feature map of all known detectors


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        to: Format.
        precision: f32; f16: weights in half precision, what is sensitive stays float32 (onnx,
            openvino, tensorrt); bf16: float32 weights, proven as computed in bf16 (openvino,
            torch).
        dynamic_batch: Take any number of images at once; else one.
        imgsz: Canvas, 32 to 4096 pixels: 640 or 480x640 (height x width) [default: the
            model's own].
        fuse_nms: Put the postprocessing into the graph.
    """

    to: Format
    precision: Precision = "f32"
    dynamic_batch: bool = False
    imgsz: Annotated[
        tuple[int, int] | None,
        Parameter(converter=read_size, n_tokens=1, metavar="SIZE"),
    ] = None
    fuse_nms: bool = False

    def config(self) -> dict[str, Any]:
        """The options as plain values, for the manifest's step."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def check(options: ExportOptions) -> None:
    """Check that the options go together.

    Raises:
        InvalidInput: They do not; the hint says which do.
    """
    if options.to not in FORMATS:
        raise InvalidInput(f"unknown format {options.to!r}", hint=f"known: {', '.join(FORMATS)}")
    if options.precision not in PRECISIONS[options.to]:
        known = ", ".join(PRECISIONS[options.to])
        raise InvalidInput(
            f"there is no {options.precision} for {options.to}; there is: {known}",
            hint=HINTS.get((options.to, options.precision), f"use --precision {known}"),
        )
    if options.dynamic_batch and options.to == "tensorrt":
        raise InvalidInput(
            "a TensorRT engine is built for one image at a time, which is what a lane runs",
            hint="leave out --dynamic-batch; an ONNX graph with it is what other builders take",
        )
    if options.imgsz is not None:
        for side in options.imgsz:
            if not STRIDE_PX <= side <= 4096:
                raise InvalidInput(f"a canvas of {side} pixels", hint="use 32 to 4096 pixels")


def resized(manifest: Manifest, imgsz: tuple[int, int] | None) -> Preprocessing:
    """The parent's preprocessing on another canvas.

    A DETR's edges are scaled with the canvas, so that an image fills it as it did before.

    Raises:
        InvalidInput: The canvas does not suit the family.
    """
    old = manifest.preprocessing
    if imgsz is None or imgsz == old.size_hw:
        return old
    if manifest.family == "yolo" and any(side % STRIDE_PX for side in imgsz):
        raise InvalidInput(
            f"a YOLO canvas of {imgsz[0]} x {imgsz[1]} pixels",
            hint=f"use multiples of {STRIDE_PX}",
        )
    if old.resize != "shortest_edge" or old.edges_px is None:
        return msgspec.structs.replace(old, size_hw=imgsz)
    shortest, longest = old.edges_px
    most = max(imgsz)
    edges = (min(*imgsz, round(most * shortest / longest)), most)
    return msgspec.structs.replace(old, size_hw=imgsz, edges_px=edges)
