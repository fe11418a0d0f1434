"""PyTorch: exported graphs (``.pt2``), as they are or compiled, on the CPU and on NVIDIA GPUs.

PyTorch keeps the number of threads for each calling thread; a thread takes it over from the
process when it first computes. A lane on the CPU therefore owns the thread that it computes on
(`TorchLane`): each lane then has its own number of threads, from whatever thread it is called.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seatrial.engines.base import Arrays, EngineConfig, Lane, of_batch
from seatrial.engines.sized_lane import SizedLane, batch_sizes, sized
from seatrial.engines.torch_cuda import TorchCudaLane
from seatrial.errors import DeviceUnavailable, InvalidArtifact, first_line
from seatrial.manifest import Manifest, TensorSpec
from seatrial.system.extras import require
from seatrial.system.files import staged_file

# (input tensors, in the manifest's order) -> output tensors, in the manifest's order and dtypes
Forward = Callable[..., tuple[Any, ...]]
DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


class TorchLane:
    """A thread that runs the graph, with the threads that share in its operators.

    Args:
        torch: The torch module.
        forward: Runs the graph.
        threads: Number of threads that compute one request.
        inputs: Inputs in the order in which `forward` takes them.
        outputs: Outputs in the order in which it gives them.
    """

    lends = False

    def __init__(
        self,
        torch: Any,
        forward: Forward,
        threads: int,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        self.threads = threads
        self._torch = torch
        self._forward = forward
        self._inputs = [spec.name for spec in inputs]
        self._outputs = [spec.name for spec in outputs]
        self._worker = ThreadPoolExecutor(1, "seatrial-torch", self._keep_to_threads)

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `seatrial.engines.base.Lane.infer`."""
        return self._worker.submit(self._infer, feeds).result()

    def threads_set(self) -> int:
        """Number of threads of the lane's next request, as PyTorch reports it."""
        return int(self._worker.submit(self._torch.get_num_threads).result())

    def close(self) -> None:
        """End the thread."""
        self._worker.shutdown()

    def _keep_to_threads(self) -> None:
        # A thread takes over the number of the process when it first asks for it, so ask first:
        # from then on the number set here is the thread's own, whatever others set.
        self._torch.get_num_threads()
        self._torch.set_num_threads(self.threads)

    def _infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        tensors = [self._torch.from_numpy(_writable(feeds[name])) for name in self._inputs]
        answers = self._forward(*tensors)
        return {n: t.numpy() for n, t in zip(self._outputs, answers, strict=True)}


