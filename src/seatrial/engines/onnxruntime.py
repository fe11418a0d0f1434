"""ONNX Runtime: on the CPU, and on NVIDIA GPUs through its CUDA and TensorRT providers."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seatrial.engines.base import Arrays, EngineConfig, Lane, of_batch
from seatrial.engines.onnxruntime_placement import check_placement, placement
from seatrial.engines.sized_lane import sized
from seatrial.errors import DeviceUnavailable, InvalidArtifact, first_line
from seatrial.manifest import Manifest, TensorSpec
from seatrial.system.extras import install_command, require

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

# Options of a provider that differ from ONNX Runtime's defaults.
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    # By default float32 convolutions and products are rounded to TF32, with 10 bits of mantissa.
    CUDA: {"use_tf32": "0"},
}


class OnnxRuntimeLane:
    """Runs a session; sessions with one thread are shared between lanes."""

    lends = False  # each run has memory of its own

    def __init__(self, session: Any, threads: int, outputs: list[str], run_options: Any) -> None:
        self.threads = threads
        self._session = session
        self._outputs = outputs
        self._options = run_options

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `seatrial.engines.base.Lane.infer`."""
        found = self._session.run(self._outputs, feeds, self._options)
        return dict(zip(self._outputs, found, strict=True))

    def stop(self) -> None:
        """See `seatrial.engines.base.StoppableLane.stop`."""
        self._options.terminate = True


