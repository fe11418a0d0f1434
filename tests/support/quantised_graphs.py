"""What the graphs of the quantised small detector hold, read from their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import openvino

LAYERS = {
    "block0.up/Conv", "block0.down/Conv", "block1.up/Conv", "block1.down/Conv",
    "scores/Conv", "sides/Conv",
}  # fmt: skip
WITHOUT_BIAS = "/WithoutBiases"  # OpenVINO's convolutions that were ONNX's with a bias


def plain(name: str) -> str:
    return name.removesuffix(WITHOUT_BIAS)


def onnx_model(folder: Path) -> Any:
    return onnx.load(folder / "model.onnx")


def producers(model: Any) -> dict[str, Any]:
    return {name: node for node in model.graph.node for name in node.output}


def openvino_precisions(folder: Path) -> dict[str, str]:
    """Convolution -> what the compiled graph computes it in."""
    compiled = openvino.Core().compile_model(
        folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = {k: str(v.astype(str)) for k, v in node.get_rt_info().items()}
        if facts.get("layerType") == "Convolution":
            for name in facts["originalLayersNames"].split(","):
                found[name] = facts["runtimePrecision"]
    return found
