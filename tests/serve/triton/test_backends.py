"""Which backend runs a graph."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.errors import InvalidArtifact, InvalidConfig
from seatrial.serve.triton.backends import NO_F32, choose_backend


def deployment(engine: str, **changes: Any) -> Deployment:
    return Deployment("tiny", engine=engine, **changes)


def with_formats(artifact: Artifact, **formats: str) -> Artifact:
    manifest = msgspec.structs.replace(artifact.manifest, formats=formats)
    return Artifact(artifact.path, manifest, artifact.digest)


@pytest.mark.parametrize(
    ("engine", "backend"),
    [
        ("openvino", "openvino"), ("onnxruntime", "onnxruntime"), ("null", "python"),
        ("onnxruntime-tensorrt", "onnxruntime"), ("torch", "python"), ("torch-compile", "python"),
    ],
)  # fmt: skip
def test_auto_takes_the_backend_with_the_engines_runtime(
    tiny_artifact: Artifact, engine: str, backend: str
) -> None:
    assert choose_backend(tiny_artifact, deployment(engine), "auto", 2).backend == backend
    assert choose_backend(tiny_artifact, deployment(engine), "python", 2).backend == "python"


def test_another_runtime_is_never_taken(tiny_artifact: Artifact) -> None:
    with pytest.raises(InvalidConfig, match="does not run the openvino engine") as caught:
        choose_backend(tiny_artifact, deployment("openvino"), "onnxruntime", 1)
    assert caught.value.hint == "use --backend openvino or python, or another engine"
    with pytest.raises(InvalidConfig, match="unknown engine 'none'"):
        choose_backend(tiny_artifact, deployment("none"), "auto", 1)


def test_openvino_reads_its_own_format_or_onnx(tiny_artifact: Artifact) -> None:
    chosen = choose_backend(tiny_artifact, deployment("openvino"), "auto", 3)
    assert chosen.format == "onnx"
    assert chosen.settings["parameters"] == {
        "NUM_STREAMS": {"string_value": "1"},
        "INFERENCE_NUM_THREADS": {"string_value": "3"},
    }
    assert chosen.notes == (NO_F32,)
    both = with_formats(tiny_artifact, onnx="model.onnx", openvino="model.xml")
    chosen = choose_backend(both, deployment("openvino", precision="bf16"), "auto", 1)
    assert chosen.format == "openvino"
    assert chosen.settings["parameters"]["HINT_BF16"] == {"string_value": "YES"}  # type: ignore[index]
    assert chosen.notes == ()
    with pytest.raises(InvalidConfig, match="cannot be told to compute in f16"):
        choose_backend(both, deployment("openvino", precision="f16"), "auto", 1)


def test_onnxruntime_has_the_threads_of_a_lane_or_a_gpu(tiny_artifact: Artifact) -> None:
    on_cpu = choose_backend(tiny_artifact, deployment("onnxruntime"), "auto", 2)
    assert on_cpu.settings["parameters"] == {
        "intra_op_thread_count": {"string_value": "2"},
        "inter_op_thread_count": {"string_value": "1"},
        "execution_mode": {"string_value": "0"},
    }
    for engine, precision, name, parameters in (
        ("onnxruntime", "f32", "cuda", {"use_tf32": "0"}),
        ("onnxruntime-tensorrt", "f32", "tensorrt", {"precision_mode": "FP32"}),
        ("onnxruntime-tensorrt", "f16", "tensorrt", {"precision_mode": "FP16"}),
    ):
        chosen = choose_backend(
            tiny_artifact, deployment(engine, device="cuda", precision=precision), "auto", 1
        )
        assert chosen.settings["optimization"] == {
            "execution_accelerators": {
                "gpu_execution_accelerator": [{"name": name, "parameters": parameters}]
            }
        }


def test_a_format_that_is_not_there_is_an_error(tiny_artifact: Artifact) -> None:
    with pytest.raises(InvalidArtifact, match="tiny has no tensorrt graph"):
        choose_backend(tiny_artifact, deployment("tensorrt", device="cuda"), "auto", 1)
    built = with_formats(tiny_artifact, tensorrt="model.engine", onnx="model.onnx")
    chosen = choose_backend(built, deployment("tensorrt", device="cuda"), "auto", 1)
    assert (chosen.backend, chosen.format) == ("tensorrt", "tensorrt")
