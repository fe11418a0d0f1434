"""The CUDA runtime simulated on ordinary memory."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any


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