class BoundLane:
    """Runs a session with memory of its own: a request allocates none.

    Args:
        ort: The onnxruntime module.
        session: Shared between lanes.
        memory: Memory of the inputs as ONNX Runtime names it: ``cuda`` or ``cpu``.
        inputs: Inputs of fixed sizes, but for the batch.
        outputs: Outputs of fixed sizes, but for the batch.
        size: Batch size.
    """

    threads = 1
    lends = True

    def __init__(
        self,
        ort: Any,
        session: Any,
        memory: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        size: int = 1,
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._feeds: dict[str, Any] = {}
        self._answer: dict[str, NDArray[Any]] = {}
        for spec in inputs:
            place = ort.OrtValue.ortvalue_from_shape_and_type(
                of_batch(spec.shape, size), np.dtype(spec.dtype).type, memory, 0
            )
            self._binding.bind_ortvalue_input(spec.name, place)
            self._feeds[spec.name] = place
        for spec in outputs:
            self._answer[spec.name] = np.zeros(of_batch(spec.shape, size), spec.dtype)
            # On the CPU a value lives in the array that it was made from.
            place = ort.OrtValue.ortvalue_from_numpy(self._answer[spec.name])
            self._binding.bind_ortvalue_output(spec.name, place)

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `seatrial.engines.base.Lane.infer`."""
        for name, place in self._feeds.items():
            place.update_inplace(feeds[name])
        self._session.run_with_iobinding(self._binding)
        return self._answer


class OnnxRuntimeEngine:
    """A graph in ONNX Runtime sessions, on the provider asked for or not at all."""

    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    name = "onnxruntime"
    # Device -> providers, the wanted one first.
    providers: ClassVar[dict[str, tuple[str, ...]]] = {"cpu": (CPU,), "cuda": (CUDA,)}

    def __init__(self, model: Path, manifest: Manifest, config: EngineConfig) -> None:
        """See `seatrial.engines.base.EngineFactory`."""
        ort = require("onnxruntime", extra="onnxruntime", purpose=f"the {self.name} engine")
        providers = _check_device(ort, self.name, self.providers, config.device)
        _check_precision(config, manifest.precision)
        self.inputs = manifest.inputs
        self.outputs = manifest.outputs
        self.device = config.device
        # This provider rounds to TF32 and has no switch: what it computes in is not float32.
        rounds = TENSORRT in providers and manifest.precision == "f32"
        self.precision = "tf32" if rounds else manifest.precision
        self._sessions: list[Any] = []
        self._open_alone = functools.partial(_session, ort, model, providers)
        self.narrow: tuple[Lane, ...] = ()
        self.wide: Lane | None = None
        if config.device == "cpu":
            self._open_on_cpu(ort, model, config)
        else:
            self._open_on_gpu(ort, model, config, providers)
        _check_names(self._sessions[0], manifest, model)
        self._properties = {
            "version": str(ort.__version__),
            "providers": ", ".join(self._sessions[0].get_providers()),
            "intra_op_num_threads": str(config.threads),
        }
        if config.device != "cpu":
            placed = placement(self._sessions[0])
            counts = (f"{provider} {nodes.total()}" for provider, nodes in placed.items())
            self._properties["nodes"] = ", ".join(counts)

    def _open_on_cpu(self, ort: Any, model: Path, config: EngineConfig) -> None:
        names = [spec.name for spec in self.outputs]
        # A run with one thread computes on the calling thread: lanes may share the session and
        # its weights. With more, each lane needs a thread pool, so a session, of its own.
        sessions = 1 if config.threads == 1 else config.instances
        narrow = [_session(ort, model, (CPU,), config.threads) for _ in range(sessions)]
        self._sessions += narrow
        self.narrow = tuple(
            OnnxRuntimeLane(narrow[index % sessions], config.threads, names, _run_options(ort))
            for index in range(config.instances)
        )
        if config.wide_threads:
            wide = _session(ort, model, (CPU,), config.wide_threads)
            self._sessions.append(wide)
            self.wide = OnnxRuntimeLane(wide, config.wide_threads, names, _run_options(ort))

    def _open_on_gpu(
        self, ort: Any, model: Path, config: EngineConfig, providers: tuple[str, ...]
    ) -> None:
        # Lanes share the session: the weights are on the GPU once. There is no wide lane, since
        # a request has the whole GPU anyway.
        session = _session(ort, model, providers, 1)
        check_placement(placement(session), providers)
        self._sessions.append(session)
        fixed = all(-1 not in of_batch(spec.shape) for spec in (*self.inputs, *self.outputs))
        names = [spec.name for spec in self.outputs]

        def bound(size: int) -> BoundLane:
            return BoundLane(ort, session, "cuda", self.inputs, self.outputs, size)

        self.narrow = tuple(
            sized(bound, config.max_batch)
            if fixed
            else OnnxRuntimeLane(session, 1, names, _run_options(ort))
            for _ in range(config.instances)
        )

    def renew(self, lane: Lane) -> Lane:
        """See `seatrial.engines.base.RenewingEngine.renew`.

        Raises:
            DeviceUnavailable: On a GPU, which a stuck run may hold as a whole.
        """
        if self.device != "cpu":
            raise DeviceUnavailable(f"a lane on {self.device} cannot be renewed")
        session = self._open_alone(lane.threads)
        names = [spec.name for spec in self.outputs]
        options = _run_options(require("onnxruntime", extra="onnxruntime", purpose="its engine"))
        return OnnxRuntimeLane(session, lane.threads, names, options)

    def properties(self) -> dict[str, str]:
        """See `seatrial.engines.base.Engine.properties`."""
        return self._properties

    def close(self) -> None:
        """See `seatrial.engines.base.Engine.close`."""
        self.narrow, self.wide = (), None
        self._sessions.clear()


class OnnxRuntimeTensorRtEngine(OnnxRuntimeEngine):
    """Runs subgraphs in TensorRT where it takes them, and the rest in the CUDA provider.

    TensorRT builds its engines each time that a graph is opened, which may take minutes; the
    ``tensorrt`` engine opens one that was built before.
    """

    name = "onnxruntime-tensorrt"
    providers: ClassVar[dict[str, tuple[str, ...]]] = {"cuda": (TENSORRT, CUDA)}


def _check_device(
    ort: Any, engine: str, table: Mapping[str, tuple[str, ...]], device: str
) -> tuple[str, ...]:
    if device not in table:
        raise DeviceUnavailable(
            f"the {engine} engine has no device {device!r}; it runs on: {', '.join(table)}",
            hint=f"use --device {next(iter(table))}",
        )
    available = ort.get_available_providers()
    for provider in table[device]:
        if provider not in available:
            raise DeviceUnavailable(
                f"ONNX Runtime has no {provider}; it has: {', '.join(available)}",
                hint="use --device cpu with the onnxruntime engine, or pip uninstall onnxruntime "
                f"and {install_command('onnxruntime-gpu')}",
            )
    if device == "cuda":
        # The libraries of CUDA and cuDNN may be Python packages, which the loader does not search.
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
            ort.preload_dlls()
    return table[device]


def _check_precision(config: EngineConfig, graph_precision: str) -> None:
    # What is not quantised in an INT8 graph is float32.
    computed = "f32" if graph_precision == "int8" else graph_precision
    if config.precision != computed:
        raise DeviceUnavailable(
            f"ONNX Runtime computes in the types of the graph, which is {graph_precision}; it "
            f"has no switch to {config.precision}",
            hint=f"use --precision {computed}, or the openvino engine",
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


def _run_options(ort: Any) -> Any:
    options = ort.RunOptions()
    options.log_severity_level = 4  # what fails is raised, and need not be printed too
    return options


def _session(ort: Any, model: Path, providers: tuple[str, ...], threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin after a run would burn the core that the next decode needs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    if providers[0] != CPU:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    asked = [(name, PROVIDER_OPTIONS.get(name, {})) for name in providers]
    try:
        # With its fallback it would replace a failing provider by the CPU, and print a line.
        session = ort.InferenceSession(model, options, providers=asked, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
        raise InvalidArtifact(f"ONNX Runtime does not load {model}: {first_line(error)}") from error
    if session.get_providers()[0] != providers[0]:
        # ONNX Runtime leaves out a provider whose libraries do not load, and only logs it.
        raise DeviceUnavailable(
            f"ONNX Runtime was asked for {providers[0]} and runs {session.get_providers()[0]}",
            hint="see `seatrial doctor`; most often CUDA or cuDNN libraries are missing",
        )
    return session
