"""What the tests of engines compare with: the tiny detector, computed by hand."""

from __future__ import annotations

import numpy as np

from seatrial.engines.base import Engine

# With this seed no cell has two equal colours, between which runtimes may choose.
BATCH = np.random.default_rng(7).integers(0, 256, (1, 64, 64, 3), np.uint8)


def run(engine: Engine, batch: np.ndarray = BATCH) -> np.ndarray:
    (output,) = engine.narrow[0].infer({"image": batch}).values()
    return np.array(output)


def by_hand(batch: np.ndarray) -> np.ndarray:
    """The tiny detector in numpy: (1, 4 + 3, 64)."""
    cells = batch[0].reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) / 255  # rows, columns, channels
    scores = np.clip(1.5 * cells - 0.5 * cells.sum(-1, keepdims=True), 0, 1)
    y, x = np.mgrid[:8, :8] * 8 + 4
    boxes = np.stack([x, y, np.full_like(x, 16), np.full_like(x, 16)])
    return np.concatenate([boxes, scores.transpose(2, 0, 1)]).reshape(1, 7, 64)
