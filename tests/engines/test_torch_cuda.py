"""The steps of a lane on a GPU, simulated on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from packages import Later, skip_without
from seatrial.artifact import Artifact
from seatrial.engines.torch_cuda import TorchCudaLane
from seatrial.errors import InvalidInput

torch, modules = Later("torch"), Later("tests.support.tiny_module")
BATCH = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), np.uint8)


class OnTheCpu:
    """PyTorch with its CUDA calls noted and done on the CPU: what a lane does, in which order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.memory: set[str] = set()
        self.cuda = self

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def zeros(self, size: Any, **options: Any) -> Any:
        pageable = "pinned" if options.get("pin_memory") else "pageable"
        self.memory.add(options.get("device", pageable))
        return torch.zeros(size, dtype=options["dtype"])

    empty = zeros

    def synchronize(self) -> None:
        self.done.append("synchronize")

    def Stream(self) -> OnTheCpu:  # noqa: N802
        return self

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        yield

    def CUDAGraph(self) -> OnTheCpu:  # noqa: N802
        return self

    @contextlib.contextmanager
    def graph(self, graph: Any, **options: Any) -> Iterator[None]:
        assert options["capture_error_mode"] == "thread_local"
        self.done.append("capture")
        yield

    def replay(self) -> None:
        self.done.append("replay")
        self.again()


@pytest.mark.parametrize("capture", [False, True])
def test_what_a_lane_on_a_gpu_does(tiny_artifact: Artifact, capture: bool) -> None:
    """Simulated: no CUDA call is made."""
    skip_without("torch", extra="torch")
    simulated, manifest, runs = OnTheCpu(), tiny_artifact.manifest, []
    graph = modules.Tiny().eval()

    def forward(image: Any) -> tuple[Any, ...]:
        runs.append(image)
        assert simulated.done[:1] == ["synchronize"]  # the zeros are written
        with torch.no_grad():
            return (graph(image),)

    lane = TorchCudaLane(simulated, forward, manifest.inputs, manifest.outputs, capture)
    warmed = len(runs)
    assert simulated.memory == {"cuda", "pinned"}  # copies to and from pinned memory are direct
    assert simulated.done[-1] == ("capture" if capture else "synchronize")
    # A replay computes from and to the very memory that it was captured with.
    simulated.again = lambda: lane._captured[0].copy_(graph(runs[-1]).detach())
    for picture in (BATCH, 255 - BATCH):
        answer = lane.infer({"image": picture})["output0"]
        expected = graph(torch.from_numpy(picture)).detach().numpy()
        np.testing.assert_allclose(answer, expected, atol=1e-6)
        assert simulated.done[-1] == "synchronize"
    assert len(runs) - warmed == (0 if capture else 2)
    assert len({image.data_ptr() for image in runs}) == 1
    with pytest.raises(InvalidInput, match="got"):
        lane.infer({"image": BATCH[:, :32]})
    lane.close()
