"""A lane of the torch engines on an NVIDIA GPU: a stream, fixed memory, a CUDA graph on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from seatrial.engines.base import Arrays, of_batch
from seatrial.errors import InvalidInput
from seatrial.manifest import TensorSpec

WARM_UP_RUNS = 3  # cuDNN and Inductor choose kernels in the first runs


class TorchCudaLane:
    """Runs a graph on the GPU, from any thread.

    Args:
        torch: The torch module.
        forward: Runs the graph: tensors on the GPU in, tensors on the GPU out.
        inputs: Inputs in the order in which `forward` takes them.
        outputs: Outputs in the order in which it gives them.
        capture: Record one run as a CUDA graph and replay it for each request: one launch in
            place of hundreds.
        size: Batch size.
    """

    threads = 1
    lends = True

    def __init__(
        self,
        torch: Any,
        forward: Callable[..., tuple[Any, ...]],
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        capture: bool,
        size: int = 1,
    ) -> None:
        self._torch = torch
        self._forward = forward
        self._stream = torch.cuda.Stream()
        self._names = [spec.name for spec in outputs]
        self._pinned, self._inputs = {}, {}
        for spec in inputs:
            shape = of_batch(spec.shape, size)
            dtype = getattr(torch, spec.dtype)
            self._pinned[spec.name] = torch.zeros(shape, dtype=dtype, pin_memory=True)
            self._inputs[spec.name] = torch.zeros(shape, dtype=dtype, device="cuda")
        # The zeros are written in the default stream; this lane's stream does not wait for it.
        torch.cuda.synchronize()
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_RUNS):
                answers = forward(*self._inputs.values())
        self._stream.synchronize()
        self._answers = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in answers]
        self._graph = self._capture() if capture else None

    def _capture(self) -> Any:
        graph = self._torch.cuda.CUDAGraph()
        # "thread_local": other lanes may use the GPU at the same time.
        with self._torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._captured = self._forward(*self._inputs.values())
        return graph

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `seatrial.engines.base.Lane.infer`."""
        for name, pinned in self._pinned.items():
            if feeds[name].shape != tuple(pinned.shape):
                raise InvalidInput(f"the graph takes {pinned.shape}, got {feeds[name].shape}")
            pinned.numpy()[...] = feeds[name]
        with self._torch.cuda.stream(self._stream):
            for name, pinned in self._pinned.items():
                self._inputs[name].copy_(pinned, non_blocking=True)
            if self._graph is not None:
                self._graph.replay()
                answers = self._captured
            else:
                answers = self._forward(*self._inputs.values())
            for place, tensor in zip(self._answers, answers, strict=True):
                place.copy_(tensor, non_blocking=True)
        self._stream.synchronize()
        return {n: t.numpy() for n, t in zip(self._names, self._answers, strict=True)}

    def close(self) -> None:
        """Release the memory."""
        self._graph = None
        self._captured = ()
        self._pinned, self._inputs, self._answers = {}, {}, []
