"""ONNX files: read, checked, and described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from seatrial.errors import InvalidArtifact, first_line
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import TensorSpec
from seatrial.system.extras import require


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
        raise InvalidArtifact(f"{path} {what}", hint="give the path of an .onnx file")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's errors share no base but Exception
        raise InvalidArtifact(
            f"{path} is not a readable ONNX model ({type(error).__name__}: {first_line(error)})",
            hint="the file may be cut off: compare its size with the original"
            if path.suffix == ".onnx"
            else "give an .onnx file; export others first: yolo export model=FILE.pt format=onnx",
        ) from error
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


def signature(model: Any) -> GraphSignature:
    """Inputs, outputs and metadata of an ONNX model."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return GraphSignature(
        inputs=tuple(_spec(v) for v in model.graph.input if v.name not in constants),
        outputs=tuple(_spec(v) for v in model.graph.output),
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


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
                f"{name} holds weights that are no numbers (NaN), in {place}",
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
