"""TensorRT: graphs tried in its parser and builder, engines kept to their GPU, nothing half-made.

There may be no GPU here. What is real then: parser and builder (TensorRT-RTX builds without one),
the CUDA binding and its answer that there is no driver. What is simulated says so in its name.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.machinery
import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from seatrial.artifact import Artifact, Store, sha256_file
from seatrial.engines import cuda
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.engines.tensorrt import (
    EngineRecord,
    TensorRtEngine,
    TensorRtLane,
    check_built_for,
    read_record,
    record_path,
)
from seatrial.errors import (
    DeviceUnavailable,
    InvalidArtifact,
    InvalidInput,
    MissingExtra,
    NotWritable,
)
from seatrial.lifecycle.acquire import import_onnx
from seatrial.lifecycle.tensorrt_build import build_engine, serialise, write_all
from seatrial.lifecycle.tensorrt_graph import Problem, cast_pictures_first, validate_for_tensorrt


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


RTX = pytest.mark.skipif(not installed("tensorrt_rtx"), reason="TensorRT-RTX is not installed")
BINDING = pytest.mark.skipif(
    not (installed("cuda") and installed("cuda.bindings")), reason="cuda-bindings is not installed"
)
ABSENT = pytest.mark.skipif(installed("tensorrt"), reason="TensorRT is installed")
BATCH = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), np.uint8)
RECORD = EngineRecord(
    gpu="NVIDIA L4",
    compute_capability="8.9",
    tensorrt="11.4.0",
    onnx_sha256="0" * 64,
    precision="f16",
    tf32=False,
    timing_cache="timing.cache",
    build_s=12.5,
)
L4 = cuda.Gpu("NVIDIA L4", "8.9")


def gpu_there() -> bool:
    try:
        cuda.gpu(cuda.runtime())
    except (DeviceUnavailable, MissingExtra):
        return False
    return True


GPU = pytest.mark.skipif(
    not (installed("tensorrt") and gpu_there()), reason="no TensorRT, or no NVIDIA GPU"
)
NO_GPU = pytest.mark.skipif(gpu_there(), reason="there is an NVIDIA GPU")


def write(path: Path, nodes: list[Any], inputs: Any, outputs: Any, constants: Any = None) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    return path


def quantised(path: Path, *, kind: Any = np.int8, zero: int = 0, bias: Any = np.float32) -> Path:
    """A convolution with quantised input and weights."""
    weights = np.random.default_rng(0).integers(-100, 100, (8, 3, 3, 3)).astype(np.int8)
    constants = {
        "scale": np.array(0.02, np.float32),
        "zero": np.array(zero, kind),
        "weights": weights,
        "scales": np.full(8, 0.01, np.float32),
        "zeros": np.zeros(8, np.int8),
        "bias": np.zeros(8, bias),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"], "quantise"),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"], "dequantise"),
        helper.make_node(
            "DequantizeLinear", ["weights", "scales", "zeros"], ["wd"], "dequantise_weights", axis=0
        ),
    ]
    if bias == np.int32:
        constants["no_zeros"] = np.zeros(8, np.int32)
        inputs = ["bias", "scales", "no_zeros"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, ["b"], "dequantise_bias", axis=0))
    inputs = ["xd", "wd", "b" if bias == np.int32 else "bias"]
    nodes.append(helper.make_node("Conv", inputs, ["y"], "conv"))
    return write(
        path,
        nodes,
        [("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [("y", TensorProto.FLOAT, [1, 8, 30, 30])],
        constants,
    )


def transposed_first(path: Path) -> Path:
    """Pictures in, as uint8: transposed, cast, divided, convolved."""
    return write(
        path,
        [
            helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["nchw"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["pixels", "scale"], ["scaled"]),
            helper.make_node("Conv", ["scaled", "weights"], ["y"]),
        ],
        [("image", TensorProto.UINT8, ["batch", 64, 64, 3])],
        [("y", TensorProto.FLOAT, ["batch", 4, 62, 62])],
        {
            "scale": np.array(255, np.float32),
            "weights": np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32),
        },
    )


# --- graphs, in the real parser and builder -------------------------------------------------------


@RTX
def test_uint8_may_only_be_cast(tmp_path: Path) -> None:
    (problem,) = validate_for_tensorrt(transposed_first(tmp_path / "graph.onnx"))
    assert problem.operator == "Transpose"
    assert "UInt8" in problem.message
    assert "CUDA driver" not in problem.message
    assert str(problem).startswith("Transpose ")


def test_the_cast_moves_first_and_nothing_else_changes(tmp_path: Path) -> None:
    path = transposed_first(tmp_path / "graph.onnx")
    before = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    assert cast_pictures_first(model) == 1
    assert cast_pictures_first(model) == 0
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Cast", "Transpose", "Div", "Conv"]
    after = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"image": BATCH}
    np.testing.assert_array_equal(before.run(None, feeds)[0], after.run(None, feeds)[0])


@RTX
@pytest.mark.parametrize("variant", [{}, {"batch": "batch"}, {"half": True}], ids=str)
def test_an_imported_detector_is_ready_once_its_cast_is_first(
    store: Store, model_file: Callable[..., Path], tmp_path: Path, variant: dict[str, Any]
) -> None:
    artifact = import_onnx(store, model_file(**variant))
    model = onnx.load(artifact.file("onnx"))
    cast_pictures_first(model)
    onnx.save(model, tmp_path / "ready.onnx")
    assert validate_for_tensorrt(tmp_path / "ready.onnx") == []


@RTX
def test_yolo11n_is_ready_once_its_cast_is_first(
    store: Store, shared_yolo: Path, tmp_path: Path
) -> None:
    model = onnx.load(import_onnx(store, shared_yolo).file("onnx"))
    cast_pictures_first(model)
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert model.graph.node[0].op_type == "Cast"
    onnx.save(model, tmp_path / "ready.onnx")
    assert validate_for_tensorrt(tmp_path / "ready.onnx") == []


@RTX
def test_signed_symmetric_quantisation_is_ready(tmp_path: Path) -> None:
    assert validate_for_tensorrt(quantised(tmp_path / "graph.onnx")) == []


@RTX
@pytest.mark.parametrize(
    ("changes", "node", "said"),
    [
        ({"kind": np.uint8}, "quantise", "uint8"),
        ({"kind": np.uint8, "zero": 128}, "quantise", "uint8"),
        ({"zero": 5}, "quantise", "zero point"),
        ({"bias": np.int32}, "dequantise_bias", "Int32"),
    ],
    ids=str,
)
def test_other_quantisation_is_refused(
    tmp_path: Path, changes: dict[str, Any], node: str, said: str
) -> None:
    problems = validate_for_tensorrt(quantised(tmp_path / "graph.onnx", **changes))
    assert problems[0].node == node
    assert said in problems[0].message


@RTX
def test_postprocessing_with_nonzero_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "graph.onnx",
        [
            helper.make_node("Greater", ["scores", "least"], ["kept"]),
            helper.make_node("NonZero", ["kept"], ["where"], "which"),
        ],
        [("scores", TensorProto.FLOAT, [1, 2, 100])],
        [("where", TensorProto.INT64, [3, "found"])],
        {"least": np.array(0.5, np.float32)},
    )
    (problem,) = validate_for_tensorrt(path)
    assert (problem.operator, problem.node) == ("NonZero", "which")


@RTX
def test_what_parses_and_does_not_build_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "graph.onnx",
        [helper.make_node("NonMaxSuppression", ["boxes", "scores", "most"], ["kept"], "nms")],
        [("boxes", TensorProto.FLOAT, [1, 100, 4]), ("scores", TensorProto.FLOAT, [1, 2, 100])],
        [("kept", TensorProto.INT64, ["found", 3])],
        {"most": np.array([10], np.int64)},
    )
    assert any("nms" in problem.message for problem in validate_for_tensorrt(path))


@RTX
def test_open_heights_and_widths_are_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "graph.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [("y", TensorProto.FLOAT, [1, 3, "height", "width"])],
    )
    with pytest.raises(InvalidArtifact, match="x has open sizes") as refusal:
        validate_for_tensorrt(path)
    assert "--imgsz" in refusal.value.hint


@RTX
def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"not a graph")
    with pytest.raises(InvalidArtifact, match="not a readable ONNX"):
        validate_for_tensorrt(tmp_path / "graph.onnx")


def test_without_the_validator_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = quantised(tmp_path / "graph.onnx")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == "tensorrt_rtx" else find_spec(n)
    )
    with pytest.raises(MissingExtra) as refusal:
        validate_for_tensorrt(path)
    assert "seatrial[tensorrt-check]" in refusal.value.hint


def test_a_problem_in_words() -> None:
    assert str(Problem("no", "conv", "Conv")) == "Conv conv: no"
    assert str(Problem("no")) == "no"


# --- building -------------------------------------------------------------------------------------


@RTX
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
@pytest.mark.parametrize("tf32", [False, True])
def test_the_build_steps_run_in_the_real_builder(tmp_path: Path, tf32: bool) -> None:
    import tensorrt_rtx

    path = quantised(tmp_path / "graph.onnx")
    plan, timings = serialise(tensorrt_rtx, path, timings=b"", tf32=tf32)
    assert len(plan) > 10_000
    assert isinstance(timings, bytes)
    assert list(tmp_path.iterdir()) == [path]


@RTX
def test_a_refused_graph_is_not_built(tmp_path: Path) -> None:
    import tensorrt_rtx

    path = quantised(tmp_path / "graph.onnx", zero=5)
    with pytest.raises(InvalidArtifact, match=r"refuses .*graph\.onnx: QuantizeLinear quantise"):
        serialise(tensorrt_rtx, path, timings=b"", tf32=False)


@ABSENT
def test_without_tensorrt_nothing_is_made(tmp_path: Path) -> None:
    graph, folder = quantised(tmp_path / "graph.onnx"), tmp_path / "out"
    folder.mkdir()
    with pytest.raises(MissingExtra) as refusal:
        build_engine(graph, folder, precision="int8")
    assert "seatrial[tensorrt]" in refusal.value.hint
    assert list(folder.iterdir()) == []


@pytest.fixture
def rtx_as_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-RTX under TensorRT's name: installed, as far as the code can tell."""
    module = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    find_spec = importlib.util.find_spec
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: find_spec("tensorrt_rtx" if n == "tensorrt" else n)
    )