class TorchEngine:
    """An exported graph, run operator by operator."""

    formats: ClassVar[tuple[str, ...]] = ("torch",)
    name = "torch"
    compiles = False

    def __init__(self, model: Path, manifest: Manifest, config: EngineConfig) -> None:
        """See `seatrial.engines.base.EngineFactory`."""
        torch = require("torch", extra="torch", purpose=f"the {self.name} engine")
        _check_device(torch, config.device)
        _check_precision(torch, config, manifest.precision)
        self.inputs, self.outputs = manifest.inputs, manifest.outputs
        self.device, self.precision = config.device, str(config.precision)
        program = _load(model, manifest)
        if config.device == "cuda":
            program = move(program, "cuda")
        module = program.module()
        if self.compiles:
            module = torch.compile(module, fullgraph=True, dynamic=False)
        forward = _forward(torch, module, config, manifest)
        self._torch, self._forward = torch, forward
        self._lanes: list[TorchLane | TorchCudaLane] = []
        self._max_batch = config.max_batch
        self.narrow: tuple[Lane, ...] = ()
        self.wide: Lane | None = None
        before = torch.get_num_threads()
        try:
            self._open(torch, forward, config)
        except BaseException:
            self.close()
            raise
        finally:
            torch.set_num_threads(before)  # the process keeps its own number
        self._properties = _properties(torch, self.compiles, config)

    def _open(self, torch: Any, forward: Forward, config: EngineConfig) -> None:
        for _ in range(config.instances):
            narrow = self._lane(torch, forward, config.device, config.threads, config.max_batch)
            self.narrow += (narrow,)
        if config.wide_threads and config.device == "cpu":
            self.wide = self._lane(torch, forward, config.device, config.wide_threads, 1)

    def _lane(
        self, torch: Any, forward: Forward, device: str, threads: int, max_batch: int
    ) -> Lane:
        """A lane that has run once: a graph is compiled when it first runs."""
        hint = "the torch engine needs no C++ compiler (g++)" if self.compiles else ""

        def on_gpu(size: int) -> TorchCudaLane:
            one = TorchCudaLane(torch, forward, self.inputs, self.outputs, self.compiles, size)
            self._lanes.append(one)
            return one

        try:
            if device == "cuda":
                return sized(on_gpu, max_batch)
            lane = TorchLane(torch, forward, threads, self.inputs, self.outputs)
            self._lanes.append(lane)
            sizes = batch_sizes(max_batch)  # each is compiled
            for size in reversed(sizes if self.compiles else (1,)):
                shapes = {s.name: (of_batch(s.shape, size), s.dtype) for s in self.inputs}
                answers = lane.infer({n: np.zeros(*given) for n, given in shapes.items()})
        except RuntimeError as error:
            raise DeviceUnavailable(
                f"PyTorch does not run the graph: {first_line(error)}", hint=hint
            ) from error
        if lane.threads_set() != threads:
            raise DeviceUnavailable(
                f"PyTorch was asked for {threads} threads and uses {lane.threads_set()}",
                hint="use threads = 1 in the deployment's [layout]",
            )
        _check_answers(answers, self.outputs)
        return SizedLane(dict.fromkeys(sizes, lane)) if self.compiles and max_batch > 1 else lane

    def renew(self, lane: Lane) -> Lane:
        """See `seatrial.engines.base.RenewingEngine.renew`.

        Raises:
            DeviceUnavailable: On a GPU, which a stuck run may hold as a whole.
        """
        if self.device != "cpu":
            raise DeviceUnavailable(f"a lane on {self.device} cannot be renewed")
        most = 1 if lane is self.wide else self._max_batch
        return self._lane(self._torch, self._forward, self.device, lane.threads, most)

    def properties(self) -> dict[str, str]:
        """See `seatrial.engines.base.Engine.properties`."""
        return self._properties

    def close(self) -> None:
        """See `seatrial.engines.base.Engine.close`."""
        self.narrow, self.wide = (), None
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()


class TorchCompileEngine(TorchEngine):
    """An exported graph, compiled by TorchInductor; on a GPU, replayed as a CUDA graph."""

    name = "torch-compile"
    compiles = True


def save(
    module: Any, inputs: Mapping[str, NDArray[Any]], path: Path, *, dynamic_batch: bool = False
) -> None:
    """Trace a module into a file that this engine reads.

    Args:
        module: ``torch.nn.Module`` in evaluation mode; takes the inputs in their order, and
            gives a tensor or a tuple of tensors.
        inputs: Input name -> an example of batch size 1; its shape and dtype are the graph's.
        path: The file to write, ``.pt2``; written whole or not at all.
        dynamic_batch: Leave the batch size open.

    Raises:
        InvalidArtifact: The module's code cannot be traced, or it takes a batch size as constant.
    """
    torch = require("torch", extra="torch", purpose="exporting torch graphs")
    # A batch size of 1 would be taken for a constant.
    arrays = (np.concatenate([a, a]) if dynamic_batch else a for a in inputs.values())
    examples = tuple(torch.from_numpy(_writable(array)) for array in arrays)
    sizes = tuple({0: torch.export.Dim.DYNAMIC} for _ in examples) if dynamic_batch else None
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # YOLO's head keeps the anchors of the last canvas; here there is only one canvas.
            warnings.filterwarnings("ignore", "The tensor attribute", UserWarning)
            program = torch.export.export(module, examples, dynamic_shapes=sizes)
    except Exception as error:  # tracing runs the module's own code
        raise InvalidArtifact(
            f"PyTorch does not trace the module: {first_line(error)}",
            hint="leave out --dynamic-batch" if dynamic_batch else "",
        ) from error
    with staged_file(path) as part, warnings.catch_warnings():
        # Weights that are parts of one tensor are written as that tensor, which is right.
        warnings.filterwarnings("ignore", "No complete tensor found", UserWarning)
        torch.export.save(program, part)


def move(program: Any, device: str) -> Any:
    """An exported program with its weights and the tensors that it creates on a device."""
    passes = require("torch.export.passes", extra="torch", purpose="running graphs on GPUs")
    return passes.move_to_device_pass(program, device)


