"""Probes: the values of inner tensors of a graph, by name, for any batch size.

The names are those of the tensors in the ONNX graph. OpenVINO keeps them when it reads ONNX. In a
torch module they stand for outputs of submodules, which are found by the scopes that tracing
writes into the names of nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from seatrial.engines.base import Arrays
from seatrial.engines.torch import DTYPES, read
from seatrial.manifest import Manifest
from seatrial.system.extras import require
from seatrial.system.openvino_core import openvino_core


class Probe(Protocol):
    """A graph whose inner tensors can be read.

    Attributes:
        names: Names of the tensors, in the order in which they are computed.
    """

    names: tuple[str, ...]

    def values(self, names: Sequence[str], feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Run the graph.

        Args:
            names: Some of `names`, or of the outputs.
            feeds: Input name -> array.

        Returns:
            Name -> value, float32 where the graph computes in half precision.
        """


class OnnxProbe:
    """An ONNX model in ONNX Runtime, without the optimisations that would remove tensors."""

    def __init__(self, model: Any) -> None:
        self._onnx = require("onnx", extra="onnxruntime", purpose="comparing graphs")
        self._ort = require("onnxruntime", extra="onnxruntime", purpose="comparing graphs")
        self._model = model
        self.names = tuple(
            name for node in model.graph.node if node.op_type != "Constant" for name in node.output
        )
        self.producers = {name: node for node in model.graph.node for name in node.output}

    def values(self, names: Sequence[str], feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Probe.values`."""
        model = type(self._model)()
        model.CopyFrom(self._model)
        have = {output.name for output in model.graph.output}
        model.graph.output.extend(
            self._onnx.ValueInfoProto(name=name) for name in names if name not in have
        )
        options = self._ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = self._ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        values = session.run(list(names), {i.name: feeds[i.name] for i in session.get_inputs()})
        return dict(zip(names, map(_single, values), strict=True))


class OpenVinoProbe:
    """An OpenVINO model, compiled for each set of names."""

    def __init__(self, path: Path, precision: str) -> None:
        self._core = openvino_core("comparing graphs")
        self._path = path
        self._precision = precision
        model = self._core.read_model(path)
        self.names = tuple(
            name
            for node in model.get_ordered_ops()
            if node.get_type_name() not in ("Constant", "Result", "Parameter")
            for output in node.outputs()
            for name in sorted(output.get_names())
        )

    def values(self, names: Sequence[str], feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Probe.values`."""
        model = self._core.read_model(self._path)
        have = {name for output in model.outputs for name in output.get_names()}
        inner = [name for name in names if name not in have]
        if inner:
            model.add_outputs(inner)
        hint = {"INFERENCE_PRECISION_HINT": self._precision}
        compiled = self._core.compile_model(model, "CPU", hint)
        found = compiled({port.any_name: feeds[port.any_name] for port in compiled.inputs})
        ports = {name: port for port in compiled.outputs for name in port.get_names()}
        return {name: _single(found[ports[name]]) for name in names}


class ModuleProbe:
    """A torch module, read through the tensors of the ONNX graph that was traced from it.

    A submodule stands for the last tensor in its scope. Convolutions are left out: tracing merges
    the normalisation that follows into them.
    """

    def __init__(
        self, module: Any, inputs: Sequence[str], outputs: Sequence[str], traced: Any
    ) -> None:
        self._torch = require("torch", extra="torch", purpose="comparing graphs")
        self._module = module
        self._inputs, self._outputs = list(inputs), list(outputs)
        self._scopes = _scopes(traced)
        convolution = (self._torch.nn.Conv2d, self._torch.nn.BatchNorm2d)
        modules = {n: m for n, m in module.named_modules() if not isinstance(m, convolution)}
        self._modules = {self._scopes[n]: m for n, m in modules.items() if n in self._scopes}
        order = {name: i for i, node in enumerate(traced.graph.node) for name in node.output}
        self.names = tuple(sorted(self._modules, key=order.__getitem__))

    def values(self, names: Sequence[str], feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Probe.values`; a submodule whose output is no tensor is left out."""
        seen: dict[str, NDArray[Any]] = {}

        def keep(name: str) -> Any:
            def hook(module: Any, given: Any, result: Any) -> None:
                if self._torch.is_tensor(result):
                    # A copy: the next layer may write into it.
                    seen[name] = result.detach().cpu().numpy().copy()

            return hook

        hooks = [
            self._modules[name].register_forward_hook(keep(name))
            for name in names
            if name in self._modules
        ]
        try:
            with self._torch.no_grad():
                answers = self._module(*(self._torch.from_numpy(feeds[n]) for n in self._inputs))
        finally:
            for hook in hooks:
                hook.remove()
        seen |= {n: t.numpy() for n, t in zip(self._outputs, answers, strict=True) if n in names}
        return seen


class ProgramProbe:
    """A ``.pt2`` file, read through the tensors of the ONNX graph of the same module.

    Each node names the submodules that it came from; the last node of a submodule stands for its
    output. It leaves out what `ModuleProbe` leaves out, since the names are compared.
    """

    def __init__(self, path: Path, manifest: Manifest, traced: Any, precision: str) -> None:
        self._torch = require("torch", extra="torch", purpose="comparing graphs")
        self._program = read(path).module()
        self._inputs = [spec.name for spec in manifest.inputs]
        self._outputs = [spec.name for spec in manifest.outputs]
        self._dtype = None if precision == "f32" else getattr(self._torch, DTYPES[precision])
        scopes = _scopes(traced)
        last: dict[str, Any] = {}
        for node in self._program.graph.nodes:
            for path_in_module, _ in (node.meta.get("nn_module_stack") or {}).values():
                if path_in_module in scopes:
                    last[scopes[path_in_module]] = node
        self._places = {node: name for name, node in last.items()}
        order = {name: i for i, node in enumerate(traced.graph.node) for name in node.output}
        self.names = tuple(sorted(last, key=order.__getitem__))

    def values(self, names: Sequence[str], feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Probe.values`."""
        torch: Any = self._torch
        places, wanted = self._places, set(names)
        seen: dict[str, NDArray[Any]] = {}

        class Reader(torch.fx.Interpreter):  # type: ignore[misc]
            def run_node(self, node: Any) -> Any:
                result = super().run_node(node)
                if places.get(node) in wanted and torch.is_tensor(result):
                    # A copy: the next node may write into it.
                    seen[places[node]] = result.float().numpy().copy()
                return result

        given = [torch.from_numpy(feeds[name]) for name in self._inputs]
        lower = torch.autocast("cpu", self._dtype, enabled=self._dtype is not None)
        with torch.no_grad(), lower:
            answers = Reader(self._program).run(*given)
        seen |= {
            n: t.float().numpy() for n, t in zip(self._outputs, answers, strict=True) if n in wanted
        }
        return seen


def _scopes(model: Any) -> dict[str, str]:
    """Submodule -> the last tensor of its scope: ``/a/b.0/fc/Gemm`` is in a, a.b.0, a.b.0.fc.

    A submodule that is called again has the scopes ``fc``, ``fc_1``, ...; it is left out, since it
    stands for several tensors.
    """
    found: dict[str, str] = {}
    for node in model.graph.node:
        parts = node.name.strip("/").split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            found[".".join(parts[:depth])] = node.output[0]
    return {name: tensor for name, tensor in found.items() if f"{name}_1" not in found}


def _single(value: Any) -> NDArray[Any]:
    array: NDArray[Any] = value
    return array.astype("float32") if array.dtype == "float16" else array