@NO_GPU
@BINDING
@pytest.mark.usefixtures("rtx_as_tensorrt")
def test_without_a_gpu_nothing_is_made(tmp_path: Path) -> None:
    graph, folder = quantised(tmp_path / "graph.onnx"), tmp_path / "out"
    folder.mkdir()
    with pytest.raises(DeviceUnavailable, match=r"cudaGetDeviceCount failed|no NVIDIA GPU"):
        build_engine(graph, folder, precision="int8")
    assert list(folder.iterdir()) == []


@RTX
@pytest.mark.usefixtures("rtx_as_tensorrt")
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_an_engine_its_record_and_its_timings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built by TensorRT-RTX for a GPU that is only claimed to be there."""
    monkeypatch.setattr(cuda, "runtime", lambda: None)
    monkeypatch.setattr(cuda, "gpu", lambda cudart: L4)
    graph, folder = quantised(tmp_path / "graph.onnx"), tmp_path / "out"
    folder.mkdir()
    record = build_engine(graph, folder, precision="int8")
    assert sorted(p.name for p in folder.iterdir()) == [
        "model.engine",
        "model.engine.json",
        "timing.cache",
    ]
    assert read_record(folder / "model.engine") == record
    assert (record.gpu, record.compute_capability) == ("NVIDIA L4", "8.9")
    assert record.tensorrt == sys.modules["tensorrt"].__version__
    assert record.onnx_sha256 == sha256_file(graph)
    assert (record.precision, record.tf32) == ("int8", False)
    build_engine(graph, folder, precision="int8", timing_cache=folder / "timing.cache")


def test_several_files_are_written_or_none(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with pytest.raises(NotWritable, match="second"):
        write_all({tmp_path / "first": b"1", tmp_path / "second": b"2"})
    assert sorted(tmp_path.iterdir()) == [tmp_path / "second"]


def test_a_full_disk_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "second" in path.name:
            write_bytes(path, data[:1])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NotWritable, match="No space left"):
        write_all({tmp_path / "first": b"1", tmp_path / "second": b"22"})
    assert list(tmp_path.iterdir()) == []


# --- the engine: refusals -------------------------------------------------------------------------


def engine_artifact(
    artifact: Artifact, root: Path, record: EngineRecord | None = RECORD
) -> Artifact:
    store = Store(root / "engine-store")
    with store.staging() as folder:
        (folder / "model.engine").write_bytes(b"an engine")
        record_path(folder / "model.engine").write_bytes(msgspec.json.encode(record))
        manifest = msgspec.structs.replace(
            artifact.manifest, formats={"tensorrt": "model.engine"}, precision="f16"
        )
        return store.commit(folder, manifest)


def test_it_runs_on_no_cpu(tiny_artifact: Artifact, tmp_path: Path) -> None:
    artifact = engine_artifact(tiny_artifact, tmp_path)
    with pytest.raises(DeviceUnavailable, match="runs on NVIDIA GPUs, not on 'cpu'"):
        open_engine(artifact, "tensorrt", EngineConfig(precision="f16"))


@ABSENT
def test_without_tensorrt_the_extra_is_named(tiny_artifact: Artifact, tmp_path: Path) -> None:
    artifact = engine_artifact(tiny_artifact, tmp_path)
    with pytest.raises(MissingExtra) as refusal:
        open_engine(artifact, "tensorrt", EngineConfig(device="cuda", precision="f16"))
    assert "seatrial[tensorrt]" in refusal.value.hint


@NO_GPU
@BINDING
@pytest.mark.usefixtures("rtx_as_tensorrt")
def test_without_a_gpu_it_is_an_error(tiny_artifact: Artifact, tmp_path: Path) -> None:
    artifact = engine_artifact(tiny_artifact, tmp_path)
    with pytest.raises(DeviceUnavailable) as refusal:
        open_engine(artifact, "tensorrt", EngineConfig(device="cuda", precision="f16"))
    assert "CUDA" in refusal.value.message or "NVIDIA" in refusal.value.message
    assert refusal.value.hint


def test_the_gpu_and_version_that_it_was_built_for() -> None:
    check_built_for(RECORD, L4, "11.4.0")


@pytest.mark.parametrize(
    ("gpu", "version", "said"),
    [
        (L4, "11.3.0", "built by TensorRT 11.4.0; this is 11.3.0"),
        (cuda.Gpu("NVIDIA L40S", "8.9"), "11.4.0", "built for NVIDIA L4 .* NVIDIA L40S"),
        (cuda.Gpu("NVIDIA L4", "9.0"), "11.4.0", r"8\.9\); this is NVIDIA L4 \(9\.0\)"),
    ],
    ids=["version", "gpu", "capability"],
)
def test_another_gpu_or_version_is_refused(gpu: cuda.Gpu, version: str, said: str) -> None:
    with pytest.raises(DeviceUnavailable, match=said) as refusal:
        check_built_for(RECORD, gpu, version)
    assert "--to tensorrt" in refusal.value.hint


@pytest.mark.parametrize("text", [None, "{", '{"gpu": "NVIDIA L4"}', '{"gpuu": 1}'])
def test_an_engine_without_a_sound_record(tmp_path: Path, text: str | None) -> None:
    engine = tmp_path / "model.engine"
    if text is not None:
        record_path(engine).write_text(text)
    with pytest.raises(InvalidArtifact, match=r"model\.engine") as refusal:
        read_record(engine)
    assert "--to tensorrt" in refusal.value.hint


# --- the engine: its steps, simulated -------------------------------------------------------------


class SimulatedCuda:
    """The CUDA runtime's calls on ordinary memory, with their order and what is not given back."""

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaError_t = SimpleNamespace(cudaSuccess=0)  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.held: dict[int, Any] = {}
        self.streams = 0
        self.memory_left = 2**40

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:  # noqa: N802
        return 0, b"out of memory"

    def cudaGetDeviceCount(self) -> tuple[int, int]:  # noqa: N802
        return 0, 1

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:  # noqa: N802
        return 0, SimpleNamespace(name=b"NVIDIA L4\0\0", major=8, minor=9)

    def cudaMalloc(self, size: int) -> tuple[int, int | None]:  # noqa: N802
        self.memory_left -= size
        if self.memory_left < 0:
            return 2, None
        memory = ctypes.create_string_buffer(size)
        self.held[ctypes.addressof(memory)] = memory
        return 0, ctypes.addressof(memory)

    cudaMallocHost = cudaMalloc  # noqa: N815

    def cudaFree(self, address: int) -> tuple[int]:  # noqa: N802
        del self.held[address]
        return (0,)

    cudaFreeHost = cudaFree  # noqa: N815

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:  # noqa: N802
        self.streams += 1
        self.held[self.streams] = "a stream"
        return 0, self.streams

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:  # noqa: N802
        del self.held[stream]
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:  # noqa: N802
        self.calls.append("synchronize")
        return (0,)

    def cudaMemcpyAsync(  # noqa: N802
        self, to: int, source: int, size: int, kind: int, stream: int
    ) -> tuple[int]:
        self.calls.append("copy in" if kind == 1 else "copy out")
        ctypes.memmove(to, source, size)
        return (0,)


