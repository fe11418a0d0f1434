"""Backgrounds of one grey each, for rendered digits."""

from __future__ import annotations

import numpy as np

from seatrial.datasets.digits import Background


def greys(count: int = 6) -> list[Background]:
    """Backgrounds of one grey each; two of each group."""
    return [
        Background(f"{n}.png", str(n // 2), np.full((80 + n, 120, 3), 60 + 20 * n, np.uint8))
        for n in range(count)
    ]
