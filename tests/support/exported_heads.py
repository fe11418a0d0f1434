"""Small graphs whose arithmetic is that of exporters whose libraries are not installed.

One convolution a stride, with random weights, takes the place of the network; the head behind it,
the input's values and the outputs are as the library has them. What a library makes of the outputs
is computed here a second time, without Seatrial, from the very file that is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
ANCHORS = ((10, 13), (16, 30), (33, 23))  # pixels, of every map


class Builder:
    """Nodes and constants of a graph."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.chance = np.random.default_rng(seed)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def columns(self, tensor: str, begin: int, end: int) -> str:
        """A slice along the last axis."""
        places = [self.constant(np.array([x], np.int64)) for x in (begin, end, -1)]
        return self.add("Slice", tensor, *places)

    def maps(self, image: str, channels: int, stride: int, *, spread: float, bias: Any) -> str:
        """(1, cells, channels) of random weights, of a deviation of about `spread` on noise."""
        shape = (channels, 3, stride, stride)
        weights = self.chance.normal(0, spread / np.sqrt(3 * stride**2), shape).astype(np.float32)
        conv = self.add(
            "Conv", image, self.constant(weights), self.constant(np.asarray(bias, np.float32)),
            strides=[stride] * 2,
        )  # fmt: skip
        flat = self.add("Reshape", conv, self.constant(np.array([1, channels, -1], np.int64)))
        return self.add("Transpose", flat, perm=[0, 2, 1])

    def write(
        self, path: Path, size_hw: tuple[int, int], outputs: dict[str, tuple[str, list[int]]]
    ) -> Path:
        """Write the graph: name of an output -> its tensor and shape."""
        ends = [helper.make_node("Identity", [t], [name]) for name, (t, _) in outputs.items()]
        graph = helper.make_graph(
            [*self.nodes, *ends],
            "head",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size_hw])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, (_, shape) in outputs.items()
            ],
            self.constants,
        )
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
        return path