class SimulatedContext:
    """An execution context of a graph that gives each pixel plus one, as float32."""

    def __init__(self, calls: list[str], *, runs: bool = True) -> None:
        self.calls, self.runs = calls, runs
        self.shape: tuple[int, ...] = ()
        self.address: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return shape[1:] == (64, 64, 3)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.address[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.calls.append("execute")
        size = int(np.prod(self.shape))
        pixels = (ctypes.c_uint8 * size).from_address(self.address["image"])
        answer = (ctypes.c_float * size).from_address(self.address["output0"])
        np.frombuffer(answer, np.float32)[:] = np.frombuffer(pixels, np.uint8) + 1.0
        return self.runs


@pytest.fixture
def simulated() -> SimulatedCuda:
    return SimulatedCuda()


def lane_of(artifact: Artifact, simulated: SimulatedCuda, **context: Any) -> TensorRtLane:
    return TensorRtLane(
        simulated,
        SimulatedContext(simulated.calls, **context),
        artifact.manifest.inputs,
        artifact.manifest.outputs,
    )


def test_simulated_a_lane_copies_runs_copies_and_waits(
    tiny_artifact: Artifact, simulated: SimulatedCuda
) -> None:
    lane = lane_of(tiny_artifact, simulated)
    for picture in (BATCH, 255 - BATCH):
        simulated.calls.clear()
        answer = lane.infer({"image": picture})["output0"]
        np.testing.assert_array_equal(answer, picture + 1.0)
        assert simulated.calls == ["copy in", "execute", "copy out", "synchronize"]
    lane.close()
    assert simulated.held == {}


@pytest.mark.parametrize("batch", [BATCH[:, :32], BATCH.astype(np.float32), BATCH[0]])
def test_simulated_a_picture_of_another_shape_is_not_stretched(
    tiny_artifact: Artifact, simulated: SimulatedCuda, batch: np.ndarray
) -> None:
    with pytest.raises(InvalidInput, match="the graph takes"):
        lane_of(tiny_artifact, simulated).infer({"image": batch})
    assert simulated.calls == []


def test_simulated_a_request_that_is_not_taken(
    tiny_artifact: Artifact, simulated: SimulatedCuda
) -> None:
    with pytest.raises(DeviceUnavailable, match="did not take"):
        lane_of(tiny_artifact, simulated, runs=False).infer({"image": BATCH})


@pytest.mark.parametrize("free", [0, 64 * 64 * 3, 2 * 64 * 64 * 3, 3 * 64 * 64 * 3])
def test_simulated_a_full_gpu_keeps_nothing(
    tiny_artifact: Artifact, simulated: SimulatedCuda, free: int
) -> None:
    simulated.memory_left = free
    with pytest.raises(DeviceUnavailable, match="out of memory"):
        lane_of(tiny_artifact, simulated)
    assert simulated.held == {}


class SimulatedEngine:
    """What TensorRT makes of an engine file, with the tiny detector's inputs and outputs."""

    num_io_tensors = 2

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def get_tensor_name(self, index: int) -> str:
        return ("image", "output0")[index]

    def get_tensor_dtype(self, name: str) -> str:
        return {"image": "uint8", "output0": "float32"}[name]

    def create_execution_context(self) -> SimulatedContext:
        return SimulatedContext(self.calls)


@pytest.fixture
def simulated_tensorrt(simulated: SimulatedCuda, monkeypatch: pytest.MonkeyPatch) -> SimulatedCuda:
    """A module ``tensorrt`` that reads the engine file ``an engine``, and a GPU to run it on."""
    module = types.ModuleType("tensorrt")
    module.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    module.__version__ = "11.4.0"

    class ILogger:
        Severity = SimpleNamespace(WARNING=2)

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, data: bytes) -> SimulatedEngine | None:
            if data == b"an engine":
                return SimulatedEngine(simulated.calls)
            self.log.log(1, "magic tag does not match")
            return None

    module.ILogger, module.Runtime, module.nptype = ILogger, Runtime, np.dtype
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(cuda, "runtime", lambda: simulated)
    return simulated


