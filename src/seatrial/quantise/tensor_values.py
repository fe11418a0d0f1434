"""Histograms of the values that tensors of an ONNX graph take on calibration images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.errors import InvalidArtifact
from seatrial.progress import Progress
from seatrial.quantise.calibration_images import CalibrationImages
from seatrial.quantise.ranges import Histogram
from seatrial.quantise.workspace import Arrays, Workspace
from seatrial.system.extras import require
from seatrial.system.hardware import usable_cores

PURPOSE = "quantising ONNX graphs"


def session(model: Any, names: Sequence[str]) -> Any:
    """An ONNX Runtime session whose outputs include inner tensors of the model.

    Args:
        model: ``onnx.ModelProto``; not changed.
        names: Names of tensors, which become outputs.
    """
    ort = require("onnxruntime", extra="compress", purpose=PURPOSE)
    onnx = require("onnx", extra="compress", purpose=PURPOSE)
    open_model = type(model)()
    open_model.CopyFrom(model)
    have = {output.name for output in model.graph.output}
    open_model.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in have
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 4
    return ort.InferenceSession(
        open_model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def histograms(
    model: Any,
    names: Sequence[str],
    images: CalibrationImages,
    work: Workspace,
    on_progress: Progress,
) -> dict[str, Histogram]:
    """Histograms of tensors over all images, in two passes; one image is in memory at a time.

    Raises:
        InvalidArtifact: A tensor takes values that are NaN or infinite.
    """
    stored = work.arrays("histograms", lambda: _collect(model, names, images, on_progress))
    return {
        str(name): Histogram(float(low), float(high), counts)
        for name, low, high, counts in zip(
            stored["names"], stored["low"], stored["high"], stored["counts"], strict=True
        )
    }


def _collect(
    model: Any, names: Sequence[str], images: CalibrationImages, on_progress: Progress
) -> Arrays:
    opened = session(model, names)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for done, feeds in enumerate(images.feeds(), 1):
        values = opened.run(list(names), feeds)
        low = np.minimum(low, [value.min() for value in values])
        high = np.maximum(high, [value.max() for value in values])
        on_progress("finding the extremes of activations", done, len(images))
    _check_finite(names, low, high)
    found = [Histogram(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True)]
    for done, feeds in enumerate(images.feeds(), 1):
        for histogram, value in zip(found, opened.run(list(names), feeds), strict=True):
            histogram.add(value)
        on_progress("counting the values of activations", done, len(images))
    return {
        "names": np.array(names),
        "low": low,
        "high": high,
        "counts": np.stack([histogram.counts for histogram in found]),
    }


def _check_finite(
    names: Sequence[str], low: NDArray[np.float64], high: NDArray[np.float64]
) -> None:
    wrong = np.flatnonzero(~np.isfinite(low + high))
    if len(wrong):
        raise InvalidArtifact(
            f"{names[wrong[0]]} takes values that are not numbers (NaN or infinite), and "
            f"{len(wrong) - 1} more tensors with it",
            hint="the float32 model overflows on these images: see what it detects in them",
        )
