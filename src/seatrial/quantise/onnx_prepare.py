"""Preparation of ONNX graphs for quantisation, and float parts restored in quantised graphs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from seatrial.errors import InvalidArtifact
from seatrial.graphs import onnx_file
from seatrial.system.extras import require
from seatrial.system.files import not_written

PURPOSE = "quantising ONNX graphs"
OLDEST_OPSET = 13
NEWEST_OPSET = 20  # from 21 on, quantised types are written in ways that engines do not read yet
# Operators that engines fuse into the convolution before them.
ACTIVATIONS = ("Sigmoid", "Mul", "Clip", "Relu", "LeakyRelu", "HardSigmoid", "HardSwish")


def write(source: Path, path: Path, adapt: Callable[[Any], None]) -> None:
    """Prepare a float graph: shapes inferred, constants folded, biases merged, all nodes named.

    Args:
        source: The parent's graph.
        path: File to write.
        adapt: Changes the graph for what will run it.

    Raises:
        InvalidArtifact: The file is not ONNX, of an opset that is too new, or holds weights that
            are not finite.
    """
    original = onnx_file.load(source)
    onnx_file.check_weights(original, source.name)
    opset = next(o.version for o in original.opset_import if o.domain in ("", "ai.onnx"))
    if opset > NEWEST_OPSET:
        raise InvalidArtifact(
            f"{source} has opset {opset}; graphs are quantised up to opset {NEWEST_OPSET}",
            hint="export the model again with an older opset, for example 17",
        )
    if opset < OLDEST_OPSET:
        original = _newer(original, source.name)
    adapt(original)
    model = with_shapes(_folded(original, path.parent))
    _tidy(model, original)
    save(model, path)


def _newer(model: Any, name: str) -> Any:
    """The model in the first opset that has a scale for each channel, which INT8 needs."""
    converter = require("onnx.version_converter", extra="compress", purpose=PURPOSE)
    try:
        return converter.convert_version(model, OLDEST_OPSET)
    except Exception as error:  # the converter's errors share no other base
        raise InvalidArtifact(
            f"{name} cannot be converted to opset {OLDEST_OPSET}: {str(error).strip()[:200]}",
            hint="export the model again with opset 17",
        ) from error


def _folded(model: Any, folder: Path) -> Any:
    """The model with constants folded and normalisations merged into convolutions, by ONNX Runtime.

    ``quant_pre_process`` does the same, but it writes to the system's temporary folder, and it
    prints errors instead of raising them.

    Args:
        model: ``onnx.ModelProto``.
        folder: Folder for a temporary file: ONNX Runtime writes the optimised model to disk.
    """
    ort = require("onnxruntime", extra="compress", purpose=PURPOSE)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file = Path(scratch) / "folded.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(file)
        options.log_severity_level = 4
        try:
            ort.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no other base
            reason = str(error).strip().splitlines()[-1][:200]
            if file.exists():  # the graph was read, and the result could not be written
                raise not_written(folder, reason, setting="SEATRIAL_HOME") from error
            raise InvalidArtifact(f"ONNX Runtime does not open the graph: {reason}") from error
        return onnx_file.load(file)


def save(model: Any, path: Path) -> None:
    """Write a model."""
    path.write_bytes(model.SerializeToString())


def with_shapes(model: Any) -> Any:
    """The model with the types and shapes of its inner tensors."""
    onnx = require("onnx", extra="compress", purpose=PURPOSE)
    return onnx.shape_inference.infer_shapes(model)


def float_tensors(model: Any, nodes: Iterable[Any]) -> list[str]:
    """Names of the computed float32 tensors that nodes read or write, in the order of the graph."""
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


def put_back(model: Any, plain: Any, names: Sequence[str]) -> None:
    """Replace quantised convolutions, and the activations after them, by the float originals.

    Args:
        model: Quantised ``onnx.ModelProto``; changed in place.
        plain: The float model that it was made from.
        names: Names of the convolutions.
    """
    groups = _with_activations(plain, names)
    replaced = {node.name for group in groups.values() for node in group}
    nodes: list[Any] = []
    read: set[str] = set()
    for node in model.graph.node:
        if node.name in groups:
            nodes += groups[node.name]
        elif node.name not in replaced:
            nodes.append(node)
    constants = {tensor.name: tensor for tensor in plain.graph.initializer}
    have = {tensor.name for tensor in model.graph.initializer}
    fresh = type(model.graph)()
    fresh.node.extend(nodes)
    for node in fresh.node:
        if node.name in replaced:
            # The quantised bias has the name of the float one.
            read |= {*node.input} & {*constants}
            node.input[:] = [_own(name) if name in constants else name for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend(fresh.node)
    for name in sorted(read):
        if _own(name) not in have:
            model.graph.initializer.add().CopyFrom(constants[name])
            model.graph.initializer[-1].name = _own(name)


def _own(name: str) -> str:
    return f"{name}/float"


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


def _with_activations(plain: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Each convolution with the activations that read only its result, in graph order."""
    constant = {tensor.name for tensor in plain.graph.initializer}
    groups: dict[str, list[Any]] = {name: [] for name in names}
    owner: dict[str, str] = {}  # tensor -> the convolution of its group
    for node in plain.graph.node:
        owners = {owner.get(value, "") for value in node.input if value and value not in constant}
        belongs = node.name
        if node.op_type in ACTIVATIONS and len(owners) == 1:
            belongs = owners.pop()
        if belongs in groups:
            groups[belongs].append(node)
            owner.update(dict.fromkeys(node.output, belongs))
    return groups


def _tidy(model: Any, original: Any) -> None:
    """Name all nodes, and remove unused opsets and the metadata of the preparation."""
    for node in model.graph.node:
        node.name = node.name or node.output[0]
    used = {node.domain for node in model.graph.node} | {""}
    opsets = [o for o in model.opset_import if o.domain in used]
    del model.opset_import[:], model.metadata_props[:]
    model.opset_import.extend(opsets)
    model.metadata_props.extend(original.metadata_props)