def cells(size_hw: tuple[int, int], stride: int) -> np.ndarray:
    """Column and row of each cell, (cells, 2)."""
    y, x = np.mgrid[: size_hw[0] // stride, : size_hw[1] // stride]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def yolox(path: Path, *, size_hw: tuple[int, int], classes: int, decoded: bool = False) -> Path:
    """YOLOX: [1, A, 5 + classes], of BGR values 0-255."""
    b = Builder(1)
    parts = []
    for stride in STRIDES:
        bias = [0.5, 0.5, 1, 1, -1] + [0] * classes
        raw = b.maps("images", 5 + classes, stride, spread=0.02, bias=bias)
        centre, size = b.columns(raw, 0, 2), b.columns(raw, 2, 4)
        if decoded:
            scale = b.constant(np.float32(stride))
            centre = b.add("Add", centre, b.constant(cells(size_hw, stride)[None]))
            centre, size = b.add("Mul", centre, scale), b.add("Exp", size)
            size = b.add("Mul", size, scale)
        scores = b.add("Sigmoid", b.columns(raw, 4, 5 + classes))
        parts.append(b.add("Concat", centre, size, scores, axis=2))
    count = sum(len(cells(size_hw, stride)) for stride in STRIDES)
    output = b.add("Concat", *parts, axis=1)
    return b.write(path, size_hw, {"output": (output, [1, count, 5 + classes])})


def yolov5(path: Path, *, size_hw: tuple[int, int], classes: int) -> Path:
    """YOLOv5 and YOLOv7: [1, A, 5 + classes] with three anchors a cell, of RGB values 0-1."""
    b = Builder(2)
    parts = []
    for stride in STRIDES:
        grid = cells(size_hw, stride)[None]
        for anchor in ANCHORS:
            bias = [0] * 4 + [-1] + [0] * classes
            raw = b.maps("images", 5 + classes, stride, spread=4, bias=bias)
            raw = b.add("Sigmoid", raw)
            twice = b.add("Mul", b.columns(raw, 0, 4), b.constant(np.float32(2)))
            centre = b.add("Add", b.columns(twice, 0, 2), b.constant(grid - np.float32(0.5)))
            centre = b.add("Mul", centre, b.constant(np.float32(stride)))
            size = b.columns(twice, 2, 4)
            size = b.add("Mul", b.add("Mul", size, size), b.constant(np.array(anchor, np.float32)))
            parts.append(b.add("Concat", centre, size, b.columns(raw, 4, 5 + classes), axis=2))
    count = len(ANCHORS) * sum(len(cells(size_hw, stride)) for stride in STRIDES)
    output = b.add("Concat", *parts, axis=1)
    return b.write(path, size_hw, {"output0": (output, [1, count, 5 + classes])})


def rf_detr(path: Path, *, size_hw: tuple[int, int], classes: int) -> Path:
    """RF-DETR: dets [1, Q, 4], fractions of the image, and logits labels [1, Q, classes]."""
    b = Builder(3)
    raw = b.maps("images", 4 + classes, 16, spread=1.0, bias=[0, 0, -1, -1] + [-3.2] * classes)
    boxes = b.add("Sigmoid", b.columns(raw, 0, 4))
    count = len(cells(size_hw, 16))
    logits = b.columns(raw, 4, 4 + classes)
    outputs = {"dets": (boxes, [1, count, 4]), "labels": (logits, [1, count, classes])}
    return b.write(path, size_hw, outputs)


def nanodet(path: Path, *, size_hw: tuple[int, int], classes: int) -> Path:
    """NanoDet-Plus: [1, A, classes + 32], of normalised BGR values."""
    b = Builder(4)
    strides = (8, 16, 32, 64)
    bias = [-5] * classes + [0] * 32
    maps = [b.maps("images", classes + 32, stride, spread=1.5, bias=bias) for stride in strides]
    raw = b.add("Concat", *maps, axis=1)
    scores = b.add("Sigmoid", b.columns(raw, 0, classes))
    output = b.add("Concat", scores, b.columns(raw, classes, classes + 32), axis=2)
    count = sum(len(cells(size_hw, stride)) for stride in strides)
    return b.write(path, size_hw, {"output": (output, [1, count, classes + 32])})


def named(path: Path, **metadata: str) -> Path:
    """The same file with metadata."""
    model = onnx.load(path)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def run(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs for a float32 image [3, H, W], in ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feeds = {session.get_inputs()[0].name: np.ascontiguousarray(image[None], np.float32)}
    return dict(zip(names, session.run(names, feeds), strict=True))


def ranked(
    centred: np.ndarray, scores: np.ndarray, *, confidence: float, iou: float, agnostic: bool
) -> np.ndarray:
    """Best class of each anchor after greedy NMS: (N, 6) left, top, right, bottom, score, class."""
    best, class_id = scores.max(axis=1), scores.argmax(axis=1)
    order = [n for n in np.argsort(-best, kind="stable") if best[n] > confidence]
    boxes = np.concatenate(
        [centred[:, :2] - centred[:, 2:] / 2, centred[:, :2] + centred[:, 2:] / 2], 1
    )
    kept: list[int] = []
    for n in order:
        rivals = [m for m in kept if agnostic or class_id[m] == class_id[n]]
        if (_iou(boxes[n], boxes[rivals]) <= iou).all():
            kept.append(n)
    return np.column_stack([boxes[kept], best[kept], class_id[kept]])


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) IoU of a box with each of (N, 4) others."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + areas - shared)


def clipped(rows: np.ndarray, source_hw: tuple[int, int]) -> np.ndarray:
    """The rows with their boxes cut off at the border of the image."""
    height, width = source_hw
    rows = rows.copy()
    rows[:, :4] = np.clip(rows[:, :4], 0, [width, height] * 2)
    return rows


def noise(source_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Blurred noise of strong colours, (H, W, 3) uint8 RGB."""
    height, width = source_hw
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
