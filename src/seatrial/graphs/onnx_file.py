"""ONNX files: read, checked, and described."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seatrial.errors import InvalidArtifact, first_line
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import TensorSpec
from seatrial.system.extras import require
from seatrial.system.file_kinds import other_kind
from seatrial.system.files import beside

MOST_INFERRED_BYTES = 2**31  # protobuf writes no larger message


def load(path: Path) -> Any:
    """Read and check an ONNX file.

    Returns:
        ``onnx.ModelProto``.

    Raises:
        InvalidArtifact: The file is missing, cut off, not ONNX, not valid, or its opset is newer
            than the onnx package.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        hint = "give the path of an .onnx file"
        raise InvalidArtifact(f"{path} {what}", hint=beside(path, otherwise=hint))
    try:
        other = other_kind(path)
    except OSError as error:
        raise InvalidArtifact(
            f"{path} cannot be read: {error.strerror}", hint=beside(path)
        ) from error
    if other is not None:
        what, hint = other
        raise InvalidArtifact(f"{path} is {what}", hint=hint)
    try:
        model = onnx.load(path, load_external_data=False)
        if model.ir_version <= onnx.IR_VERSION:
            _check_external_data(model, path)
            onnx.load_external_data_for_model(model, str(path.parent))
            onnx.checker.check_model(model)
    except InvalidArtifact:
        raise
    except Exception as error:  # protobuf's and onnx's errors share no base but Exception
        raise InvalidArtifact(
            f"{path} is not a readable ONNX model ({type(error).__name__}: {first_line(error)})",
            hint="the file may be cut off: compare its size with the original"
            if path.suffix == ".onnx"
            else "give an .onnx file; export others first: yolo export model=FILE.pt format=onnx",
        ) from error
    if model.ir_version > onnx.IR_VERSION:
        raise InvalidArtifact(
            f"{path} is of IR version {model.ir_version}; onnx {onnx.__version__} reads IR "
            f"versions up to {onnx.IR_VERSION}",
            hint="pip install --upgrade onnx, or export the model again with an older onnx",
        )
    if not model.graph.node:
        raise InvalidArtifact(f"{path} holds no graph")
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > newest:
            raise InvalidArtifact(
                f"{path} is of opset {opset.version}; onnx {onnx.__version__} supports opsets up "
                f"to {newest}",
                hint="export the model again with an older opset, for example 17",
            )
    return model


def external_files(model: Any) -> dict[str, int]:
    """Files that hold a model's weights, by their names, with the fewest bytes that each has."""
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    files: dict[str, int] = {}
    for tensor in _tensors(model.graph, *model.functions):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        facts = {entry.key: entry.value for entry in tensor.external_data}
        name, numbers = facts.get("location", ""), (facts.get("offset"), facts.get("length"))
        end = sum(int(number) for number in numbers if number and number.isdecimal())
        files[name] = max(end, files.get(name, 0))
    return files


def _tensors(*graphs: Any) -> Iterator[Any]:
    """Stored tensors of graphs and of functions, their subgraphs' among them."""
    for graph in graphs:
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                yield from _tensors(attribute.g, *attribute.graphs)


def _check_external_data(model: Any, path: Path) -> None:
    for name, size in external_files(model).items():
        file = path.parent / name
        keeps = f"{path} keeps its weights in {name!r}"
        if not file.is_file():
            raise InvalidArtifact(
                f"{keeps}, which is not beside it",
                hint=f"copy or fetch that file too, under that name, into {path.parent}",
            )
        if (other := other_kind(file)) is not None and file.stat().st_size < size:
            raise InvalidArtifact(f"{keeps}, which is {other[0]}", hint=other[1])
        if file.stat().st_size < size:
            raise InvalidArtifact(
                f"{keeps}, which has {file.stat().st_size:,} bytes of at least {size:,}",
                hint="it was cut off, or is of another model: copy or fetch it again",
            )


def signature(model: Any) -> GraphSignature:
    """Inputs, outputs and metadata of an ONNX model."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return GraphSignature(
        inputs=tuple(_spec(v) for v in model.graph.input if v.name not in constants),
        outputs=tuple(_spec(v) for v in model.graph.output),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        operators=Counter(node.op_type for node in model.graph.node),
    )


def infer_open_outputs(model: Any) -> None:
    """Write the sizes that follow from the graph into the outputs of a model.

    Exporters name a size of an output where they do not know it, for example Ultralytics with
    ``dynamic=True`` and without onnxslim. The batch stays open, and what depends on the image's
    size too.

    Args:
        model: ``onnx.ModelProto``; changed in place.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    outputs = [output.type.tensor_type.shape.dim for output in model.graph.output]
    named = [dim for dims in outputs for dim in dims[1:] if not dim.HasField("dim_value")]
    if not named or model.ByteSize() >= MOST_INFERRED_BYTES:
        return
    blank = onnx.ModelProto()
    blank.CopyFrom(model)
    for output in blank.graph.output:  # a name that is there is kept
        for dim in output.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.Clear()
    try:
        inferred = onnx.shape_inference.infer_shapes(blank, data_prop=True).graph.output
    except onnx.shape_inference.InferenceError:  # the proof of the import runs the graph
        return
    for dims, output in zip(outputs, inferred, strict=True):
        found = output.type.tensor_type.shape.dim
        if len(found) != len(dims):
            continue
        for dim, known in zip(dims[1:], found[1:], strict=True):
            if not dim.HasField("dim_value") and known.HasField("dim_value"):
                dim.dim_value = known.dim_value


def keep_outputs(model: Any, names: Mapping[str, str]) -> None:
    """Keep some outputs of a model, under other names.

    Args:
        model: ``onnx.ModelProto``; changed in place.
        names: Output that is kept -> its new name. Tensors of a new name are renamed.
    """
    kept = {output.name: output for output in model.graph.output}
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)} - {*names}
    inner = {new: f"{new}_inner" for new in names.values() if new in taken}
    _rename(model.graph, {**names, **inner})
    del model.graph.output[:]
    for old, new in names.items():
        kept[old].name = new
        model.graph.output.append(kept[old])


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    """Rename tensors of a graph and of the graphs in its nodes, which may refer to them."""
    for value in (*graph.input, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                _rename(inner, names)


def weights_precision(model: Any) -> str:
    """``f16`` if most weights are half precision, else ``f32``."""
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    count = {onnx.TensorProto.FLOAT: 0, onnx.TensorProto.FLOAT16: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in count:
            count[tensor.data_type] += int(np.prod(tensor.dims))
    return "f16" if count[onnx.TensorProto.FLOAT16] > count[onnx.TensorProto.FLOAT] else "f32"


def check_weights(model: Any, name: str) -> None:
    """Check that the weights of a model are numbers.

    Raises:
        InvalidArtifact: A weight is NaN; the message names the first such tensor.
    """
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    for place, tensor in constants.items():
        if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            continue
        values = onnx.numpy_helper.to_array(tensor)
        # An infinite constant may be intended, for example as a mask; NaN never is.
        if (values != values).any():
            raise InvalidArtifact(
                f"{name} holds weights that are not numbers (NaN), in {place}",
                hint="the training that wrote it diverged, or the file is damaged",
            )


def _spec(value: Any) -> TensorSpec:
    onnx = require("onnx", extra="onnxruntime", purpose="reading ONNX files")
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:
        dtype = f"onnx type {tensor.elem_type}"
    return TensorSpec(value.name, dtype, shape)
