"""From an OpenVINO model to ONNX, node by node.

Only the operators in `_CONVERTERS` are known: those of a convolutional detector. Any other is
an error that names it, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seatrial.errors import InvalidArtifact
from seatrial.system.extras import require

OPSET = 17
IR_VERSION = 8  # of the same ONNX release as opset 17: older runtimes refuse newer ones

Converter = Callable[["_Graph", Any], None]


def convert(model: Any, path: Path, metadata: Mapping[str, str]) -> None:
    """Write an OpenVINO model as an ONNX file.

    Args:
        model: ``openvino.Model``; inputs and outputs keep their names.
        path: File to write.
        metadata: Becomes the file's ``metadata_props``.

    Raises:
        InvalidArtifact: An operator or an attribute that is not in the table.
        MissingExtra: ``onnx`` is not installed.
    """
    onnx = require("onnx", extra="openvino", purpose="writing ONNX files")
    graph = _Graph(onnx)
    # Sorted by dependence, which leaves the order of inputs and of outputs open.
    inner = [n for n in model.get_ordered_ops() if n.get_type_name() not in ("Parameter", "Result")]
    for node in (*model.get_parameters(), *inner, *model.get_results()):
        kind = node.get_type_name()
        if kind not in _CONVERTERS:
            raise InvalidArtifact(
                f"operator {kind} ({node.get_friendly_name()}) has no ONNX conversion here; "
                f"known are: {', '.join(sorted(_CONVERTERS))}"
            )
        _CONVERTERS[kind](graph, node)
    proto = onnx.helper.make_model(
        graph.build(model.get_friendly_name()),
        producer_name="seatrial",
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, path)


class _Graph:
    """An ONNX graph under construction.

    Constants become initialisers when a node first uses them as an input: those that turn into
    an attribute (a permutation, an axis) leave nothing behind.
    """

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.initialisers: dict[str, Any] = {}
        self.renamed: dict[str, str] = {}  # a tensor that is a graph output -> the output's name

    def tensor_name(self, output: Any) -> str:
        """Name of the tensor that leaves an OpenVINO port."""
        node = output.get_node()
        name = str(node.get_friendly_name())
        return name if node.get_output_size() == 1 else f"{name}.{output.get_index()}"

    def operand(self, node: Any, index: int) -> str:
        """Name of the tensor that enters a node; a constant becomes an initialiser."""
        source = node.input_value(index)
        if source.get_node().get_type_name() == "Constant":
            return self.constant(self.tensor_name(source), source.get_node().get_data())
        return self.tensor_name(source)

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Name of an initialiser with this value."""
        if name not in self.initialisers:
            # OpenVINO's array views the model's memory; ONNX wants it contiguous.
            array = np.ascontiguousarray(value)
            self.initialisers[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def add(self, operator: str, node: Any, operands: list[str], **attributes: Any) -> None:
        """Append a node that stands for an OpenVINO node."""
        names = [self.tensor_name(output) for output in node.outputs()]
        name = str(node.get_friendly_name())
        made = self.onnx.helper.make_node(operator, operands, names, name=name, **attributes)
        self.nodes.append(made)

    def value_info(self, name: str, output: Any) -> Any:
        """Type and shape of a graph input or output."""
        shape = [d.get_length() if d.is_static else None for d in output.get_partial_shape()]
        dtype = np.dtype(output.get_element_type().to_dtype())
        code = self.onnx.helper.np_dtype_to_tensor_dtype(dtype)
        return self.onnx.helper.make_tensor_value_info(name, code, shape)

    def build(self, name: str) -> Any:
        """The finished graph, with the outputs under their own names."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [self.renamed.get(tensor, tensor) for tensor in names]
        return self.onnx.helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, list(self.initialisers.values())
        )


def _same(operator: str) -> Converter:
    """A converter for an operator that has the same operands in both and no attributes."""

    def convert_node(graph: _Graph, node: Any) -> None:
        operands = [graph.operand(node, index) for index in range(node.get_input_size())]
        graph.add(operator, node, operands)

    return convert_node


def _parameter(graph: _Graph, node: Any) -> None:
    graph.inputs.append(graph.value_info(graph.tensor_name(node.output(0)), node.output(0)))


def _result(graph: _Graph, node: Any) -> None:
    source = node.input_value(0)
    tensor = graph.tensor_name(source)
    if tensor in graph.renamed or source.get_node().get_type_name() in ("Parameter", "Constant"):
        raise InvalidArtifact(f"output {node.get_friendly_name()} is not computed by a node alone")
    name = min(source.get_names(), default=tensor)
    graph.renamed[tensor] = name
    graph.outputs.append(graph.value_info(name, source))


def _constant(graph: _Graph, node: Any) -> None:
    """Nothing: see `_Graph.operand`."""


def _cast(graph: _Graph, node: Any) -> None:
    dtype = np.dtype(node.get_output_element_type(0).to_dtype())
    code = graph.onnx.helper.np_dtype_to_tensor_dtype(dtype)
    graph.add("Cast", node, [graph.operand(node, 0)], to=code)


def _transpose(graph: _Graph, node: Any) -> None:
    graph.add("Transpose", node, [graph.operand(node, 0)], perm=_value(node, 1).tolist())


def _reshape(graph: _Graph, node: Any) -> None:
    operands = [graph.operand(node, 0), graph.operand(node, 1)]
    # OpenVINO's "a zero copies the dimension" is ONNX's default; its opposite is allowzero.
    keep = bool(node.get_attributes()["special_zero"])
    graph.add("Reshape", node, operands, **({} if keep else {"allowzero": 1}))


def _concat(graph: _Graph, node: Any) -> None:
    operands = [graph.operand(node, index) for index in range(node.get_input_size())]
    graph.add("Concat", node, operands, axis=int(node.get_attributes()["axis"]))


def _split(graph: _Graph, node: Any) -> None:
    graph.add("Split", node, [graph.operand(node, 0)], axis=int(_value(node, 1)))


def _clip(graph: _Graph, node: Any) -> None:
    limits = node.get_attributes()
    dtype = np.dtype(node.get_output_element_type(0).to_dtype())
    bounds = [
        graph.constant(f"{end}_{limits[end]:g}", np.asarray(limits[end], dtype))
        for end in ("min", "max")
    ]
    graph.add("Clip", node, [graph.operand(node, 0), *bounds])


def _convolution(graph: _Graph, node: Any) -> None:
    attributes = node.get_attributes()
    weights = _value(node, 1)
    group = 1
    if node.get_type_name() == "GroupConvolution":  # (group, out, in, kernel...) -> (out, in, ...)
        group = weights.shape[0]
        weights = weights.reshape(-1, *weights.shape[2:])
    if attributes["auto_pad"] not in ("explicit", "same_upper", "same_lower", "valid"):
        raise InvalidArtifact(f"{node.get_friendly_name()}: auto_pad {attributes['auto_pad']!r}")
    graph.add(
        "Conv",
        node,
        [graph.operand(node, 0), graph.constant(f"{node.get_friendly_name()}.weights", weights)],
        group=group,
        strides=list(attributes["strides"]),
        dilations=list(attributes["dilations"]),
        # OpenVINO has resolved "same" and "valid" to numbers, since the sizes are known.
        pads=[*attributes["pads_begin"], *attributes["pads_end"]],
    )


def _value(node: Any, index: int) -> np.ndarray[Any, Any]:
    """Value of an operand that must be constant."""
    source = node.input_value(index).get_node()
    if source.get_type_name() != "Constant":
        raise InvalidArtifact(f"{node.get_friendly_name()}: operand {index} is not a constant")
    value: np.ndarray[Any, Any] = source.get_data()
    return value


_CONVERTERS: dict[str, Converter] = {
    "Add": _same("Add"),
    "Clamp": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "Convert": _cast,
    "Convolution": _convolution,
    "Exp": _same("Exp"),
    "GroupConvolution": _convolution,
    "Multiply": _same("Mul"),
    "Parameter": _parameter,
    "Reshape": _reshape,
    "Result": _result,
    "Sigmoid": _same("Sigmoid"),
    "Split": _split,
    "Subtract": _same("Sub"),
    "Transpose": _transpose,
}