def test_simulated_an_engine_opens_runs_and_gives_all_back(
    tiny_artifact: Artifact, tmp_path: Path, simulated_tensorrt: SimulatedCuda
) -> None:
    artifact = engine_artifact(tiny_artifact, tmp_path)
    config = EngineConfig(device="cuda", precision="f16", instances=2)
    engine = open_engine(artifact, "tensorrt", config)
    assert (engine.name, engine.device, engine.precision) == ("tensorrt", "cuda", "f16")
    assert len(engine.narrow) == 2
    assert engine.wide is None
    assert engine.properties()["gpu"] == "NVIDIA L4"
    for lane in engine.narrow:
        answer = lane.infer({"image": BATCH})["output0"]
        np.testing.assert_array_equal(answer, BATCH + 1.0)
    engine.close()
    assert simulated_tensorrt.held == {}


@pytest.mark.parametrize(
    ("record", "precision", "said"),
    [
        ({"precision": "f32"}, "f16", "computes in f32"),
        ({"gpu": "NVIDIA A100"}, "f16", "NVIDIA A100"),
        ({"tensorrt": "10.13.0"}, "f16", "10.13.0"),
    ],
    ids=["precision", "gpu", "version"],
)
def test_simulated_an_engine_of_another_kind_is_refused(
    tiny_artifact: Artifact,
    tmp_path: Path,
    simulated_tensorrt: SimulatedCuda,
    record: dict[str, str],
    precision: Any,
    said: str,
) -> None:
    artifact = engine_artifact(tiny_artifact, tmp_path, msgspec.structs.replace(RECORD, **record))
    with pytest.raises(DeviceUnavailable, match=said):
        open_engine(artifact, "tensorrt", EngineConfig(device="cuda", precision=precision))
    assert simulated_tensorrt.held == {}


