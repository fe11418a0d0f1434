"""OpenVINO on the CPU."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from seatrial.engines.base import Arrays, EngineConfig, Lane, of_batch
from seatrial.engines.sized_lane import batch_sizes, sized
from seatrial.errors import DeviceUnavailable, InvalidArtifact
from seatrial.manifest import Manifest, TensorSpec
from seatrial.system.extras import require
from seatrial.system.openvino_core import openvino_core

PURPOSE = "the openvino engine"
DEVICES = {"cpu": "CPU"}
PRODUCTS = frozenset({"Convolution", "FullyConnected", "MatMul"})  # in the compiled graph


class OpenVinoLane:
    """One infer request of a compiled model."""

    lends = True

    def __init__(self, request: Any, threads: int, outputs: tuple[TensorSpec, ...]) -> None:
        self.threads = threads
        self._request = request
        self._names = [spec.name for spec in outputs]

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `seatrial.engines.base.Lane.infer`."""
        # Shared both ways: no copy of 1.2 MB in or 2.8 MB out. Callers copy what they keep.
        results = self._request.infer(dict(feeds), share_inputs=True, share_outputs=True)
        return {name: results[index] for index, name in enumerate(self._names)}

    def stop(self) -> None:
        """See `seatrial.engines.base.StoppableLane.stop`."""
        self._request.cancel()


class OpenVinoEngine:
    """A graph compiled by OpenVINO: once for the narrow lanes, once more for the wide lane."""

    formats: ClassVar[tuple[str, ...]] = ("openvino", "onnx")
    name = "openvino"

    def __init__(self, model: Path, manifest: Manifest, config: EngineConfig) -> None:
        """See `seatrial.engines.base.EngineFactory`."""
        ov = require("openvino", extra="openvino", purpose=PURPOSE)
        core = openvino_core(PURPOSE)
        _check_device(core, config)
        self.inputs = manifest.inputs
        self.outputs = manifest.outputs
        graph = _read(core, model, self.inputs)
        self._open_alone = functools.partial(_open_alone, model, self.inputs, self.outputs, config)
        narrow = _compile(core, graph, config, config.instances, config.threads)
        batched = {1: narrow}
        for size in batch_sizes(config.max_batch)[1:]:
            several = _read(core, model, self.inputs, size)
            batched[size] = _compile(core, several, config, config.instances, config.threads)

        def lane(size: int) -> OpenVinoLane:
            request = batched[size].create_infer_request()
            return OpenVinoLane(request, config.threads, self.outputs)

        self.narrow: tuple[Lane, ...] = tuple(
            sized(lane, config.max_batch) for _ in range(config.instances)
        )
        self.wide: Lane | None = None
        if config.wide_threads:
            wide = _compile(core, graph, config, 1, config.wide_threads)
            self.wide = OpenVinoLane(wide.create_infer_request(), config.wide_threads, self.outputs)
        self.device = _device(narrow)
        self.precision = _computed(narrow)
        self._properties = {
            "version": str(ov.get_version()),
            "full_device_name": str(core.get_property("CPU", "FULL_DEVICE_NAME")),
            "num_streams": str(narrow.get_property("NUM_STREAMS")),
            "inference_num_threads": str(narrow.get_property("INFERENCE_NUM_THREADS")),
            "enable_cpu_pinning": str(narrow.get_property("ENABLE_CPU_PINNING")),
        }

    def renew(self, lane: Lane) -> Lane:
        """See `seatrial.engines.base.RenewingEngine.renew`."""
        return self._open_alone(lane.threads, 1 if lane is self.wide else None)

    def properties(self) -> dict[str, str]:
        """See `seatrial.engines.base.Engine.properties`."""
        return self._properties

    def close(self) -> None:
        """See `seatrial.engines.base.Engine.close`."""
        self.narrow = ()
        self.wide = None


def _check_device(core: Any, config: EngineConfig) -> None:
    if config.device not in DEVICES or DEVICES[config.device] not in core.available_devices:
        have = ", ".join(core.available_devices) or "none"
        raise DeviceUnavailable(
            f"the openvino engine cannot run on {config.device!r}; OpenVINO sees: {have}",
            hint="use --device cpu, or another engine for a GPU",
        )
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if config.precision == "bf16" and "BF16" not in able:
        raise DeviceUnavailable(
            f"this CPU has no bf16 arithmetic that OpenVINO uses (it has: {', '.join(able)})",
            hint="use --precision f32",
        )
    if config.precision == "f16" and "FP16" not in able:
        raise DeviceUnavailable(
            f"this CPU has no f16 arithmetic that OpenVINO uses (it has: {', '.join(able)})",
            hint="use --precision bf16 or f32",
        )


def _read(core: Any, model: Path, inputs: tuple[TensorSpec, ...], size: int = 1) -> Any:
    try:
        graph = core.read_model(model)
        graph.reshape({spec.name: list(of_batch(spec.shape, size)) for spec in inputs})
    except RuntimeError as error:
        raise InvalidArtifact(f"OpenVINO does not read {model}: {_last_line(error)}") from error
    return graph


def _open_alone(
    model: Path,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    config: EngineConfig,
    threads: int,
    max_batch: int | None,
) -> Lane:
    """A lane on graphs with threads of their own: a stuck run holds those of its graph.

    Args:
        model: The file.
        inputs: Inputs of the graph.
        outputs: Outputs of the graph.
        config: Options of the engine.
        threads: Number of threads of the lane.
        max_batch: Most images of the lane; None takes that of the narrow ones.
    """
    core = openvino_core(PURPOSE)

    def lane(size: int) -> OpenVinoLane:
        compiled = _compile(core, _read(core, model, inputs, size), config, 1, threads)
        return OpenVinoLane(compiled.create_infer_request(), threads, outputs)

    return sized(lane, config.max_batch if max_batch is None else max_batch)


def _compile(core: Any, graph: Any, config: EngineConfig, streams: int, threads: int) -> Any:
    settings = {
        # Without the hint OpenVINO takes bf16 wherever the CPU has it.
        "INFERENCE_PRECISION_HINT": config.precision,
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams * threads,
        "ENABLE_CPU_PINNING": False,
    }
    try:
        compiled = core.compile_model(graph, DEVICES[config.device], settings)
    except RuntimeError as error:
        raise InvalidArtifact(
            f"OpenVINO does not compile the graph: {_last_line(error)}"
        ) from error
    if (device := _device(compiled)) != config.device:
        raise DeviceUnavailable(
            f"OpenVINO was asked for the device {config.device} and runs on {device}",
            hint="use --device cpu, or another engine for a GPU",
        )
    if (precision := _precision(compiled)) != config.precision:
        raise DeviceUnavailable(
            f"OpenVINO was asked for {config.precision} and runs {precision}",
            hint=f"use --precision {precision}",
        )
    return compiled


def _device(compiled: Any) -> str:
    return str(compiled.get_property("EXECUTION_DEVICES")[0]).lower()


def _computed(compiled: Any) -> str:
    """``int8`` where convolutions or products run in it, ``int8+bf16`` where the rest is bf16."""
    rest = _precision(compiled)
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        kind, precision = (_fact(facts, key) for key in ("layerType", "runtimePrecision"))
        if kind in PRODUCTS and precision in ("i8", "u8"):
            return "int8" if rest == "f32" else f"int8+{rest}"
    return rest


def _fact(facts: Any, key: str) -> str:
    return str(facts[key].astype(str)) if key in facts else ""


def _precision(compiled: Any) -> str:
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())


def _last_line(error: Exception) -> str:
    """The cause: OpenVINO writes it after the places in its source that it passed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if not line.startswith("Exception")), lines[0])
