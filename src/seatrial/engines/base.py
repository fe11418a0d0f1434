"""The contract of engines. They know nothing of images, boxes or HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec
from numpy.typing import NDArray

from seatrial.deployment import Precision
from seatrial.manifest import Manifest, TensorSpec

Arrays = Mapping[str, NDArray[Any]]


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options that an engine is opened with.

    Attributes:
        device: ``cpu`` or ``cuda``; an engine that cannot run there raises.
        precision: Numeric type to compute in.
        instances: Number of narrow lanes.
        threads: Number of threads of each narrow lane.
        wide_threads: Number of threads of the wide lane; 0 for no wide lane.
        max_batch: Most images that a narrow lane takes at once; the wide lane takes one.
    """

    device: str = "cpu"
    precision: Precision = "f32"
    instances: int = 1
    threads: int = 1
    wide_threads: int = 0
    max_batch: int = 1


class Lane(Protocol):
    """Runs a compiled graph for one request, or one batch of them, at a time; not thread-safe."""

    @property
    def threads(self) -> int:
        """Number of threads that compute one request."""

    @property
    def lends(self) -> bool:
        """Whether the arrays that `infer` gives are the lane's own, and change with its next call.

        False: they are the caller's.
        """

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Run the graph.

        Args:
            feeds: Input name -> array, C-contiguous, of the dtype and shape in `Engine.inputs`;
                of a narrow lane, the first size may be up to `EngineConfig.max_batch`.

        Returns:
            Output name -> array. Where the lane `lends`, it is valid until the lane's next call:
            copy what must outlive it.
        """


@runtime_checkable
class StoppableLane(Lane, Protocol):
    """A lane whose run can be ended from another thread."""

    def stop(self) -> None:
        """End the run under way, which raises; the lane runs no more."""


class Engine(Protocol):
    """One compiled graph as a set of lanes.

    Narrow lanes run side by side, each on its own threads: the layout with the highest throughput.
    The wide lane uses all threads for one request: the layout with the lowest latency. They share
    the cores, so the wide lane and a narrow lane must not run at the same time; see
    `seatrial.engines.lanes`.
    """

    @property
    def name(self) -> str:
        """Name in the table of engines."""

    @property
    def device(self) -> str:
        """Device as the runtime reports it, not as it was asked for."""

    @property
    def precision(self) -> str:
        """Numeric type as the runtime reports it, not as it was asked for."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs of the graph."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs of the graph."""

    @property
    def narrow(self) -> tuple[Lane, ...]:
        """The narrow lanes, at least one; none after `close`."""

    @property
    def wide(self) -> Lane | None:
        """The wide lane; None where none was asked for."""

    def properties(self) -> dict[str, str]:
        """Facts that the runtime reports: version, threads, streams; for reports."""

    def close(self) -> None:
        """Release the graph."""


@runtime_checkable
class RenewingEngine(Engine, Protocol):
    """An engine that can open a lane beside those that it has."""

    def renew(self, lane: Lane) -> Lane:
        """A lane of as many threads, which shares nothing that a stuck run may hold.

        Args:
            lane: The lane that it stands in for; it may still compute.
        """


def of_batch(shape: tuple[int, ...], size: int = 1) -> tuple[int, ...]:
    """Shape of a tensor for so many images: an open batch size (-1) becomes that."""
    return (size, *shape[1:]) if shape[:1] == (-1,) else shape


class EngineFactory(Protocol):
    """A class in the table of engines.

    Attributes:
        formats: Keys of ``Manifest.formats`` that the engine reads, the preferred one first.
    """

    formats: tuple[str, ...]

    def __call__(self, model: Path, manifest: Manifest, config: EngineConfig) -> Engine:
        """Compile a model file.

        Args:
            model: File in one of `formats`.
            manifest: Names, dtypes and shapes of the graph's inputs and outputs.
            config: Device, precision, lanes.

        Raises:
            MissingExtra: The runtime is not installed.
            DeviceUnavailable: It cannot run on the device or in the precision asked for.
            InvalidArtifact: The runtime does not read the file, or the manifest does not fit it.
        """
