"""Postprocessing appended to an ONNX graph (``--fuse-nms``), for servers that only run graphs.

DETRs get the layout ``native``: ``labels``, ``boxes`` and ``scores`` in pixels of the source image,
whose size becomes an input. YOLO gets NMS and the layout ``end_to_end``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from seatrial.errors import InvalidInput
from seatrial.graphs.signature import BOXES, LABELS, LOGITS, PRED_BOXES, SCORES, TARGET_SIZES
from seatrial.manifest import Manifest, TensorSpec
from seatrial.system.extras import require

# Low enough for evaluation; the service applies its own threshold afterwards.
SCORE_FLOOR = 0.001
IOU = 0.7
MOST_BOXES = 300


def fuse(model: Any, manifest: Manifest) -> Manifest:
    """Append the postprocessing of an artifact's family to its graph.

    Args:
        model: ``onnx.ModelProto``; changed in place.
        manifest: Manifest of the graph without it.

    Returns:
        Manifest of the changed graph.

    Raises:
        InvalidInput: The postprocessing cannot be expressed as a graph, or the graph has it.
    """
    layout = (manifest.family, manifest.variant)
    if layout not in FUSIONS:
        known = ", ".join(f"{family} {variant}" for family, variant in FUSIONS)
        raise InvalidInput(
            f"the postprocessing of {manifest.family} {manifest.variant} cannot be put into the "
            f"graph; it can for: {known}",
            hint="leave out --fuse-nms",
        )
    return FUSIONS[layout](model, manifest)


class _Tail:
    """Appends nodes to a graph, under names that are not in use."""

    def __init__(self, model: Any) -> None:
        self.onnx = require("onnx", extra="onnxruntime", purpose="writing ONNX files")
        self.graph = model.graph

    def constant(self, value: Any) -> str:
        """Append a constant and return its name."""
        name = f"seatrial_fused_c{len(self.graph.initializer)}"
        array = np.asarray(value)
        self.graph.initializer.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def node(
        self, operator: str, inputs: Sequence[str], output: str = "", *, count: int = 1, **how: Any
    ) -> Any:
        """Append a node.

        Returns:
            Name of its output, or a list of them where `count` is more than one.
        """
        first = output or f"seatrial_fused_{len(self.graph.node)}_{operator}"
        names = [first, *(f"{first}_{index}" for index in range(1, count))]
        label = f"/seatrial/{operator}_{len(self.graph.node)}"
        self.graph.node.append(
            self.onnx.helper.make_node(operator, list(inputs), names, name=label, **how)
        )
        return first if count == 1 else names

    def part(self, tensor: str, axis: int, begin: int, end: int) -> str:
        """Append a slice along one axis and return its name."""
        places = [self.constant(np.array([x], np.int64)) for x in (begin, end, axis)]
        return str(self.node("Slice", [tensor, *places]))

    def corners(self, centred: str, axis: int) -> str:
        """Centre x, y, width, height -> left, top, right, bottom."""
        centre, size = self.part(centred, axis, 0, 2), self.part(centred, axis, 2, 4)
        half = self.node("Mul", [size, self.constant(np.float32(0.5))])
        low, high = self.node("Sub", [centre, half]), self.node("Add", [centre, half])
        return str(self.node("Concat", [low, high], axis=axis))

    def outputs(self, specs: Sequence[TensorSpec], batch: Any) -> None:
        """Replace the outputs of the graph."""
        helper = self.onnx.helper
        del self.graph.output[:]
        for spec in specs:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
            shape = [batch, *spec.shape[1:]]
            self.graph.output.append(helper.make_tensor_value_info(spec.name, kind, shape))


def _batch(model: Any) -> Any:
    """Batch size of the graph's first input: a number, or the name of an open one."""
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    return dim.dim_value or dim.dim_param or "batch"


def _fuse_detr(model: Any, manifest: Manifest) -> Manifest:
    tail, batch = _Tail(model), _batch(model)
    helper, types = tail.onnx.helper, tail.onnx.TensorProto
    open_batch = manifest.inputs[0].shape[0]
    queries = next(spec for spec in manifest.outputs if spec.name == LOGITS).shape[1]
    model.graph.input.append(helper.make_tensor_value_info(TARGET_SIZES, types.INT64, [batch, 2]))
    find = _best_softmax if manifest.variant == "detr" else _best_sigmoid
    query = find(tail, queries, len(manifest.labels))
    # GatherElements wants an index for each of the four numbers of a box.
    axis = tail.constant(np.array([2], np.int64))
    index = tail.node("Unsqueeze", [query, axis])
    fours = tail.node("Concat", [index] * 4, axis=2)
    centred = tail.node("GatherElements", [PRED_BOXES, fours], axis=1)
    size = tail.node("Cast", [TARGET_SIZES], to=types.FLOAT)
    sizes = tail.node("Concat", [size, size], axis=1)
    middle = tail.constant(np.array([1], np.int64))
    sizes = tail.node("Unsqueeze", [sizes, middle])
    tail.node("Mul", [tail.corners(centred, 2), sizes], BOXES)
    outputs = (
        TensorSpec(LABELS, "int64", (open_batch, queries)),
        TensorSpec(BOXES, "float32", (open_batch, queries, 4)),
        TensorSpec(SCORES, "float32", (open_batch, queries)),
    )
    tail.outputs(outputs, batch)
    sizes_spec = TensorSpec(TARGET_SIZES, "int64", (open_batch, 2))
    return msgspec.structs.replace(
        manifest, variant="native", inputs=(*manifest.inputs, sizes_spec), outputs=outputs
    )


