"""Calls of the CUDA runtime, simulated on ordinary memory: errors mapped, memory released."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from tests.support.simulated_cuda import SimulatedCuda

from seatrial.engines import cuda
from seatrial.errors import DeviceUnavailable, InvalidInput


@pytest.fixture
def simulated() -> SimulatedCuda:
    return SimulatedCuda()


def test_a_call_returns_its_result_or_raises_its_error(simulated: SimulatedCuda) -> None:
    assert cuda.call(simulated, lambda a, b: (0, a + b), 2, 3) == 5
    assert cuda.call(simulated, lambda: (0,)) is None

    def fails() -> tuple[int, None]:
        return 2, None

    with pytest.raises(DeviceUnavailable, match="CUDA: fails failed: out of memory") as refusal:
        cuda.call(simulated, fails)
    assert "nvidia-smi" in refusal.value.hint


def test_the_gpu_is_named_without_the_padding_of_its_name(simulated: SimulatedCuda) -> None:
    assert cuda.gpu(simulated) == cuda.Gpu("NVIDIA L4", "8.9")


def test_no_gpu_is_an_error(simulated: SimulatedCuda) -> None:
    simulated.cudaGetDeviceCount = lambda: (0, 0)  # type: ignore[method-assign]
    with pytest.raises(DeviceUnavailable, match="there is no NVIDIA GPU"):
        cuda.gpu(simulated)


def test_a_missing_driver_is_told_before_any_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(DeviceUnavailable, match=cuda.DRIVER):
        cuda.check_driver()


def test_values_go_to_the_gpu_and_come_back(simulated: SimulatedCuda) -> None:
    stream, tensor = cuda.Stream(simulated), cuda.Tensor(simulated, (2, 3), "float32")
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor.fill(values, stream)
    tensor.host[...] = 0
    tensor.fetch(stream)
    stream.synchronize()
    np.testing.assert_array_equal(tensor.host, values)
    assert simulated.calls == ["copy in", "copy out", "synchronize"]
    tensor.close()
    stream.close()
    assert simulated.held == {}


@pytest.mark.parametrize("wrong", [np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float64)])
def test_values_of_another_shape_or_dtype_are_refused(
    simulated: SimulatedCuda, wrong: np.ndarray
) -> None:
    tensor = cuda.Tensor(simulated, (2, 3), "float32")
    with pytest.raises(InvalidInput, match=r"takes \(2, 3\) float32, got"):
        tensor.fill(wrong, cuda.Stream(simulated))
    assert simulated.calls == []


def test_memory_on_the_gpu_is_released_where_the_host_has_none(simulated: SimulatedCuda) -> None:
    simulated.memory_left = 24  # enough for one of the two
    with pytest.raises(DeviceUnavailable, match="out of memory"):
        cuda.Tensor(simulated, (2, 3), "float32")
    assert simulated.held == {}
