"""Whether a family here can run a model, judged by what the hub tells."""

from __future__ import annotations

import pytest

from seatrial.models.hubs.compatible import MODEL_TYPES, Compatibility, judge

WEIGHTS = ["config.json", "model.safetensors"]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_transformers_models_that_run(model_type: str) -> None:
    assert judge(model_type, [], WEIGHTS) == Compatibility("yes", MODEL_TYPES[model_type])
    tags = ["library:transformers", f"model_type:{model_type}"]
    assert judge("", tags, None) == Compatibility("yes", MODEL_TYPES[model_type])
    assert judge("", [model_type.replace("_", "-")], WEIGHTS).runs == "yes"


@pytest.mark.parametrize(
    ("model_type", "tags", "files", "said"),
    [
        ("detr", [], ["config.json", "pytorch_model.bin"], "detr (--allow-pickle)"),
        ("detr", [], ["config.json", "onnx/model.onnx"], "detr (onnx/model.onnx)"),
        ("detr", [], ["config.json"], "no (no weights)"),
        ("yolos", ["yolos", "vision"], WEIGHTS, "no (yolos)"),
        ("deformable_detr", ["detr"], WEIGHTS, "no (deformable_detr)"),
        ("", ["ultralytics", "yolo11"], ["a.onnx", "b/c/d.onnx"], "yolo (a.onnx)"),
        ("yolov10", [], ["onnx/model.onnx"], "yolo (onnx/model.onnx)"),
        ("", ["ultralytics"], ["yolo11n.pt"], "no (pickle only; export it to ONNX)"),
        ("", ["library:ultralytics"], None, "? (needs an .onnx file)"),
        ("", ["keras"], ["weights.h5"], "no"),
        ("", [], ["model.onnx"], "?"),
        ("", [], None, "?"),
    ],
)
def test_what_runs_here(model_type: str, tags: list[str], files: list[str], said: str) -> None:
    assert judge(model_type, tags, files).describe() == said
