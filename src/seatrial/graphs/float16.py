"""Half precision in the parts of an ONNX graph where it is enough.

`to_float16` converts the computation; it uses ``onnxruntime.transformers.float16``.
`narrow_weights` converts stored weights only. These parts stay float32:

- The tail: everything after the last layer with weights. It turns logits and distances into boxes
  in pixels; half precision has steps of half a pixel at 640.
- Normalisation, softmax and sampling grids (`SENSITIVE`): sums of squares overflow at 65504, and
  grid coordinates round to neighbouring pixels. DETR needs LayerNorm in float32 most.
- Arithmetic between the layers: SiLU then rounds once, as a fused kernel does, and the boxes that
  a DETR's decoder refines from layer to layer keep their places: without it those of D-FINE moved
  by a pixel. ``benchmarks/export.py`` measures the loss of AP.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seatrial.errors import InvalidArtifact
from seatrial.system.extras import require

SENSITIVE = (
    "LayerNormalization",
    "Softmax",
    "ReduceMean",
    "Pow",
    "Sqrt",
    "Exp",
    "Log",
    "GridSample",
    "Resize",
    "CumSum",
    "Sin",
    "Cos",
    "Sigmoid",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Clip",
)
FLOAT, FLOAT16 = 1, 10  # values of onnx.TensorProto.DataType
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# YOLO sums its distribution over 16 distances by a convolution, which is not a learned layer.
FEWEST_WEIGHTS = 64


def to_float16(model: Any) -> Any:
    """Convert a float32 graph; inputs and outputs keep their types.

    Args:
        model: ``onnx.ModelProto``; not changed.

    Returns:
        A new ``onnx.ModelProto``.

    Raises:
        InvalidArtifact: The graph cannot be converted.
    """
    float16 = require(
        "onnxruntime.transformers.float16", extra="onnxruntime", purpose="half-precision graphs"
    )
    result = type(model)()
    result.CopyFrom(model)
    _name_nodes(result)
    names = [node.name for node in result.graph.node]
    try:
        converted = float16.convert_float_to_float16(
            result,
            keep_io_types=True,
            op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *SENSITIVE],
            node_block_list=tail(result),
        )
        _drop_repeats(converted)
        _drop_round_trips(converted, set(names))
        # The converter appends its casts at the end of the graph.
        order = require(
            "onnxruntime.transformers.onnx_model", extra="onnxruntime", purpose="sorting graphs"
        )
        order.OnnxModel(converted).topological_sort()
        return converted
    except Exception as error:  # shape inference and the converter share no error of their own
        raise InvalidArtifact(f"the graph cannot be made half precision: {error}") from error


def narrow_weights(model: Any) -> Any:
    """Store the weights of layers in half precision; a cast before each layer widens them again.

    OpenVINO's own compression rounds every constant, also priors and anchors: that moved boxes of
    an SSD as far as all its weights did, and it lost 0.004 of AP.

    Args:
        model: ``onnx.ModelProto`` in float32; not changed.

    Returns:
        A new ``onnx.ModelProto``, which computes in float32.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="half-precision weights")
    result = type(model)()
    result.CopyFrom(model)
    readers: dict[str, set[str]] = {}
    for node in result.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    casts = []
    for tensor in result.graph.initializer:
        layers = readers.get(tensor.name, set())
        if tensor.data_type != FLOAT or not layers or not layers.issubset(WEIGHTED):
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if values.size <= FEWEST_WEIGHTS or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        wide, narrow = tensor.name, f"{tensor.name}_f16"
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), narrow))
        casts.append(onnx.helper.make_node("Cast", [narrow], [wide], f"{narrow}_cast", to=FLOAT))
    for cast in casts:
        result.graph.node.insert(0, cast)
    return result


def tail(model: Any) -> list[str]:
    """Names of the nodes after the last layers with weights, on every path to an output."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    before_weights: set[str] = set()  # tensors before a layer with weights
    late = []
    for node in reversed(model.graph.node):
        weighted = node.op_type in WEIGHTED and any(
            sizes.get(name, 0) > FEWEST_WEIGHTS for name in node.input
        )
        if weighted or any(name in before_weights for name in node.output):
            before_weights.update(node.input)
        if not weighted and not any(name in before_weights for name in node.output):
            late.append(node.name)
    return late


def _drop_repeats(model: Any) -> None:
    """Keep one cast of each tensor: the converter writes one for each reader."""
    seen: set[str] = set()
    kept = []
    for node in model.graph.node:
        if not (node.op_type == "Cast" and node.output[0] in seen):
            kept.append(node)
        seen.update(node.output)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _drop_round_trips(model: Any, own: set[str]) -> None:
    """Drop casts to half precision and back between two nodes that stay float32.

    Args:
        model: The converted graph.
        own: Names of the nodes before the conversion; casts among them stay.
    """
    casts = {
        node.output[0]: (node.input[0], node.attribute[0].i)
        for node in model.graph.node
        if node.op_type == "Cast" and node.name not in own
    }
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            before, to = casts.get(name, ("", 0))
            if to == FLOAT and casts.get(before, ("", 0))[1] == FLOAT16:
                node.input[place] = casts[before][0]
    for node in model.graph.node:  # an output of the graph is read by no node
        before = node.input[0] if node.output and node.output[0] in casts else ""
        if casts.get(before, ("", 0))[1] == FLOAT16 and casts[node.output[0]][1] == FLOAT:
            node.input[0] = casts[before][0]
    count = -1
    while count != len(
        model.graph.node
    ):  # a cast that goes may have been the only reader of another
        count = len(model.graph.node)
        used = {name for node in model.graph.node for name in node.input}
        used |= {output.name for output in model.graph.output}
        kept = [n for n in model.graph.node if n.op_type != "Cast" or n.output[0] in used]
        del model.graph.node[:]
        model.graph.node.extend(kept)


def _name_nodes(model: Any) -> None:
    """Give every node a name: the converter needs names, which ONNX leaves optional."""
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
