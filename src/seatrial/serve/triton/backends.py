"""Which backend of Triton runs the graph of a deployment, and how it is set there."""

from __future__ import annotations

from typing import Literal, NamedTuple

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.engines.registry import engine_class
from seatrial.errors import InvalidConfig
from seatrial.serve.triton.text_format import MapField

Backend = Literal["python", "onnxruntime", "openvino", "tensorrt"]
# Engine -> the backend that has the same runtime.
OF_ENGINE: dict[str, Backend] = {
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "onnxruntime-tensorrt": "onnxruntime",
    "tensorrt": "tensorrt",
}
NO_F32 = (
    "Triton's openvino backend cannot be told to compute in f32: it takes bf16 where the CPU has "
    "it; --backend python computes in f32 everywhere"
)


class GraphRunner(NamedTuple):
    """A backend for a graph.

    Attributes:
        backend: Its name.
        format: Format of the artifact that it reads; empty for python, where an engine of
            Seatrial reads it.
        settings: Fields of the configuration beyond those that all models have.
        notes: What a person should know of it.
    """

    backend: Backend
    format: str = ""
    settings: dict[str, object] = {}  # noqa: RUF012 - never changed
    notes: tuple[str, ...] = ()


def choose_backend(
    artifact: Artifact, deployment: Deployment, wanted: str, threads: int
) -> GraphRunner:
    """The backend for the graph of a deployment.

    Args:
        artifact: The model.
        deployment: Engine, device and precision.
        wanted: Name of a backend; ``auto`` takes the one that has the runtime of the engine, and
            python where there is none.
        threads: Number of threads of one instance.

    Raises:
        InvalidConfig: The backend does not run this engine, or not in this precision.
        InvalidArtifact: The artifact has no graph that it reads.
    """
    engine_class(deployment.engine)  # its error for an unknown name
    own = OF_ENGINE.get(deployment.engine, "python")
    if wanted not in ("auto", "python", own):
        raise InvalidConfig(
            f"Triton's {wanted} backend does not run the {deployment.engine} engine",
            hint=f"use --backend {' or '.join(dict.fromkeys([own, 'python']))}, or another engine",
        )
    if wanted == "python" or own == "python":
        return GraphRunner("python")
    if own == "openvino":
        return _openvino(artifact, deployment, threads)
    if own == "onnxruntime":
        return _onnxruntime(artifact, deployment, threads)
    artifact.file("tensorrt")
    return GraphRunner("tensorrt", "tensorrt")


def _openvino(artifact: Artifact, deployment: Deployment, threads: int) -> GraphRunner:
    if deployment.precision == "f16":
        raise InvalidConfig(
            "Triton's openvino backend cannot be told to compute in f16",
            hint="use --backend python, or precision bf16 or f32",
        )
    chosen = "openvino" if "openvino" in artifact.manifest.formats else "onnx"
    artifact.file(chosen)
    settings = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads)}
    bf16 = deployment.precision == "bf16"
    if bf16:
        settings["HINT_BF16"] = "YES"
    return GraphRunner("openvino", chosen, _parameters(settings), () if bf16 else (NO_F32,))


def _onnxruntime(artifact: Artifact, deployment: Deployment, threads: int) -> GraphRunner:
    artifact.file("onnx")
    settings: dict[str, object] = {}
    if deployment.device == "cpu":
        # Operators one after the other, as the engine of Seatrial runs them.
        counts = {"intra_op_thread_count": str(threads), "inter_op_thread_count": "1"}
        settings = _parameters({**counts, "execution_mode": "0"})
    elif deployment.engine == "onnxruntime-tensorrt":
        mode = "FP16" if deployment.precision == "f16" else "FP32"
        settings = _accelerator("tensorrt", {"precision_mode": mode})
    else:
        # By default float32 products are rounded to TF32, with 10 bits of mantissa.
        settings = _accelerator("cuda", {"use_tf32": "0"})
    return GraphRunner("onnxruntime", "onnx", settings)


def _parameters(values: dict[str, str]) -> dict[str, object]:
    return {"parameters": MapField({key: {"string_value": value} for key, value in values.items()})}


def _accelerator(name: str, parameters: dict[str, str]) -> dict[str, object]:
    one = {"name": name, "parameters": MapField(parameters)}
    return {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [one]}}}
