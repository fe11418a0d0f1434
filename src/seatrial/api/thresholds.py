"""The thresholds of one call, for programs."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from seatrial.config import from_options
from seatrial.deployment import Thresholds


def changes(
    confidence: float | None, iou: float | None, max_detections: int | None
) -> dict[str, Any]:
    """The thresholds that a call gives, by name.

    Raises:
        InvalidConfig: One is out of its range.
    """
    given = {"confidence": confidence, "iou": iou, "max_detections": max_detections}
    plain = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in given.items()
        if value is not None
    }
    changed(Thresholds(), plain)
    return plain


def changed(default: Thresholds, plain: dict[str, Any]) -> Thresholds:
    """Thresholds with others in place of some.

    Raises:
        InvalidConfig: One is out of its range.
    """
    if not plain:
        return default
    return from_options({**msgspec.structs.asdict(default), **plain}, Thresholds)
