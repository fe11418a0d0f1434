"""ONNX Runtime on the CPU and on NVIDIA GPUs (CUDA execution provider)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from seatrial.artifact import Manifest
from seatrial.engines.base import Arrays, EngineConfig, Lane
from seatrial.errors import DeviceUnavailable, InvalidArtifact
from seatrial.extras import require

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeLane:
    """Runs of one session; sessions with one thread are shared between lanes."""

    def __init__(self, session: Any, threads: int, outputs: list[str]) -> None:
        self.threads = threads
        self._session = session
        self._outputs = outputs

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `seatrial.engines.base.Lane.infer`."""
        return dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))


class OnnxRuntimeEngine:
    """A graph in ONNX Runtime sessions; the provider asked for, or an error."""

    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    name = "onnxruntime"

    def __init__(self, model: Path, manifest: Manifest, config: EngineConfig) -> None:
        """See `seatrial.engines.base.EngineFactory`."""
        ort = require("onnxruntime", extra="onnxruntime", purpose="the onnxruntime engine")
        _check_device(ort, config, manifest.precision)
        self.inputs = manifest.inputs
        self.outputs = manifest.outputs
        self.device = config.device
        self.precision = manifest.precision
        names = [spec.name for spec in self.outputs]
        # A run with one thread computes on the calling thread: lanes may share the session and
        # its weights. With more, each lane needs a thread pool, so a session, of its own.
        shared = _session(ort, model, config, 1) if config.threads == 1 else None
        self._sessions = [
            shared if shared is not None else _session(ort, model, config, config.threads)
            for _ in range(config.instances)
        ]
        self.narrow: tuple[Lane, ...] = tuple(
            OnnxRuntimeLane(session, config.threads, names) for session in self._sessions
        )
        self.wide: Lane | None = None
        if config.wide_threads:
            wide = _session(ort, model, config, config.wide_threads)
            self._sessions.append(wide)
            self.wide = OnnxRuntimeLane(wide, config.wide_threads, names)
        _check_names(self._sessions[0], manifest, model)
        self._properties = {
            "version": str(ort.__version__),
            "providers": ", ".join(self._sessions[0].get_providers()),
            "intra_op_num_threads": str(config.threads),
        }

    def properties(self) -> dict[str, str]:
        """See `seatrial.engines.base.Engine.properties`."""
        return self._properties

    def close(self) -> None:
        """See `seatrial.engines.base.Engine.close`."""
        self.narrow, self.wide = (), None
        self._sessions.clear()


def _check_device(ort: Any, config: EngineConfig, graph_precision: str) -> None:
    available = ort.get_available_providers()
    if config.device not in PROVIDERS or PROVIDERS[config.device] not in available:
        wanted = PROVIDERS.get(config.device, config.device)
        raise DeviceUnavailable(
            f"ONNX Runtime has no {wanted}; it has: {', '.join(available)}",
            hint="use --device cpu, or install onnxruntime-gpu with its CUDA libraries",
        )
    if config.precision != graph_precision:
        raise DeviceUnavailable(
            f"ONNX Runtime computes in the types of the graph, which is {graph_precision}; it "
            f"has no switch to {config.precision}",
            hint=f"use --precision {graph_precision}, or the openvino engine",
        )


def _check_names(session: Any, manifest: Manifest, model: Path) -> None:
    for kind, found, wanted in (
        ("inputs", session.get_inputs(), manifest.inputs),
        ("outputs", session.get_outputs(), manifest.outputs),
    ):
        names = [value.name for value in found]
        if set(names) != {spec.name for spec in wanted}:
            raise InvalidArtifact(
                f"{model} has the {kind} {', '.join(names)}; "
                f"its manifest says {', '.join(spec.name for spec in wanted)}"
            )


def _session(ort: Any, model: Path, config: EngineConfig, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin after a run would burn the core that the next decode needs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    provider = PROVIDERS[config.device]
    try:
        session = ort.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
        raise InvalidArtifact(f"ONNX Runtime does not load {model}: {error}") from error
    if session.get_providers()[0] != provider:
        # It falls back to the CPU with no more than a log line.
        raise DeviceUnavailable(
            f"ONNX Runtime was asked for {provider} and runs {session.get_providers()[0]}",
            hint="see `seatrial doctor`; most often CUDA or cuDNN libraries are missing",
        )
    return session