def read(model: Path) -> Any:
    """The exported program in a ``.pt2`` file.

    Raises:
        InvalidArtifact: The file is of another kind, or cut off.
    """
    torch = require("torch", extra="torch", purpose="reading torch graphs")
    log = logging.getLogger("torch._export.serde.serialize")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of symbolic sizes whose values tracing found later
    try:
        return torch.export.load(model)
    except Exception as error:  # a broken archive raises BadZipFile, KeyError, RuntimeError, ...
        raise InvalidArtifact(
            f"PyTorch does not read {model}: {first_line(error)}",
            hint="it must be a file of torch.export.save (.pt2), of this or an older version",
        ) from error
    finally:
        log.setLevel(level)


def _load(model: Path, manifest: Manifest) -> Any:
    program = read(model)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    found = [values[name] for name in program.graph_signature.user_inputs]
    takes = [
        # A size that the graph leaves open is a symbol, not a number.
        (_sizes(value.shape), str(value.dtype).removeprefix("torch."))
        for value in found
    ]
    wanted = [(of_batch(spec.shape), spec.dtype) for spec in manifest.inputs]
    if takes != wanted:
        raise InvalidArtifact(f"{model} takes {takes}; its manifest says {wanted}")
    return program


def _sizes(shape: Any) -> tuple[int, ...]:
    return of_batch(tuple(size if isinstance(size, int) else -1 for size in shape))


def _forward(torch: Any, module: Any, config: EngineConfig, manifest: Manifest) -> Forward:
    """The graph in the precision asked for, with answers in the dtypes of the manifest."""
    dtypes = [getattr(torch, spec.dtype) for spec in manifest.outputs]
    settings: dict[str, Any] = {
        "device_type": config.device,
        "dtype": getattr(torch, DTYPES[config.precision]),
        "enabled": config.precision != "f32" and manifest.precision == "f32",
        # Cast weights that outlive a call could not be part of a captured CUDA graph.
        "cache_enabled": False,
    }

    def forward(*tensors: Any) -> tuple[Any, ...]:
        with torch.inference_mode(), torch.autocast(**settings):
            answers = module(*tensors)
            answers = answers if isinstance(answers, (tuple, list)) else (answers,)
            return tuple(t.to(dtype) for t, dtype in zip(answers, dtypes, strict=True))

    return forward


def _check_device(torch: Any, device: str) -> None:
    if device == "cpu":
        return
    if device != "cuda" or not torch.cuda.is_available():
        raise DeviceUnavailable(
            f"PyTorch {torch.__version__} cannot run on {device!r} here; it can on: cpu",
            hint="use --device cpu, or install a PyTorch with CUDA on a machine with a GPU",
        )
    # By default float32 convolutions are rounded to TF32, with 10 bits of mantissa.
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cudnn.rnn.fp32_precision = "ieee"


def _check_precision(torch: Any, config: EngineConfig, graph_precision: str) -> None:
    if config.precision == graph_precision == "f32":
        return
    if graph_precision not in ("f32", config.precision):
        raise DeviceUnavailable(
            f"the graph's weights are {graph_precision}; PyTorch does not run it in "
            f"{config.precision}",
            hint=f"use --precision {graph_precision}",
        )
    if config.device == "cuda":
        able = config.precision != "bf16" or torch.cuda.is_bf16_supported(False)
    elif config.precision == "bf16":
        able = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        able = torch.ops.mkldnn._is_mkldnn_fp16_supported()
    if not able:
        raise DeviceUnavailable(
            f"this {config.device} has no {config.precision} arithmetic that PyTorch uses",
            hint="use --precision f32",
        )


def _check_answers(answers: Arrays, outputs: tuple[TensorSpec, ...]) -> None:
    for spec in outputs:
        found = answers[spec.name].shape
        fits = len(found) == len(spec.shape) and all(
            size in (found_size, -1) for found_size, size in zip(found, spec.shape, strict=True)
        )
        if not fits:
            raise InvalidArtifact(
                f"the graph's output {spec.name} is {found}; its manifest says {spec.shape}"
            )


def _properties(torch: Any, compiles: bool, config: EngineConfig) -> dict[str, str]:
    found = {"version": str(torch.__version__), "threads": str(config.threads)}
    if config.precision != "f32":
        found["precision"] = "autocast: convolutions and matrix products"
    if compiles:
        found["compiler"] = "inductor"
    if config.device == "cuda":
        found["gpu"] = str(torch.cuda.get_device_name(0))
        found["cuda_graph"] = "yes" if compiles else "no"
    return found


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    # PyTorch has no read-only tensors and warns of arrays that are.
    return array if array.flags.writeable else array.copy()