def _best_sigmoid(tail: _Tail, queries: int, classes: int) -> str:
    """Write ``scores`` and ``labels``; the Q best of Q x classes. Returns the queries (N, Q)."""
    flat = tail.node("Reshape", [LOGITS, tail.constant(np.array([0, -1], np.int64))])
    count = tail.constant(np.array([queries], np.int64))
    best, place = tail.node("TopK", [flat, count], count=2, axis=1)
    tail.node("Sigmoid", [best], SCORES)
    many = tail.constant(np.int64(classes))
    tail.node("Mod", [place, many], LABELS)
    return str(tail.node("Div", [place, many]))


def _best_softmax(tail: _Tail, queries: int, classes: int) -> str:
    """Write ``scores`` and ``labels``, most confident first. Returns the queries (N, Q)."""
    chances = tail.part(tail.node("Softmax", [LOGITS], axis=2), 2, 0, classes)
    one = tail.constant(np.array([1], np.int64))
    score, label = tail.node("TopK", [chances, one], count=2, axis=2)
    last = tail.constant(np.array([2], np.int64))
    score, label = (tail.node("Squeeze", [tensor, last]) for tensor in (score, label))
    count = tail.constant(np.array([queries], np.int64))
    _, query = tail.node("TopK", [score, count], SCORES, count=2, axis=1)
    tail.node("GatherElements", [label, query], LABELS, axis=1)
    return str(query)


def _fuse_yolo(model: Any, manifest: Manifest) -> Manifest:
    if manifest.inputs[0].shape[0] != 1:
        raise InvalidInput(
            "NMS goes only into a YOLO graph of one image at a time",
            hint="leave out --dynamic-batch or --fuse-nms",
        )
    tail = _Tail(model)
    # The old output becomes an inner tensor; the new one may not have its name.
    old, classes = manifest.outputs[0].name, len(manifest.labels)
    centred = tail.node("Transpose", [tail.part(old, 1, 0, 4)], perm=[0, 2, 1])
    scores = tail.part(old, 1, 4, 4 + classes)
    # An anchor gives a box for its best class alone, as postprocessing outside the graph does.
    best = tail.node("ReduceMax", [scores], axes=[1], keepdims=1)
    is_best = tail.node("Equal", [scores, best])
    nothing = tail.constant(np.float32(0))
    scores = tail.node("Where", [is_best, scores, nothing])
    limits = [
        tail.constant(np.array([MOST_BOXES], np.int64)),
        tail.constant(np.array([IOU], np.float32)),
        tail.constant(np.array([SCORE_FLOOR], np.float32)),
    ]
    kept = tail.node("NonMaxSuppression", [centred, scores, *limits], center_point_box=1)
    score = tail.node("GatherND", [scores, kept])
    last = tail.constant(np.array([1], np.int64))
    class_id = tail.node("Squeeze", [tail.part(kept, 1, 1, 2), last])
    anchor = tail.node("Squeeze", [tail.part(kept, 1, 2, 3), last])
    first = tail.constant(np.array([0], np.int64))
    boxes = tail.node("Squeeze", [tail.corners(centred, 2), first])
    boxes = tail.node("Gather", [boxes, anchor], axis=0)
    columns = [
        tail.node("Unsqueeze", [tensor, last])
        for tensor in (score, tail.node("Cast", [class_id], to=tail.onnx.TensorProto.FLOAT))
    ]
    rows = tail.node("Concat", [boxes, *columns], axis=1)
    # Rows of confidence 0 fill the output up to its fixed size.
    filled = tail.node(
        "Concat", [rows, tail.constant(np.zeros((MOST_BOXES, 6), np.float32))], axis=0
    )
    ranked = tail.node("Concat", [score, tail.constant(np.zeros(MOST_BOXES, np.float32))], axis=0)
    count = tail.constant(np.array([MOST_BOXES], np.int64))
    _, order = tail.node("TopK", [ranked, count], count=2, axis=0)
    chosen = tail.node("Gather", [filled, order], axis=0)
    outputs = (TensorSpec("detections", "float32", (1, MOST_BOXES, 6)),)
    tail.node("Unsqueeze", [chosen, first], outputs[0].name)
    tail.outputs(outputs, 1)
    return msgspec.structs.replace(manifest, variant="end_to_end", outputs=outputs)


FUSIONS = {
    ("detr", "detr"): _fuse_detr,
    ("detr", "sigmoid"): _fuse_detr,
    ("yolo", "anchors"): _fuse_yolo,
}
