"""The protocol of a backend of quantisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from seatrial.artifact import Artifact
from seatrial.progress import Progress
from seatrial.quantise.calibration_images import CalibrationImages, Feeds
from seatrial.quantise.float_part import Head
from seatrial.quantise.workspace import Workspace

Probe = Callable[[Feeds], list[NDArray[Any]]]
"""Runs a graph on one image; returns the tensors that its head reads, in a fixed order."""


class Backend(Protocol):
    """Quantises graphs of one format.

    Graphs lie in folders, since some formats take several files; `file` is the one to open.
    """

    engine: str  # name, in the engine table, of the engine that compares parent and child
    format: str  # key of Manifest.formats
    file: str
    recipes: tuple[str, ...]  # ways of quantising, the simplest first
    deployed_here: bool  # whether the result is for `engine`

    def config(self) -> dict[str, Any]:
        """Presets, types and kind of CPU that determine the result, for the manifest."""

    def versions(self) -> tuple[str, ...]:
        """Names of the packages whose versions determine the result."""

    def prepare(self, parent: Artifact, work: Workspace) -> Head:
        """Write the float graph that quantisation and restoring start from; returns its head.

        Raises:
            InvalidArtifact: The parent has no graph that can be quantised.
            MissingExtra: A package is not installed.
        """

    def quantise(
        self, recipe: str, images: CalibrationImages, work: Workspace, on_progress: Progress
    ) -> Path:
        """Quantise the float graph; returns its folder."""

    def layers(self, folder: Path, work: Workspace) -> tuple[str, ...]:
        """Names of the convolutions that compute in INT8, in the order of the graph."""

    def restore(self, folder: Path, layers: Sequence[str], target: Path, work: Workspace) -> None:
        """Write a graph to the existing folder `target` with these layers in float again."""

    def accepted(self, folder: Path) -> str:
        """Try a graph in the target engine, where that is not `engine`; returns a note.

        Raises:
            InvalidArtifact: The target engine refuses the graph.
        """

    def probe(self, folder: Path | None, work: Workspace) -> Probe:
        """Open a graph at the inputs of its head; None: the float graph."""
