"""Facts in the metadata of Ultralytics' exports, and in that of YOLOv5's.

Source: ultralytics ``engine/exporter.py`` (metadata) and ``nn/modules/head.py`` (RTDETRDecoder);
yolov5 ``export.py``.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from seatrial.errors import InvalidArtifact
from seatrial.graphs.signature import GraphSignature

PAD_VALUE = 114
SIZES_PX = range(32, 4097)
EXPORT_AGAIN = "export it again with Ultralytics (yolo export model=NAME.pt format=onnx)"
EXPORT_FIXED = (
    "export it again without dynamic=True (yolo export model=NAME.pt format=onnx imgsz=640)"
)
# What literal_eval raises, and what is not a table of the wanted things.
UNREADABLE = (
    KeyError, IndexError, ValueError, TypeError, SyntaxError, OverflowError, MemoryError,
    RecursionError,
)  # fmt: skip
KEPT = ("description", "version", "date", "stride", "batch", "head", "end2end", "args")


def is_export(graph: GraphSignature) -> bool:
    """Whether Ultralytics wrote the file."""
    facts = graph.metadata
    return "Ultralytics" in facts.get("author", "") + facts.get("description", "")


def is_rt_detr(graph: GraphSignature) -> bool:
    """Whether an export of Ultralytics has RT-DETR's decoder instead of a YOLO head."""
    facts = graph.metadata
    if "head" in facts:  # from 8.4 on
        return facts["head"] == "RTDETRDecoder"
    named = re.search(r"rt-?detr", facts.get("description", ""), re.IGNORECASE)
    return named is not None or "GridSample" in graph.operators  # deformable attention


def has_nms(graph: GraphSignature) -> bool:
    """Whether the settings of an export say that NMS is in its graph; from 8.3 on."""
    try:
        return ast.literal_eval(graph.metadata["args"])["nms"] is True
    except UNREADABLE:
        return False


def check_detector(graph: GraphSignature) -> None:
    """Check that an export detects objects, from one image to one output.

    Raises:
        InvalidArtifact: It is for another task, or has more inputs or outputs.
    """
    task = graph.metadata.get("task")
    if task != "detect":
        raise InvalidArtifact(
            f"an Ultralytics model for task {task!r}; only 'detect' is served",
            hint="export a detection model (yolo11n.pt, not yolo11n-seg.pt)",
        )
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise InvalidArtifact(f"an Ultralytics export with {graph.describe()}")


def labels(graph: GraphSignature) -> tuple[str, ...]:
    """Class names in the metadata, which are a Python dictionary or list.

    Raises:
        InvalidArtifact: There are none, or they cannot be read.
    """
    names = graph.metadata.get("names", "")
    try:
        table: Any = ast.literal_eval(names)
        if not isinstance(table, dict | list | tuple):
            raise ValueError(names)
        found = tuple(_name(table[index]) for index in range(len(table)))
    except UNREADABLE as error:
        raise InvalidArtifact(
            f"the class names in the model's metadata cannot be read: {names[:80]!r}",
            hint=EXPORT_AGAIN,
        ) from error
    if not found:
        raise InvalidArtifact("the model's metadata names no classes", hint=EXPORT_AGAIN)
    return found


def _name(value: object) -> str:
    """A class name; numbers are names too.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(value)
    if not str(value).strip():
        raise ValueError(value)
    return str(value)


def facts(graph: GraphSignature) -> dict[str, str]:
    """The facts that an artifact's step keeps."""
    return {key: graph.metadata[key] for key in KEPT if key in graph.metadata}


def size_hw(graph: GraphSignature) -> tuple[int, int]:
    """Canvas size: of the graph where it is fixed, else of the metadata.

    Raises:
        InvalidArtifact: The input is no image, or neither says the size.
    """
    if fixed := graph.image_hw():
        return fixed
    try:
        sides: Any = ast.literal_eval(graph.metadata["imgsz"])
        height, width = (sides, sides) if isinstance(sides, int) else sides
        size = int(height), int(width)
    except UNREADABLE as error:
        raise InvalidArtifact(
            "the input size is dynamic and the metadata has no usable 'imgsz'",
            hint="say the size that it was trained at: --imgsz 640",
        ) from error
    if size[0] not in SIZES_PX or size[1] not in SIZES_PX:
        raise InvalidArtifact(f"the input size {size} is out of range")
    return size
