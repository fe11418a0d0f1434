"""ONNX graphs before quantisation, and parts of them put back into quantised ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from seatrial.errors import InvalidArtifact
from seatrial.extras import require
from seatrial.lifecycle import onnx_graph

PURPOSE = "quantising ONNX graphs"
NEWEST_OPSET = 20  # from 21 on, quantised types are written in ways that engines do not read yet
# What engines compute together with the convolution before it.
ACTIVATIONS = ("Sigmoid", "Mul", "Clip", "Relu", "LeakyRelu", "HardSigmoid", "HardSwish")


def write(source: Path, path: Path, adapt: Callable[[Any], None]) -> None:
    """Prepare a float graph: shapes inferred, constants folded, biases merged, all nodes named.

    Args:
        source: The parent's graph.
        path: File to write.
        adapt: Changes the graph for what will run it.

    Raises:
        InvalidArtifact: The file is not ONNX, or of an opset that is too new.
    """
    quantization = require("onnxruntime.quantization.shape_inference", extra="compress",
                           purpose=PURPOSE)  # fmt: skip
    original = onnx_graph.load(source)
    opset = next(o.version for o in original.opset_import if o.domain in ("", "ai.onnx"))
    if opset > NEWEST_OPSET:
        raise InvalidArtifact(
            f"{source} has opset {opset}; graphs are quantised up to opset {NEWEST_OPSET}",
            hint="export the model again with an older opset, for example 17",
        )
    adapt(original)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        changed, prepared = Path(scratch) / "changed.onnx", Path(scratch) / "prepared.onnx"
        save(original, changed)
        # Shapes are fixed but for the batch: plain inference finds them without SymPy.
        quantization.quant_pre_process(str(changed), str(prepared), skip_symbolic_shape=True)
        model = onnx_graph.load(prepared)
    _tidy(model, original)
    save(model, path)


def save(model: Any, path: Path) -> None:
    """Write a model."""
    path.write_bytes(model.SerializeToString())


def with_shapes(model: Any) -> Any:
    """The model with the types and shapes of its inner tensors."""
    onnx = require("onnx", extra="compress", purpose=PURPOSE)
    return onnx.shape_inference.infer_shapes(model)


def float_tensors(model: Any, nodes: Iterable[Any]) -> list[str]:
    """What nodes read and write that is float32 and computed, in the order of the graph."""
    onnx = require("onnx", extra="compress", purpose=PURPOSE)
    graph = with_shapes(model).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.value_info, *graph.output, *graph.input)
    }
    constant = {tensor.name for tensor in graph.initializer}
    names = (name for node in nodes for name in (*node.input, *node.output))
    return [
        name
        for name in dict.fromkeys(names)
        if name not in constant and types.get(name) == onnx.TensorProto.FLOAT
    ]


def put_back(model: Any, plain: Any, name: str) -> None:
    """Replace a quantised convolution, and the activation behind it, by the float original.

    Args:
        model: Quantised ``onnx.ModelProto``; changed in place.
        plain: The float model that it was made from.
        name: Of the convolution.
    """
    group = _with_activation(plain, name)
    names = {node.name for node in group}
    place = next(i for i, node in enumerate(model.graph.node) if node.name == name)
    nodes = list(model.graph.node)
    kept = [node for node in nodes[:place] if node.name not in names]
    rest = [node for node in nodes[place:] if node.name not in names]
    del model.graph.node[:]
    model.graph.node.extend([*kept, *group, *rest])
    restored = model.graph.node[len(kept) : len(kept) + len(group)]
    have = {tensor.name for tensor in model.graph.initializer}
    for tensor in plain.graph.initializer:
        # A rounded bias goes by the name of the float one.
        own = f"{tensor.name}/float"
        readers = [node for node in restored if tensor.name in node.input]
        for node in readers:
            node.input[:] = [own if value == tensor.name else value for value in node.input]
        if readers and own not in have:
            model.graph.initializer.add().CopyFrom(tensor)
            model.graph.initializer[-1].name = own


def drop_unused(model: Any) -> None:
    """Remove nodes and initialisers that no output depends on."""
    wanted = {output.name for output in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if wanted & {*node.output}:
            kept.append(node)
            wanted |= {*node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(reversed(kept))
    model.graph.initializer.extend(constants)


def _with_activation(plain: Any, name: str) -> list[Any]:
    """The convolution, and the activations that read nothing else, in the order of the graph."""
    constant = {tensor.name for tensor in plain.graph.initializer}
    group: list[Any] = []
    inside: set[str] = set()
    for node in plain.graph.node:
        read = {value for value in node.input if value and value not in constant}
        if node.name == name or (group and node.op_type in ACTIVATIONS and read <= inside):
            group.append(node)
            inside |= {*node.output}
    return group


def _tidy(model: Any, original: Any) -> None:
    """Name all nodes, and take out what the preparation left behind."""
    for node in model.graph.node:
        node.name = node.name or node.output[0]
    used = {node.domain for node in model.graph.node} | {""}
    opsets = [o for o in model.opset_import if o.domain in used]
    del model.opset_import[:], model.metadata_props[:]
    model.opset_import.extend(opsets)
    model.metadata_props.extend(original.metadata_props)
