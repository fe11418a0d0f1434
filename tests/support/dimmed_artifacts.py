"""Versions of the tiny detector that find the same boxes with other confidences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from seatrial.artifact import Artifact, Store
from seatrial.models.import_onnx import import_onnx


def dimmed_artifact(
    build: Callable[..., Any], folder: Path, share: float, name: str, **variant: Any
) -> Artifact:
    """Import a tiny detector into ``folder / "store"``.

    Args:
        build: The fixture ``tiny_model``.
        folder: Takes the file and the store.
        share: Its confidences as a share of those of the tiny detector.
        name: Name of the artifact.
        variant: See `build`.
    """
    model = build(**variant)
    for tensor in model.graph.initializer:
        if tensor.name == "weights":
            weights = numpy_helper.to_array(tensor)
            tensor.CopyFrom(
                numpy_helper.from_array((weights * share).astype(weights.dtype), "weights")
            )
    file = folder / f"{name}.onnx"
    onnx.save(model, file)
    return import_onnx(Store(folder / "store"), file)
