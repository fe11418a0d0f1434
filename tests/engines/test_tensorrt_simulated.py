"""The steps of the TensorRT engine, simulated on ordinary memory: order, memory given back.

Nothing here shows that TensorRT or CUDA behaves so: the tests on a GPU are in test_tensorrt.py.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import sys
import types
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.support.simulated_cuda import SimulatedCuda

from seatrial.artifact import Artifact
from seatrial.engines import cuda
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.engines.tensorrt import TensorRtEngine, TensorRtLane
from seatrial.errors import DeviceUnavailable, InvalidArtifact, InvalidInput

BATCH = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), np.uint8)


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
    with pytest.raises(DeviceUnavailable, match="refused the request"):
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

        def __init__(self) -> None:
            self.ready = True

    class Runtime:
        def __init__(self, log: Any) -> None:
            assert log.ready  # a class of pybind11 without its __init__ is a TypeError
            self.log = log

        def deserialize_cuda_engine(self, data: bytes) -> SimulatedEngine | None:
            if data == b"an engine":
                return SimulatedEngine(simulated.calls)
            self.log.log(1, "magic tag does not match")
            return None

    module.ILogger, module.Runtime, module.nptype = ILogger, Runtime, np.dtype
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(cuda, "check_driver", lambda: None)
    monkeypatch.setattr(cuda, "runtime", lambda: simulated)
    return simulated


def test_simulated_an_engine_opens_runs_and_gives_all_back(
    built: Callable[..., Artifact], simulated_tensorrt: SimulatedCuda
) -> None:
    config = EngineConfig(device="cuda", precision="f16", instances=2)
    engine = open_engine(built(), "tensorrt", config)
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
    ("changes", "precision", "said"),
    [
        ({"precision": "f32"}, "f16", "computes in f32"),
        ({"gpu": "NVIDIA A100"}, "f16", "NVIDIA A100"),
        ({"tensorrt": "10.13.0"}, "f16", "10.13.0"),
    ],
    ids=["precision", "gpu", "version"],
)
def test_simulated_an_engine_of_another_kind_is_refused(
    built: Callable[..., Artifact],
    simulated_tensorrt: SimulatedCuda,
    changes: dict[str, str],
    precision: Any,
    said: str,
) -> None:
    artifact = built(**changes)
    with pytest.raises(DeviceUnavailable, match=said):
        open_engine(artifact, "tensorrt", EngineConfig(device="cuda", precision=precision))
    assert simulated_tensorrt.held == {}


@pytest.mark.parametrize(
    ("changes", "asked", "reported"),
    [
        ({"precision": "f32"}, "f32", "f32"),
        ({"precision": "f32", "tf32": True}, "f32", "tf32"),
        ({"precision": "int8"}, "f32", "int8"),
    ],
    ids=str,
)
def test_simulated_the_precision_is_the_records(
    built: Callable[..., Artifact],
    simulated_tensorrt: SimulatedCuda,
    changes: dict[str, Any],
    asked: Any,
    reported: str,
) -> None:
    engine = open_engine(built(**changes), "tensorrt", EngineConfig(device="cuda", precision=asked))
    assert engine.precision == reported


def test_simulated_a_damaged_engine(
    built: Callable[..., Artifact], simulated_tensorrt: SimulatedCuda
) -> None:
    artifact = built()
    path = artifact.file("tensorrt")
    path.write_bytes(b"half an eng")
    with pytest.raises(InvalidArtifact, match="magic tag"):
        TensorRtEngine(path, artifact.manifest, EngineConfig(device="cuda", precision="f16"))


def test_simulated_an_engine_of_another_graph(
    built: Callable[..., Artifact], simulated_tensorrt: SimulatedCuda
) -> None:
    artifact = built()
    (output,) = artifact.manifest.outputs
    manifest = msgspec.structs.replace(
        artifact.manifest, outputs=(msgspec.structs.replace(output, name="boxes"),)
    )
    with pytest.raises(InvalidArtifact, match=r"output0 \(float32\); its manifest says boxes"):
        TensorRtEngine(
            artifact.file("tensorrt"), manifest, EngineConfig(device="cuda", precision="f16")
        )
