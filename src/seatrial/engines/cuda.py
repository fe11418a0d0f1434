"""Calls of the CUDA runtime that an engine needs: the GPU, a stream, memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.errors import DeviceUnavailable, InvalidInput
from seatrial.system.extras import require

DRIVER = "libcuda.so.1"


class Gpu(msgspec.Struct, frozen=True):
    """An NVIDIA GPU.

    Attributes:
        name: Name that the driver reports, for example ``"NVIDIA L4"``.
        compute_capability: Compute capability, for example ``"8.9"``.
    """

    name: str
    compute_capability: str


def check_driver() -> None:
    """Check that NVIDIA's driver is there: no package can replace it.

    Raises:
        DeviceUnavailable: The driver is missing.
    """
    try:
        ctypes.CDLL(DRIVER)
    except OSError as error:
        raise DeviceUnavailable(
            f"there is no NVIDIA GPU here: its driver is missing ({DRIVER} does not load)",
            hint="run this on the machine with the GPU; nvidia-smi shows whether its driver works",
        ) from error


def runtime() -> ModuleType:
    """NVIDIA's Python binding of the CUDA runtime.

    Raises:
        MissingExtra: It is not installed.
    """
    return require("cuda.bindings.runtime", extra="tensorrt", purpose="memory on NVIDIA GPUs")


def call(cudart: Any, function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a function of the runtime and return its result.

    Raises:
        DeviceUnavailable: The function reports an error.
    """
    error, *results = function(*arguments)
    if error != cudart.cudaError_t.cudaSuccess:
        text = cudart.cudaGetErrorString(error)[1]
        words = text.decode() if isinstance(text, bytes) else str(error)
        raise DeviceUnavailable(
            f"CUDA: {getattr(function, '__name__', function)} failed: {words}",
            hint="nvidia-smi shows whether a GPU and its driver are there",
        )
    return results[0] if results else None


def gpu(cudart: Any) -> Gpu:
    """The first GPU.

    Raises:
        DeviceUnavailable: There is none, or its driver is missing or too old.
    """
    if not call(cudart, cudart.cudaGetDeviceCount):
        raise DeviceUnavailable("there is no NVIDIA GPU", hint="use --device cpu")
    found = call(cudart, cudart.cudaGetDeviceProperties, 0)
    name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
    return Gpu(name.rstrip("\0"), f"{found.major}.{found.minor}")


class Stream:
    """A queue of work on the GPU."""

    def __init__(self, cudart: Any) -> None:
        self._cudart = cudart
        self.handle = call(cudart, cudart.cudaStreamCreateWithFlags, cudart.cudaStreamNonBlocking)

    def synchronize(self) -> None:
        """Wait until all work in the stream is done."""
        call(self._cudart, self._cudart.cudaStreamSynchronize, self.handle)

    def close(self) -> None:
        """Release the stream."""
        call(self._cudart, self._cudart.cudaStreamDestroy, self.handle)


class Tensor:
    """An input or output, on the GPU and in page-locked memory, which is copied directly.

    Attributes:
        host: (shape) array in page-locked memory.
        device: Address on the GPU.
    """

    def __init__(self, cudart: Any, shape: tuple[int, ...], dtype: str) -> None:
        self._cudart = cudart
        kind = np.dtype(dtype)
        self._bytes = int(np.prod(shape)) * kind.itemsize
        self.device = int(call(cudart, cudart.cudaMalloc, self._bytes))
        try:
            self._address = int(call(cudart, cudart.cudaMallocHost, self._bytes))
        except DeviceUnavailable:
            call(cudart, cudart.cudaFree, self.device)
            raise
        memory: Any = (ctypes.c_uint8 * self._bytes).from_address(self._address)
        self.host: NDArray[Any] = np.frombuffer(memory, kind).reshape(shape)

    def fill(self, values: NDArray[Any], stream: Stream) -> None:
        """Copy values to the GPU, in the stream's order.

        Raises:
            InvalidInput: They have another shape or dtype than the tensor.
        """
        if values.shape != self.host.shape or values.dtype != self.host.dtype:
            raise InvalidInput(
                f"the graph takes {self.host.shape} {self.host.dtype}, "
                f"got {values.shape} {values.dtype}"
            )
        self.host[...] = values
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self.device, self._address, kind, stream)

    def fetch(self, stream: Stream) -> None:
        """Copy the values from the GPU to `host`, in the stream's order."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(self._address, self.device, kind, stream)

    def close(self) -> None:
        """Release the memory: `host` must not be used any more."""
        self.host = np.empty(0, self.host.dtype)
        call(self._cudart, self._cudart.cudaFree, self.device)
        call(self._cudart, self._cudart.cudaFreeHost, self._address)

    def _copy(self, to: int, source: int, kind: Any, stream: Stream) -> None:
        copy = self._cudart.cudaMemcpyAsync
        call(self._cudart, copy, to, source, self._bytes, kind, stream.handle)
