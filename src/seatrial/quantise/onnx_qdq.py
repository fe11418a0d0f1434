"""INT8 as QuantizeLinear / DequantizeLinear pairs in ONNX, for ONNX Runtime and for TensorRT.

Source of the format: ONNX Runtime, "Quantize ONNX models" (QDQ); TensorRT, "Working with
quantized types" (explicit quantisation).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from seatrial.artifact import Artifact
from seatrial.errors import InvalidArtifact
from seatrial.graphs import onnx_file
from seatrial.graphs.tensorrt_ready import cast_images_first, validate_for_tensorrt
from seatrial.progress import Progress
from seatrial.quantise import onnx_prepare, tensor_values
from seatrial.quantise.backend import Probe
from seatrial.quantise.calibration_images import CalibrationImages, Feeds
from seatrial.quantise.float_part import Head, find_head, onnx_nodes, stored_head
from seatrial.quantise.kernels import is_x86, saturates
from seatrial.quantise.ranges import Range, Rule, choose_range
from seatrial.quantise.workspace import Workspace
from seatrial.system.extras import install_command, require

PURPOSE = "quantising ONNX graphs"
FLOAT = "float"


class OnnxRuntimeBackend:
    """INT8 for ONNX Runtime. A recipe is a rule for the ranges of activations."""

    engine = "onnxruntime"
    format = "onnx"
    file = "model.onnx"
    recipes: tuple[str, ...] = ("minmax", "percentile", "entropy")
    deployed_here = True
    # With convolutions only, YOLO11n runs its SiLUs in float between them: 1.5 times the speed of
    # float32 instead of 2.0, at the same accuracy.
    operators: tuple[str, ...] = (
        "Conv", "Sigmoid", "Mul", "Add", "Concat", "MaxPool", "Resize", "Split", "Clip", "Relu",
    )  # fmt: skip
    options: dict[str, Any] = {}  # noqa: RUF012  # options of ONNX Runtime's quantiser; constant

    def config(self) -> dict[str, Any]:
        """See `Backend.config`."""
        return {
            "algorithm": "ONNX Runtime QDQ",
            "operators": list(self.operators),
            "weights": "int8 symmetric, per channel" + (", 7 bits" if self._reduced() else ""),
            "activations": f"{'u' if self._unsigned() else ''}int8, per tensor",
        }

    def versions(self) -> tuple[str, ...]:
        """See `Backend.versions`."""
        return ("onnxruntime", "onnx")

    def prepare(self, parent: Artifact, work: Workspace) -> Head:
        """See `Backend.prepare`."""
        require("onnxruntime", extra="compress", purpose=PURPOSE)
        source = parent.file(self.format)
        folder = work.folder(
            FLOAT, lambda target: onnx_prepare.write(source, target / self.file, self._adapt)
        )
        return work.value("head", Head, lambda: find_head(*onnx_nodes(self._load(folder))))

    def quantise(
        self, recipe: str, images: CalibrationImages, work: Workspace, on_progress: Progress
    ) -> Path:
        """See `Backend.quantise`."""
        ranges = self._ranges(cast(Rule, recipe), images, work, on_progress)
        return work.folder(
            f"graph-{recipe}", lambda target: self._quantise(ranges, work, target / self.file)
        )

    def layers(self, folder: Path, work: Workspace) -> tuple[str, ...]:
        """See `Backend.layers`."""
        model = self._load(folder)
        rounded = {o for n in model.graph.node if n.op_type == "DequantizeLinear" for o in n.output}
        return tuple(
            node.name
            for node in model.graph.node
            if node.op_type == "Conv" and node.input[1] in rounded
        )

    def restore(self, folder: Path, layers: Sequence[str], target: Path, work: Workspace) -> None:
        """See `Backend.restore`."""
        model, plain = self._load(folder), self._load(work.path / FLOAT)
        onnx_prepare.put_back(model, plain, layers)
        onnx_prepare.drop_unused(model)
        onnx_prepare.save(model, target / self.file)

    def accepted(self, folder: Path) -> str:
        """See `Backend.accepted`: `engine` runs the result itself."""
        return ""

    def probe(self, folder: Path | None, work: Workspace) -> Probe:
        """See `Backend.probe`."""
        head = stored_head(work)
        plain = self._load(work.path / FLOAT)
        ends = {node.name: node.output[0] for node in plain.graph.node}
        model = plain if folder is None else self._load(folder)
        made = {name for node in model.graph.node for name in node.output}
        names = [
            after if (after := f"{ends[name]}_DequantizeLinear_Output") in made else ends[name]
            for name in head.fed_by
        ]
        session = tensor_values.session(model, names)

        def run(feeds: Feeds) -> list[NDArray[Any]]:
            found: list[NDArray[Any]] = session.run(names, feeds)
            return found

        return run

    def _adapt(self, model: Any) -> None:
        """Change the float graph for the engine that will run it; nothing for ONNX Runtime."""

    def _unsigned(self) -> bool:
        # x86 multiplies unsigned by signed bytes: YOLO11n took 112 ms with int8 activations,
        # 39 ms with uint8, 78 ms in float32.
        return is_x86()

    def _reduced(self) -> bool:
        return saturates()

    def _load(self, folder: Path) -> Any:
        return onnx_file.load(folder / self.file)

    def _ranges(
        self, rule: Rule, images: CalibrationImages, work: Workspace, on_progress: Progress
    ) -> dict[str, Range]:
        model = self._load(work.path / FLOAT)
        head = {*stored_head(work).nodes}
        quantised = [
            node
            for node in model.graph.node
            if node.op_type in self.operators and node.name not in head
        ]
        names = onnx_prepare.float_tensors(model, quantised)
        silu = {
            node.input[0] for node in quantised if node.op_type == "Sigmoid"
        }  # outside the head a sigmoid is half a SiLU
        histograms = tensor_values.histograms(model, names, images, work, on_progress)
        return {
            name: choose_range(histogram, rule, feeds_silu=name in silu)
            for name, histogram in histograms.items()
        }

    def _quantise(self, ranges: dict[str, Range], work: Workspace, path: Path) -> None:
        quantization = require("onnxruntime.quantization", extra="compress", purpose=PURPOSE)
        calibrate = require("onnxruntime.quantization.calibrate", extra="compress", purpose=PURPOSE)
        qdq = require("onnxruntime.quantization.qdq_quantizer", extra="compress", purpose=PURPOSE)
        types = quantization.QuantType
        tensors = calibrate.TensorsData(
            quantization.CalibrationMethod.MinMax,
            {name: tuple(np.array(e, np.float32) for e in span) for name, span in ranges.items()},
        )
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            quantiser = qdq.QDQQuantizer(
                onnx_prepare.with_shapes(self._load(work.path / FLOAT)),
                per_channel=True,
                reduce_range=self._reduced(),
                weight_qType=types.QInt8,
                activation_qType=types.QUInt8 if self._unsigned() else types.QInt8,
                tensors_range=tensors,
                nodes_to_quantize=[],
                nodes_to_exclude=list(stored_head(work).nodes),
                op_types_to_quantize=list(self.operators),
                extra_options=dict(self.options),
            )
            quantiser.quantize_model()
            quantiser.model.topological_sort()
        model = quantiser.model.model
        if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
            raise InvalidArtifact(f"nothing in {path.name} could be quantised")
        onnx_prepare.save(model, path)


class TensorRtBackend(OnnxRuntimeBackend):
    """INT8 for TensorRT: inputs of convolutions are signed and symmetric, biases stay float.

    TensorRT fuses the operators after a convolution into it; a Q/DQ pair after the convolution
    would only add a rounding. Results are compared in ONNX Runtime, which rounds the same way.
    """

    deployed_here = False
    operators = ("Conv",)
    options = {  # noqa: RUF012
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": ["Conv"],
        "QDQDisableWeightAdjustForInt32Bias": True,
    }

    def accepted(self, folder: Path) -> str:
        """See `Backend.accepted`. TensorRT-RTX parses and builds without a GPU."""
        if importlib.util.find_spec("tensorrt_rtx") is None:
            return (
                "TensorRT's parser was not tried: TensorRT-RTX is not installed "
                f"({install_command('tensorrt-check')})"
            )
        problems = validate_for_tensorrt(folder / self.file)
        if problems:
            raise InvalidArtifact(
                f"TensorRT-RTX refuses the quantised graph: {problems[0]}",
                hint="quantise for onnxruntime or openvino, or report the operator",
            )
        return "TensorRT-RTX parses the graph and builds an engine of it"

    def _adapt(self, model: Any) -> None:
        cast_images_first(model)

    def _unsigned(self) -> bool:
        return False

    def _reduced(self) -> bool:
        return False  # GPUs do not overflow; ONNX Runtime on this CPU may
