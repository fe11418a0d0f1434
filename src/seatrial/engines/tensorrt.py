"""TensorRT on NVIDIA GPUs: engines that were built for the GPU and version they run on.

TensorRT is strongly typed here: a layer computes in the type that the ONNX graph names, in INT8
where it has QuantizeLinear and DequantizeLinear nodes. `seatrial.export.tensorrt_build` builds
engines.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.config import decode_json
from seatrial.deployment import Precision
from seatrial.engines import cuda
from seatrial.engines.base import Arrays, EngineConfig, Lane, of_batch
from seatrial.engines.sized_lane import sized
from seatrial.errors import DeviceUnavailable, InvalidArtifact, InvalidInput
from seatrial.manifest import Manifest, TensorSpec
from seatrial.system.extras import require

REBUILD = "build it on this machine: seatrial export ARTIFACT --to tensorrt"


class EngineRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Record of how an engine file was built; lies beside it as ``<file>.json``.

    Attributes:
        gpu: Name of the GPU on which the kernels were chosen.
        compute_capability: Compute capability of that GPU.
        tensorrt: Version of TensorRT; another version does not read the file.
        onnx_sha256: sha256 of the ONNX graph, in hex.
        precision: Type of the graph's weights: ``f32``, ``f16``, ``bf16`` or ``int8``.
        tf32: Whether float32 layers may round to TF32.
        timing_cache: Name of the file beside the engine with the kernels' timings: with it the
            next build on such a GPU takes seconds and chooses the same kernels.
        build_s: Duration of the build, seconds.
    """

    gpu: str
    compute_capability: str
    tensorrt: str
    onnx_sha256: str
    precision: str
    tf32: bool
    timing_cache: str
    build_s: float


def record_path(engine: Path) -> Path:
    """Path of the record of an engine file."""
    return engine.with_name(engine.name + ".json")


def read_record(engine: Path) -> EngineRecord:
    """The record of an engine file.

    Raises:
        InvalidArtifact: There is no record, or it is damaged.
    """
    path = record_path(engine)
    try:
        return decode_json(path.read_bytes(), EngineRecord, origin=str(path))
    except OSError as error:
        raise InvalidArtifact(
            f"{engine} has no record of its GPU and version ({path.name}: {error.strerror})",
            hint=REBUILD,
        ) from error
    except InvalidInput as error:
        raise InvalidArtifact(error.message, hint=REBUILD) from error


def check_built_for(record: EngineRecord, gpu: cuda.Gpu, version: str) -> None:
    """Refuse an engine that was built for another GPU or by another version.

    TensorRT itself only warns of another GPU of the same compute capability, and then runs
    kernels that were chosen for another number of cores and another memory bandwidth.

    Raises:
        DeviceUnavailable: The GPU or the version is another one.
    """
    if record.tensorrt != version:
        raise DeviceUnavailable(
            f"the engine was built by TensorRT {record.tensorrt}; this is {version}", hint=REBUILD
        )
    if (record.gpu, record.compute_capability) != (gpu.name, gpu.compute_capability):
        raise DeviceUnavailable(
            f"the engine was built for {record.gpu} (compute capability "
            f"{record.compute_capability}); this is {gpu.name} ({gpu.compute_capability})",
            hint=REBUILD,
        )


def open_gpu(purpose: str) -> tuple[Any, Any, cuda.Gpu]:
    """TensorRT, the CUDA runtime and the GPU.

    Args:
        purpose: What needs them; completes "... is needed for <purpose>".

    Raises:
        DeviceUnavailable: There is no GPU, or no driver.
        MissingExtra: A package is not installed.
    """
    cuda.check_driver()  # first: without it, packages of gigabytes would be installed in vain
    trt = require("tensorrt", extra="tensorrt", purpose=purpose)
    cudart = cuda.runtime()
    return trt, cudart, cuda.gpu(cudart)


def message_log(trt: Any) -> Any:
    """A TensorRT logger that keeps warnings and errors in its list ``messages``."""

    class MessageLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                self.messages.append(message)

    return MessageLog()


