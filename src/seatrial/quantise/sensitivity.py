"""Which layers cost most in INT8: those are given back to float first."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.progress import Progress
from seatrial.quantise.backend import Backend, Probe
from seatrial.quantise.calibration_images import CalibrationImages
from seatrial.quantise.workspace import Workspace

IMAGES = 8


class Sensitivity(msgspec.Struct, frozen=True):
    """Effect of one layer's rounding on the inputs of the head.

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
    images: CalibrationImages,
    work: Workspace,
    on_progress: Progress,
) -> tuple[Sensitivity, ...]:
    """Measure what every layer costs when it alone is in INT8; the most costly first.

    The other way round, one layer in float among all the others in INT8, shows nothing where two
    layers spoil the same values: both must go, and neither helps alone. The error is taken where
    the head begins, at logits and box encodings: scores saturate, and hide errors there that they
    show on the next image.

    Args:
        backend: Restores layers and opens graphs.
        quantised: Folder of the graph, all layers before the head in INT8.
        images: The first `IMAGES` of them are run.
        work: Keeps each layer's result.
        on_progress: Called after each layer.
    """
    layers = backend.layers(quantised, work)
    wanted = _run(backend.probe(None, work), images)

    def error(folder: Path) -> float:
        found = _run(backend.probe(folder, work), images)
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


def _run(probe: Probe, images: CalibrationImages) -> list[list[NDArray[Any]]]:
    return [probe(feeds) for feeds in images.feeds(IMAGES)]


def _relative(found: list[NDArray[Any]], wanted: list[NDArray[Any]]) -> float:
    """Mean over tensors of the squared error, as a share of the tensor's own variance."""
    shares = [
        float(((f - w) ** 2).mean() / max(float(w.var()), 1e-12))
        for f, w in zip(found, wanted, strict=True)
    ]
    return float(np.mean(shares))