@pytest.mark.parametrize(
    ("record", "asked", "reported"),
    [
        ({"precision": "f32"}, "f32", "f32"),
        ({"precision": "f32", "tf32": True}, "f32", "tf32"),
        ({"precision": "int8"}, "f32", "int8"),
    ],
    ids=str,
)
def test_simulated_the_precision_is_the_records(
    tiny_artifact: Artifact,
    tmp_path: Path,
    simulated_tensorrt: SimulatedCuda,
    record: dict[str, Any],
    asked: Any,
    reported: str,
) -> None:
    artifact = engine_artifact(tiny_artifact, tmp_path, msgspec.structs.replace(RECORD, **record))
    engine = open_engine(artifact, "tensorrt", EngineConfig(device="cuda", precision=asked))
    assert engine.precision == reported


def test_simulated_a_damaged_engine(
    tiny_artifact: Artifact, tmp_path: Path, simulated_tensorrt: SimulatedCuda
) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(b"half an eng")
    record_path(path).write_bytes(msgspec.json.encode(RECORD))
    with pytest.raises(InvalidArtifact, match="magic tag"):
        TensorRtEngine(path, tiny_artifact.manifest, EngineConfig(device="cuda", precision="f16"))


def test_simulated_an_engine_of_another_graph(
    tiny_artifact: Artifact, tmp_path: Path, simulated_tensorrt: SimulatedCuda
) -> None:
    artifact = engine_artifact(tiny_artifact, tmp_path)
    (output,) = artifact.manifest.outputs
    manifest = msgspec.structs.replace(
        artifact.manifest, outputs=(msgspec.structs.replace(output, name="boxes"),)
    )
    with pytest.raises(InvalidArtifact, match=r"output0 \(float32\); its manifest says boxes"):
        TensorRtEngine(
            artifact.file("tensorrt"), manifest, EngineConfig(device="cuda", precision="f16")
        )


# --- on a GPU -------------------------------------------------------------------------------------


@GPU
def test_on_a_gpu_the_numbers_are_the_cpus(tiny_artifact: Artifact, tmp_path: Path) -> None:
    model = onnx.load(tiny_artifact.file("onnx"))
    cast_pictures_first(model)
    onnx.save(model, tmp_path / "ready.onnx")
    build_engine(tmp_path / "ready.onnx", tmp_path, precision="f32")
    assert json.loads((tmp_path / "model.engine.json").read_text())["gpu"]
    config = EngineConfig(device="cuda", instances=2)
    engine = TensorRtEngine(tmp_path / "model.engine", tiny_artifact.manifest, config)
    reference = open_engine(tiny_artifact, "onnxruntime", EngineConfig()).narrow[0]
    for lane in engine.narrow:
        for picture in (BATCH, 255 - BATCH):
            got = lane.infer({"image": picture})["output0"]
            expected = reference.infer({"image": picture})["output0"]
            np.testing.assert_allclose(got, expected, atol=1e-4)
    engine.close()