class TensorRtLane:
    """An execution context with its own stream and memory."""

    threads = 1
    lends = True

    def __init__(
        self,
        cudart: Any,
        context: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        size: int = 1,
    ) -> None:
        self._context = context
        self._stream = cuda.Stream(cudart)
        self._inputs: dict[str, cuda.Tensor] = {}
        self._outputs: dict[str, cuda.Tensor] = {}
        try:
            for spec in inputs:
                shape = of_batch(spec.shape, size)
                if not context.set_input_shape(spec.name, shape):
                    raise InvalidArtifact(f"the engine's input {spec.name} does not take {shape}")
                self._inputs[spec.name] = cuda.Tensor(cudart, shape, spec.dtype)
            for spec in outputs:
                shape = tuple(context.get_tensor_shape(spec.name))
                if -1 in shape:
                    raise InvalidArtifact(
                        f"the size of the engine's output {spec.name} depends on the image: "
                        f"{shape}",
                        hint="export without postprocessing in the graph",
                    )
                self._outputs[spec.name] = cuda.Tensor(cudart, shape, spec.dtype)
            for name, tensor in (self._inputs | self._outputs).items():
                context.set_tensor_address(name, tensor.device)
        except BaseException:
            self.close()
            raise

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `seatrial.engines.base.Lane.infer`."""
        for name, tensor in self._inputs.items():
            tensor.fill(feeds[name], self._stream)
        if not self._context.execute_async_v3(int(self._stream.handle)):
            raise DeviceUnavailable("TensorRT refused the request; its log says why")
        for tensor in self._outputs.values():
            tensor.fetch(self._stream)
        self._stream.synchronize()
        return {name: tensor.host for name, tensor in self._outputs.items()}

    def close(self) -> None:
        """Release the stream and the memory."""
        self._context = None
        for tensor in (*self._inputs.values(), *self._outputs.values()):
            tensor.close()
        self._stream.close()


class TensorRtEngine:
    """An engine file with one execution context for each lane; all share the weights."""

    formats: ClassVar[tuple[str, ...]] = ("tensorrt",)
    name = "tensorrt"
    device = "cuda"

    def __init__(self, model: Path, manifest: Manifest, config: EngineConfig) -> None:
        """See `seatrial.engines.base.EngineFactory`."""
        if config.device != "cuda":
            raise DeviceUnavailable(
                f"the tensorrt engine runs on NVIDIA GPUs, not on {config.device!r}",
                hint="use --device cuda, or another engine",
            )
        trt, cudart, gpu = open_gpu("the tensorrt engine")
        record = read_record(model)
        check_built_for(record, gpu, str(trt.__version__))
        self.precision = _precision(record, config.precision)
        self.inputs, self.outputs = manifest.inputs, manifest.outputs
        self._log = message_log(trt)
        self._runtime = trt.Runtime(self._log)  # must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(model.read_bytes())
        if self._engine is None:
            raise InvalidArtifact(
                f"TensorRT does not read {model}: {'; '.join(self._log.messages)}", hint=REBUILD
            )
        _check_tensors(trt, self._engine, manifest, model)
        self._lanes: list[TensorRtLane] = []
        try:
            self.narrow: tuple[Lane, ...] = tuple(
                sized(functools.partial(self._lane, cudart), config.max_batch)
                for _ in range(config.instances)
            )
        except BaseException:
            self.close()
            raise
        # One request has the whole GPU anyway.
        self.wide: Lane | None = None
        self._properties = {
            "version": str(trt.__version__),
            "gpu": gpu.name,
            "compute_capability": gpu.compute_capability,
            "tf32": "allowed" if record.tf32 else "off",
            "onnx_sha256": record.onnx_sha256,
        }

    def _lane(self, cudart: Any, size: int) -> TensorRtLane:
        context = self._engine.create_execution_context()
        if context is None:
            raise DeviceUnavailable(
                f"TensorRT gives no execution context: {'; '.join(self._log.messages)}",
                hint="the GPU's memory may be full: fewer instances, or end other processes on it",
            )
        lane = TensorRtLane(cudart, context, self.inputs, self.outputs, size)
        self._lanes.append(lane)
        return lane

    def properties(self) -> dict[str, str]:
        """See `seatrial.engines.base.Engine.properties`."""
        return self._properties

    def close(self) -> None:
        """See `seatrial.engines.base.Engine.close`."""
        self.narrow = ()
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()
        self._engine = self._runtime = None


def _precision(record: EngineRecord, asked: Precision) -> str:
    # What is not quantised in an INT8 graph is float32.
    built = "f32" if record.precision == "int8" else record.precision
    if asked != built:
        raise DeviceUnavailable(
            f"the engine computes in {record.precision}, as its graph says; it cannot switch to "
            f"{asked}",
            hint=f"use --precision {built}, or export the graph in {asked} first",
        )
    return "tf32" if record.precision == "f32" and record.tf32 else record.precision


def _check_tensors(trt: Any, engine: Any, manifest: Manifest, model: Path) -> None:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    wanted = {spec.name: spec.dtype for spec in (*manifest.inputs, *manifest.outputs)}
    found = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name for name in names}
    if found != wanted:
        raise InvalidArtifact(
            f"{model} has the inputs and outputs {_listed(found)}; its manifest says "
            f"{_listed(wanted)}"
        )


def _listed(tensors: dict[str, str]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in sorted(tensors.items()))
