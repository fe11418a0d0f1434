"""Giving layers back to float until the gate holds: which first, and what each one buys."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.progress import Progress
from seatrial.quantise.backend import Backend, Probe
from seatrial.quantise.calibration_images import CalibrationImages
from seatrial.quantise.report import Restored
from seatrial.quantise.workspace import Workspace

PICTURES = 8


class Sensitivity(msgspec.Struct, frozen=True):
    """What one layer's rounding does to the inputs of the head.

    Attributes:
        layer: Name of the convolution.
        error: What it adds to the error when it alone is in INT8, as a share of the error with all
            layers in INT8.
    """

    layer: str
    error: float


def rank(
    backend: Backend,
    quantised: Path,
    pictures: CalibrationImages,
    work: Workspace,
    on_progress: Progress,
) -> tuple[Sensitivity, ...]:
    """Measure what every layer costs when it alone is in INT8; the dearest first.

    The other way round, one layer in float among all the others in INT8, shows nothing where two
    layers spoil the same values: either must go, and neither helps alone. The error is taken
    where the head begins, at logits and box encodings: scores saturate, and hide there what they
    show on the next picture.

    Args:
        backend: Restores and probes.
        quantised: Folder of the graph, all layers before the head in INT8.
        pictures: The first few are looked at.
        work: Keeps each layer's result.
        on_progress: Told after each layer.
    """
    layers = backend.layers(quantised, work)
    wanted = _run(backend.probe(None, work), pictures)

    def error(folder: Path) -> float:
        found = _run(backend.probe(folder, work), pictures)
        return float(np.mean([_relative(f, w) for f, w in zip(found, wanted, strict=True)]))

    def error_with(rounded: set[str]) -> float:
        others = [layer for layer in layers if layer not in rounded]
        with tempfile.TemporaryDirectory(prefix=".part-", dir=work.path) as scratch:
            backend.restore(quantised, others, Path(scratch), work)
            return error(Path(scratch))

    whole = work.value("error-all", float, lambda: error(quantised))
    least = work.value("error-none", float, lambda: error_with(set()))
    found = []
    for done, layer in enumerate(layers, 1):
        alone = work.value(f"error-{done}", float, partial(error_with, {layer}))
        found.append(Sensitivity(layer, (alone - least) / whole if whole else 0.0))
        on_progress("measuring what each layer costs", done, len(layers))
    return tuple(sorted(found, key=lambda one: -one.error))


def restore_until(
    order: Sequence[Sensitivity],
    *,
    most: int,
    step: Callable[[tuple[str, ...], float], Restored],
    enough: Callable[[Restored], bool],
) -> tuple[Restored, ...]:
    """Restore layers one after the other until it is enough.

    Args:
        order: From `rank`.
        most: Layers at most.
        step: Given all layers to restore, and the error of the last: builds, measures.
        enough: Whether to stop.

    Returns:
        The steps that were taken.
    """
    steps: list[Restored] = []
    for count, one in enumerate(order[:most], 1):
        steps.append(step(tuple(o.layer for o in order[:count]), one.error))
        if enough(steps[-1]):
            break
    return tuple(steps)


def write_restored(
    backend: Backend, quantised: Path, layers: Sequence[str], work: Workspace
) -> Path:
    """The graph with these layers in float; gives the folder."""
    return work.folder(
        f"graph-restored-{len(layers)}",
        lambda target: backend.restore(quantised, layers, target, work),
    )


def copy_graph(folder: Path, target: Path) -> None:
    """Copy a graph's files into an existing folder."""
    for file in sorted(folder.iterdir()):
        shutil.copyfile(file, target / file.name)


def _run(probe: Probe, pictures: CalibrationImages) -> list[list[NDArray[Any]]]:
    return [probe(feeds) for feeds in pictures.feeds(PICTURES)]


def _relative(found: list[NDArray[Any]], wanted: list[NDArray[Any]]) -> float:
    """Mean over tensors of the squared error, as a share of the tensor's own variance."""
    shares = [
        float(((f - w) ** 2).mean() / max(float(w.var()), 1e-12))
        for f, w in zip(found, wanted, strict=True)
    ]
    return float(np.mean(shares))
