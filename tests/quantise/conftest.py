"""Workspaces and quantised graphs of the small detector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seatrial.artifact import Artifact
from seatrial.progress import silent
from seatrial.quantise.calibration_images import CalibrationImages, find_images
from seatrial.quantise.registry import open_backend
from seatrial.quantise.workspace import Workspace


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    (tmp_path / "work").mkdir()
    return Workspace(tmp_path / "work")


@pytest.fixture
def quantised(
    small: Callable[..., Artifact], scene: Path, work: Workspace
) -> Callable[..., tuple[Any, Path]]:
    """Quantises the small detector: the backend, and the folder of the graph."""

    def make(to: str, recipe: str | None = None, **variant: Any) -> tuple[Any, Path]:
        artifact, backend = small(**variant), open_backend(to)
        backend.prepare(artifact, work)
        images = CalibrationImages(find_images(scene)[:6], artifact.manifest)
        return backend, backend.quantise(recipe or backend.recipes[0], images, work, silent)

    return make
